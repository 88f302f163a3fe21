-- Find the tenants of alerts by their ids. No tenant: the query returns it.
-- $1 id uuid[]

SELECT
    asked.place,
    alerts.tenant_id
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, place)
JOIN alerts ON alerts.id = asked.id;
