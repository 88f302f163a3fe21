-- Record a new alert.
-- $1 tenant_id uuid
-- $2 rule_name text
-- $3 message text
-- $4 severity text

INSERT INTO alerts (
    tenant_id,
    rule_name,
    message,
    severity
)
VALUES (
    $1::uuid,
    $2::text,
    $3::text,
    $4::text
)
RETURNING
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
    resolution_note;
