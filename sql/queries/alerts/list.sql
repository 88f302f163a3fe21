-- One page of a tenant's alerts, newest first, from behind the cursor's alert on.
-- $1 tenant_id uuid
-- $2 status text?
-- $3 severity text?
-- $4 before_created_at timestamptz?
-- $5 before_id uuid?
-- $6 count int4

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
WHERE tenant_id = $1::uuid
    AND ($2::text IS NULL OR status = $2::text)
    AND ($3::text IS NULL OR severity = $3::text)
    AND ($4::timestamptz IS NULL OR (created_at, id) < ($4::timestamptz, $5::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $6::int4;
