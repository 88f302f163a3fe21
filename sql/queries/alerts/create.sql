-- Create alerts without a dedup_key, each with its first event.
-- $1 id uuid[]
-- $2 tenant_id uuid[]
-- $3 rule_name text[]
-- $4 message text[]
-- $5 severity text[]
-- $6 actor text[]
-- $7 request_id text[]?

WITH input AS MATERIALIZED (
    SELECT
        batch_index,
        id,
        tenant_id,
        rule_name,
        message,
        severity,
        actor,
        request_id
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        WITH ORDINALITY AS input (id, tenant_id, rule_name, message, severity, actor, request_id, batch_index)
),
new_alerts AS (
    INSERT INTO alerts (
        id,
        tenant_id,
        rule_name,
        message,
        severity,
        status,
        created_at,
        updated_at
    )
    SELECT
        id,
        tenant_id,
        rule_name,
        message,
        severity,
        'triggered',
        now(),
        now()
    FROM input
),
events AS (
    INSERT INTO alert_events (
        alert_id,
        sequence,
        tenant_id,
        type,
        to_status,
        actor,
        request_id,
        occurred_at
    )
    SELECT
        id,
        1,
        tenant_id,
        'created',
        'triggered',
        actor,
        request_id,
        now()
    FROM input
),
counters AS (
    INSERT INTO alert_counts (
        tenant_id,
        lane,
        triggered
    )
    SELECT
        tenant_id,
        count_lane(),
        count(*)
    FROM input
    GROUP BY tenant_id
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET triggered = alert_counts.triggered + excluded.triggered
)
SELECT
    batch_index,
    rfc3339(now()) AS created_at
FROM input;
