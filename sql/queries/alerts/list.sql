-- Return pages of tenants' alerts, newest first: up to 50 alerts as JSON, and the position of the last alert if more
-- alerts follow.
-- If one of the up to 51 alerts has more than 4,000 bytes of text, alerts is null; alerts/search then returns the page.
-- status and severity contain one or several distinct values, separated by commas.
-- A page without status, severity and rule_name is one index range. Another page is merged from one index range for
-- each pair of status and severity that the filter accepts. At most 51 rows of a range are read.
-- $1 tenant_id uuid[]
-- $2 status text[]?
-- $3 severity text[]?
-- $4 created_after timestamptz[]?
-- $5 created_before timestamptz[]?
-- $6 before_created_at timestamptz[]?
-- $7 before_id uuid[]?
-- $8 rule_name text[]?

SELECT
    input.batch_index,
    page.alerts,
    page.last_created_at,
    page.last_id
FROM (
    SELECT
        batch_index,
        tenant_id,
        status,
        severity,
        coalesce(created_after, '-infinity') AS created_after,
        coalesce(least(before_created_at, created_before), 'infinity') AS before_created_at,
        -- created_before is exclusive: the lowest id admits no alert of that time. Without a cursor, the highest id
        -- admits all alerts.
        CASE
            WHEN created_before <= coalesce(before_created_at, 'infinity') THEN '00000000-0000-0000-0000-000000000000'
            ELSE coalesce(before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        END AS before_id,
        rule_name
    FROM unnest(
        $1::uuid[],
        $2::text[],
        $3::text[],
        $4::timestamptz[],
        $5::timestamptz[],
        $6::timestamptz[],
        $7::uuid[],
        $8::text[]
    ) WITH ORDINALITY AS input (
        tenant_id,
        status,
        severity,
        created_after,
        created_before,
        before_created_at,
        before_id,
        rule_name,
        batch_index
    )
) AS input
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN count(alert) = count(*)
                THEN convert_to(alerts_json((array_agg(alert))[:50], (array_agg(occurrence_fields))[:50]), 'UTF8')
        END AS alerts,
        CASE WHEN count(*) > 50 THEN (array_agg(created_at))[50] END AS last_created_at,
        CASE WHEN count(*) > 50 THEN (array_agg(id))[50] END AS last_id
    FROM (
        (
            SELECT
                created_at,
                id,
                CASE WHEN text_bytes(alerts) <= 4000 THEN alert_fields(alerts) END AS alert,
                occurrence_fields(alerts) AS occurrence_fields
            FROM alerts
            WHERE input.status IS NULL
                AND input.severity IS NULL
                AND input.rule_name IS NULL
                AND tenant_id = input.tenant_id
                AND created_at >= input.created_after
                AND (created_at, id) < (input.before_created_at, input.before_id)
                AND severity >= '' -- selects idx_alerts_tenant_id
            ORDER BY created_at DESC, id DESC
            LIMIT 51
        )
        UNION ALL
        SELECT
            index_range.created_at,
            index_range.id,
            index_range.alert,
            index_range.occurrence_fields
        FROM unnest(
            -- null, and so no row, for a page without status, severity and rule_name
            CASE
                WHEN input.status IS NOT NULL THEN string_to_array(input.status, ',')
                WHEN input.severity IS NOT NULL OR input.rule_name IS NOT NULL
                    THEN ARRAY['triggered', 'acknowledged', 'resolved']
            END
        ) AS statuses (status)
        CROSS JOIN unnest(
            string_to_array(coalesce(input.severity, 'low,medium,high,critical'), ',')
        ) AS severities (severity)
        CROSS JOIN LATERAL (
            (
                SELECT
                    created_at,
                    id,
                    CASE WHEN text_bytes(alerts) <= 4000 THEN alert_fields(alerts) END AS alert,
                    occurrence_fields(alerts) AS occurrence_fields
                FROM alerts
                WHERE input.rule_name IS NULL
                    AND tenant_id = input.tenant_id
                    AND status = statuses.status
                    AND severity = severities.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND status >= '' -- selects idx_alerts_status
                ORDER BY created_at DESC, id DESC
                LIMIT 51
            )
            UNION ALL
            (
                SELECT
                    created_at,
                    id,
                    CASE WHEN text_bytes(alerts) <= 4000 THEN alert_fields(alerts) END AS alert,
                    occurrence_fields(alerts) AS occurrence_fields
                FROM alerts
                WHERE tenant_id = input.tenant_id
                    AND rule_name = input.rule_name
                    AND status = statuses.status
                    AND severity = severities.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND rule_name >= '' -- selects idx_alerts_rule_name
                ORDER BY created_at DESC, id DESC
                LIMIT 51
            )
        ) AS index_range
        ORDER BY created_at DESC, id DESC
        LIMIT 51
    ) AS newest
) AS page;
