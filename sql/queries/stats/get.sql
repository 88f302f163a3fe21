-- Count tenants' alerts, in all and by status.
-- $1 tenant_id uuid[]

SELECT
    asked.place,
    counted.total,
    counted.triggered,
    counted.acknowledged,
    counted.resolved
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (tenant_id, place)
CROSS JOIN LATERAL (
    SELECT
        count(*) AS total,
        count(*) FILTER (WHERE status = 'triggered') AS triggered,
        count(*) FILTER (WHERE status = 'acknowledged') AS acknowledged,
        count(*) FILTER (WHERE status = 'resolved') AS resolved
    FROM alerts
    WHERE alerts.tenant_id = asked.tenant_id
) AS counted;
