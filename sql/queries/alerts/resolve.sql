-- Resolve alerts that are not resolved yet. No row: there is no such alert for this tenant, or it is resolved.
-- The condition stands in the UPDATE, so of racing callers exactly one finds it true.
-- $1 id uuid[]
-- $2 tenant_id uuid[]?
-- $3 note text[]?

UPDATE alerts
SET status = 'resolved',
    resolved_at = greatest(now(), alerts.updated_at),
    resolution_note = asked.note,
    updated_at = greatest(now(), alerts.updated_at)
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY AS asked (id, tenant_id, note, place)
WHERE alerts.id = asked.id
    AND (asked.tenant_id IS NULL OR alerts.tenant_id = asked.tenant_id)
    AND alerts.status IN ('triggered', 'acknowledged')
RETURNING
    asked.place,
    alerts.id,
    alerts.tenant_id,
    alerts.rule_name,
    alerts.message,
    alerts.severity,
    alerts.status,
    alerts.created_at,
    alerts.updated_at,
    alerts.acknowledged_at,
    alerts.acknowledgment_note,
    alerts.resolved_at,
    alerts.resolution_note;
