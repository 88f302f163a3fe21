-- Create alerts with a dedup_key, or count each as an occurrence of the tenant's open alert with that key.
-- Duplicates within a batch are merged first, in the order of batch_index, and all of them return the merged alert. The
-- alert is new for the call whose id it has.
-- An occurrence can raise the severity but not lower it. If the severity rises, the alert becomes triggered again.
-- Open alerts are locked in the order of their ids, before new alerts are inserted. See sql/README.md, "Concurrency".
-- clock_timestamp() is evaluated for each row after the sort, when the row is inserted. An earlier row may have waited
-- for a lock, and created_at of a new alert must be later than resolved_at of the previous alert with its key.
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
        row_number() OVER in_order AS occurrence_number,
        count(*) OVER duplicates AS occurrence_count,
        first_value(severity) OVER (duplicates ORDER BY severity_rank(severity) DESC) AS highest_severity,
        max(severity_rank(severity)) OVER (in_order ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier_rank
    FROM unnest(
        $1::uuid[],
        $2::uuid[],
        $3::text[],
        $4::text[],
        $5::text[],
        $6::text[],
        $7::text[],
        $8::text[]
    ) WITH ORDINALITY AS input (
        id,
        tenant_id,
        rule_name,
        message,
        severity,
        dedup_key,
        actor,
        request_id,
        batch_index
    )
    WINDOW duplicates AS (PARTITION BY tenant_id, dedup_key), in_order AS (duplicates ORDER BY batch_index)
),
upserted AS (
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
        occurrence_count,
        dedup_key,
        occurrence_count,
        seen_at
    FROM (
        SELECT
            id,
            tenant_id,
            rule_name,
            message,
            highest_severity,
            occurrence_count,
            dedup_key,
            clock_timestamp() AS seen_at
        FROM input
        WHERE occurrence_number = 1
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
    ) AS first_occurrences
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
occurrence_events AS (
    SELECT
        upserted.id,
        upserted.version - input.occurrence_count + input.occurrence_number AS sequence,
        upserted.tenant_id,
        CASE
            WHEN input.earlier_rank > coalesce(severity_rank(upserted.previous_severity), 0) THEN 'triggered'
            ELSE upserted.previous_status
        END AS from_status,
        severity_rank(input.severity)
            > greatest(input.earlier_rank, severity_rank(upserted.previous_severity), 0) AS severity_rises,
        input.message,
        input.actor,
        input.request_id,
        upserted.updated_at
    FROM input
    JOIN upserted USING (tenant_id, dedup_key)
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
        sequence,
        tenant_id,
        CASE
            WHEN from_status IS NULL THEN 'created'
            WHEN severity_rises THEN 'escalated'
            ELSE 'repeated'
        END,
        from_status,
        CASE WHEN severity_rises THEN 'triggered' ELSE from_status END,
        CASE WHEN from_status IS NOT NULL THEN message END,
        actor,
        request_id,
        updated_at
    FROM occurrence_events
),
counters AS (
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
    FROM upserted
    WHERE status IS DISTINCT FROM previous_status
    GROUP BY tenant_id
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET triggered = alert_counts.triggered + excluded.triggered,
        acknowledged = alert_counts.acknowledged + excluded.acknowledged
)
SELECT
    input.batch_index,
    upserted.id,
    upserted.tenant_id,
    upserted.rule_name,
    upserted.message,
    upserted.severity,
    upserted.status,
    rfc3339(upserted.created_at) AS created_at,
    rfc3339(upserted.updated_at) AS updated_at,
    rfc3339(upserted.acknowledged_at) AS acknowledged_at,
    upserted.acknowledgment_note,
    rfc3339(upserted.resolved_at) AS resolved_at,
    upserted.resolution_note,
    upserted.dedup_key,
    upserted.occurrences,
    rfc3339(upserted.created_at) AS first_seen_at,
    rfc3339(upserted.last_seen_at) AS last_seen_at
FROM input
JOIN upserted USING (tenant_id, dedup_key);
