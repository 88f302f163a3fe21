-- Find one alert, if it is this tenant's. The tenant is null where the caller named none.
-- $1 id uuid
-- $2 tenant_id uuid?

SELECT
    id,
    tenant_id,
    rule_name,
    message,
    severity,
    status,
    created_at,
    updated_at,
    acknowledged_at,
    acknowledgment_note,
    resolved_at,
    resolution_note
FROM alerts
WHERE id = $1::uuid
    AND ($2::uuid IS NULL OR tenant_id = $2::uuid);
