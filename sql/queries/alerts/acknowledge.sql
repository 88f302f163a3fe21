-- Acknowledge an alert that is still triggered. No row: there is no such alert for this tenant, or it has moved on.
-- The condition stands in the UPDATE, so of racing callers exactly one finds it true.
-- $1 id uuid
-- $2 tenant_id uuid?
-- $3 note text?

UPDATE alerts
SET status = 'acknowledged',
    acknowledged_at = greatest(now(), updated_at),
    acknowledgment_note = $3::text,
    updated_at = greatest(now(), updated_at)
WHERE id = $1::uuid
    AND ($2::uuid IS NULL OR tenant_id = $2::uuid)
    AND status = 'triggered'
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
