-- Record new alerts, a row for each of the arrays' places, and count them.
-- $1 id uuid[]
-- $2 tenant_id uuid[]
-- $3 rule_name text[]
-- $4 message text[]
-- $5 severity text[]

WITH asked AS MATERIALIZED (
    SELECT
        place,
        id,
        tenant_id,
        rule_name,
        message,
        severity
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
        WITH ORDINALITY AS asked (id, tenant_id, rule_name, message, severity, place)
),
recorded AS (
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
    FROM asked
),
counted AS (
    INSERT INTO alert_counts (
        tenant_id,
        lane,
        triggered
    )
    SELECT
        tenant_id,
        count_lane(),
        count(*)
    FROM asked
    GROUP BY tenant_id
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET triggered = alert_counts.triggered + excluded.triggered
)
SELECT
    place,
    rfc3339(now()) AS created_at
FROM asked;
