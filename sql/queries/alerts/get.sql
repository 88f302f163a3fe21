-- Return alerts by id.
-- No row: the alert does not exist, or tenant_id is given and the alert belongs to another tenant.
-- $1 id uuid[]
-- $2 tenant_id uuid[]?

SELECT
    input.batch_index,
    alerts.id,
    alerts.tenant_id,
    alerts.rule_name,
    alerts.message,
    alerts.severity,
    alerts.status,
    rfc3339(alerts.created_at) AS created_at,
    rfc3339(alerts.updated_at) AS updated_at,
    rfc3339(alerts.acknowledged_at) AS acknowledged_at,
    alerts.acknowledgment_note,
    rfc3339(alerts.resolved_at) AS resolved_at,
    alerts.resolution_note,
    alerts.dedup_key,
    alerts.occurrences,
    CASE WHEN alerts.dedup_key IS NOT NULL THEN rfc3339(alerts.created_at) END AS first_seen_at,
    rfc3339(alerts.last_seen_at) AS last_seen_at
FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS input (id, tenant_id, batch_index)
JOIN alerts ON alerts.id = input.id
WHERE input.tenant_id IS NULL OR alerts.tenant_id = input.tenant_id;
