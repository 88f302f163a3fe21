-- Resolve an alert that is not resolved yet. No row: there is no such alert for this tenant, or it is resolved.
-- The condition stands in the UPDATE, so of racing callers exactly one finds it true.
-- $1 id uuid
-- $2 tenant_id uuid?
-- $3 note text?

UPDATE alerts
SET status = 'resolved',
    resolved_at = greatest(now(), updated_at),
    resolution_note = $3::text,
    updated_at = greatest(now(), updated_at)
WHERE id = $1::uuid
    AND ($2::uuid IS NULL OR tenant_id = $2::uuid)
    AND status IN ('triggered', 'acknowledged')
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
