-- Return the tenants of alerts by id.
-- No tenant: the statement returns the tenant.
-- $1 id uuid[]

SELECT
    input.batch_index,
    alerts.tenant_id
FROM unnest($1::uuid[]) WITH ORDINALITY AS input (id, batch_index)
JOIN alerts ON alerts.id = input.id;
