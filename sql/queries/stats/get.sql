-- Count a tenant's alerts, in all and by status.
-- $1 tenant_id uuid

SELECT
    count(*) AS total,
    count(*) FILTER (WHERE status = 'triggered') AS triggered,
    count(*) FILTER (WHERE status = 'acknowledged') AS acknowledged,
    count(*) FILTER (WHERE status = 'resolved') AS resolved
FROM alerts
WHERE tenant_id = $1::uuid;
