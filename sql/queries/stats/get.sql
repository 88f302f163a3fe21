-- Count tenants' alerts, in all and by status.
-- $1 tenant_id uuid[]

SELECT
    asked.place,
    count(alerts.id) AS total,
    count(*) FILTER (WHERE alerts.status = 'triggered') AS triggered,
    count(*) FILTER (WHERE alerts.status = 'acknowledged') AS acknowledged,
    count(*) FILTER (WHERE alerts.status = 'resolved') AS resolved
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (tenant_id, place)
LEFT JOIN alerts ON alerts.tenant_id = asked.tenant_id
GROUP BY asked.place;
