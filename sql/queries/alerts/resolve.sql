-- Resolve alerts that are triggered or acknowledged.
-- No row: the tenant has no such alert, the alert is resolved, or if_match does not contain the alert's ETag.
-- Each transition appends an event. Locks and conditions: sql/README.md, "Concurrency".
-- $1 id uuid[]
-- $2 tenant_id uuid[]?
-- $3 note text[]?
-- $4 if_match text[]?
-- $5 actor text[]
-- $6 request_id text[]?

WITH input AS MATERIALIZED (
    SELECT
        batch_index,
        id,
        tenant_id,
        note,
        if_match,
        actor,
        request_id
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
        WITH ORDINALITY AS input (id, tenant_id, note, if_match, actor, request_id, batch_index)
    ORDER BY id
),
resolved AS (
    UPDATE alerts
    SET status = 'resolved',
        resolved_at = greatest(now(), alerts.updated_at + interval '1 microsecond'),
        resolution_note = input.note,
        updated_at = greatest(now(), alerts.updated_at + interval '1 microsecond'),
        version = alerts.version + 1
    FROM input
    WHERE alerts.id = input.id
        AND (input.tenant_id IS NULL OR alerts.tenant_id = input.tenant_id)
        AND alerts.resolved_at IS NULL
        AND (input.if_match IS NULL OR strpos(input.if_match, '"' || rfc3339(alerts.updated_at) || '"') > 0)
    RETURNING
        input.batch_index,
        input.actor,
        input.request_id,
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
        alerts.resolution_note,
        alerts.version,
        alerts.dedup_key,
        alerts.occurrences,
        alerts.last_seen_at
),
events AS (
    INSERT INTO alert_events (
        alert_id,
        sequence,
        tenant_id,
        type,
        from_status,
        to_status,
        note,
        actor,
        request_id,
        occurred_at
    )
    SELECT
        id,
        version,
        tenant_id,
        status,
        CASE WHEN acknowledged_at IS NULL THEN 'triggered' ELSE 'acknowledged' END,
        status,
        resolution_note,
        actor,
        request_id,
        updated_at
    FROM resolved
),
counters AS (
    INSERT INTO alert_counts (
        tenant_id,
        lane,
        triggered,
        acknowledged,
        resolved
    )
    SELECT
        tenant_id,
        count_lane(),
        -count(*) FILTER (WHERE acknowledged_at IS NULL),
        -count(*) FILTER (WHERE acknowledged_at IS NOT NULL),
        count(*)
    FROM resolved
    GROUP BY tenant_id
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET triggered = alert_counts.triggered + excluded.triggered,
        acknowledged = alert_counts.acknowledged + excluded.acknowledged,
        resolved = alert_counts.resolved + excluded.resolved
)
SELECT
    batch_index,
    id,
    tenant_id,
    rule_name,
    message,
    severity,
    status,
    rfc3339(created_at) AS created_at,
    rfc3339(updated_at) AS updated_at,
    rfc3339(acknowledged_at) AS acknowledged_at,
    acknowledgment_note,
    rfc3339(resolved_at) AS resolved_at,
    resolution_note,
    dedup_key,
    occurrences,
    CASE WHEN dedup_key IS NOT NULL THEN rfc3339(created_at) END AS first_seen_at,
    rfc3339(last_seen_at) AS last_seen_at
FROM resolved;
