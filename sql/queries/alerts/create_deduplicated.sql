-- Record alerts with a key, or count each as an occurrence of its tenant's open alert of that key. Each is an event.
-- Those of one key are merged first, in the order of their places; all of them get the alert as it stands in the end,
-- and it is a new one for the call whose id it has. A repeat raises the severity at most, and only then undoes an
-- acknowledgment. Open alerts are locked in the order of their ids, as all changes lock them, and new ones come behind.
-- clock_timestamp() is evaluated for each row behind the sort, as the row is inserted. An earlier row may have waited for
-- a lock, and a new alert must begin after the previous alert of its key was resolved.
-- $1 id uuid[]
-- $2 tenant_id uuid[]
-- $3 rule_name text[]
-- $4 message text[]
-- $5 severity text[]
-- $6 dedup_key text[]
-- $7 actor text[]
-- $8 request_id text[]?

WITH input AS MATERIALIZED (
    SELECT
        batch_index,
        id,
        tenant_id,
        rule_name,
        message,
        severity,
        dedup_key,
        actor,
        request_id,
        row_number() OVER key AS number,
        count(*) OVER whole_key AS size,
        first_value(severity) OVER (whole_key ORDER BY severity_rank(severity) DESC) AS highest_severity,
        max(severity_rank(severity)) OVER (key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS rank_before
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
        WITH ORDINALITY AS input (id, tenant_id, rule_name, message, severity, dedup_key, actor, request_id, batch_index)
    WINDOW whole_key AS (PARTITION BY tenant_id, dedup_key), key AS (whole_key ORDER BY batch_index)
),
merged AS (
    INSERT INTO alerts (
        id,
        tenant_id,
        rule_name,
        message,
        severity,
        status,
        created_at,
        updated_at,
        version,
        dedup_key,
        occurrences,
        last_seen_at
    )
    SELECT
        id,
        tenant_id,
        rule_name,
        message,
        highest_severity,
        'triggered',
        seen_at,
        seen_at,
        size,
        dedup_key,
        size,
        seen_at
    FROM (
        SELECT
            id,
            tenant_id,
            rule_name,
            message,
            highest_severity,
            size,
            dedup_key,
            clock_timestamp() AS seen_at
        FROM input
        WHERE number = 1
        ORDER BY
            (
                SELECT alerts.id
                FROM alerts
                WHERE alerts.tenant_id = input.tenant_id
                    AND alerts.dedup_key = input.dedup_key
                    AND alerts.status <> 'resolved'
            ),
            tenant_id,
            dedup_key
    ) AS first
    ON CONFLICT (tenant_id, dedup_key) WHERE dedup_key IS NOT NULL AND status <> 'resolved' DO UPDATE
    SET severity = CASE
            WHEN severity_rank(excluded.severity) > severity_rank(alerts.severity) THEN excluded.severity
            ELSE alerts.severity
        END,
        status = CASE
            WHEN severity_rank(excluded.severity) > severity_rank(alerts.severity) THEN 'triggered'
            ELSE alerts.status
        END,
        acknowledged_at = CASE
            WHEN severity_rank(excluded.severity) <= severity_rank(alerts.severity) THEN alerts.acknowledged_at
        END,
        acknowledgment_note = CASE
            WHEN severity_rank(excluded.severity) <= severity_rank(alerts.severity) THEN alerts.acknowledgment_note
        END,
        updated_at = greatest(excluded.updated_at, alerts.updated_at + interval '1 microsecond'),
        last_seen_at = greatest(excluded.updated_at, alerts.updated_at + interval '1 microsecond'),
        version = alerts.version + excluded.version,
        occurrences = alerts.occurrences + excluded.occurrences,
        previous_status = alerts.status,
        previous_severity = alerts.severity
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
        resolution_note,
        version,
        dedup_key,
        occurrences,
        last_seen_at,
        previous_status,
        previous_severity
),
told AS (
    SELECT
        merged.id,
        merged.version - input.size + input.number AS sequence,
        merged.tenant_id,
        CASE
            WHEN input.rank_before > coalesce(severity_rank(merged.previous_severity), 0) THEN 'triggered'
            ELSE merged.previous_status
        END AS from_status,
        severity_rank(input.severity)
            > greatest(input.rank_before, severity_rank(merged.previous_severity), 0) AS rises,
        input.message,
        input.actor,
        input.request_id,
        merged.updated_at
    FROM input
    JOIN merged USING (tenant_id, dedup_key)
),
logged AS (
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
        sequence,
        tenant_id,
        CASE
            WHEN from_status IS NULL THEN 'created'
            WHEN rises THEN 'escalated'
            ELSE 'repeated'
        END,
        from_status,
        CASE WHEN rises THEN 'triggered' ELSE from_status END,
        CASE WHEN from_status IS NOT NULL THEN message END,
        actor,
        request_id,
        updated_at
    FROM told
),
counted AS (
    INSERT INTO alert_counts (
        tenant_id,
        lane,
        triggered,
        acknowledged
    )
    SELECT
        tenant_id,
        count_lane(),
        count(*),
        -count(previous_status)
    FROM merged
    WHERE status IS DISTINCT FROM previous_status
    GROUP BY tenant_id
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET triggered = alert_counts.triggered + excluded.triggered,
        acknowledged = alert_counts.acknowledged + excluded.acknowledged
)
SELECT
    input.batch_index,
    merged.id,
    merged.tenant_id,
    merged.rule_name,
    merged.message,
    merged.severity,
    merged.status,
    rfc3339(merged.created_at) AS created_at,
    rfc3339(merged.updated_at) AS updated_at,
    rfc3339(merged.acknowledged_at) AS acknowledged_at,
    merged.acknowledgment_note,
    rfc3339(merged.resolved_at) AS resolved_at,
    merged.resolution_note,
    merged.dedup_key,
    merged.occurrences,
    rfc3339(merged.created_at) AS first_seen_at,
    rfc3339(merged.last_seen_at) AS last_seen_at
FROM input
JOIN merged USING (tenant_id, dedup_key);
