-- Return pages of tenants' alerts that contain words or long texts, in the order and with the cursor of alerts/list.
-- A page has at most 50 alerts, and ends at the alert that reaches 1 MB of text.
-- With a pattern, a page examines the next 1,000 alerts that pass the other filters, or 200 kB of their messages. If
-- terms exceeds 8, fewer alerts are examined, as the cost of a regular expression grows with its terms. The pattern is
-- compared with the rule name and the first 10,000 characters of the message. The page contains the matching alerts,
-- and can be empty. Its position is that of the last examined alert.
-- Candidates are read from the indexes alone. Texts are then read by id, each in a subquery with LIMIT 1. Without this
-- limit the planner may read all alerts of the tenant.
-- $1 tenant_id uuid[]
-- $2 status text[]?
-- $3 severity text[]?
-- $4 created_after timestamptz[]?
-- $5 created_before timestamptz[]?
-- $6 before_created_at timestamptz[]?
-- $7 before_id uuid[]?
-- $8 rule_name text[]?
-- $9 pattern text[]?
-- $10 terms int4[]?

WITH input AS MATERIALIZED (
    SELECT
        batch_index,
        tenant_id,
        status IS NULL AND severity IS NULL AS unfiltered,
        string_to_array(coalesce(status, 'triggered,acknowledged,resolved'), ',') AS statuses,
        string_to_array(coalesce(severity, 'low,medium,high,critical'), ',') AS severities,
        rule_name,
        pattern,
        CASE WHEN pattern IS NULL THEN 51 ELSE 1 + 8000 / greatest(terms, 8) END AS candidate_limit,
        1600000 / greatest(terms, 8) AS message_bytes_limit,
        coalesce(created_after, '-infinity') AS created_after,
        coalesce(least(before_created_at, created_before), 'infinity') AS before_created_at,
        CASE
            WHEN created_before <= coalesce(before_created_at, 'infinity') THEN '00000000-0000-0000-0000-000000000000'
            ELSE coalesce(before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        END AS before_id
    FROM unnest(
        $1::uuid[],
        $2::text[],
        $3::text[],
        $4::timestamptz[],
        $5::timestamptz[],
        $6::timestamptz[],
        $7::uuid[],
        $8::text[],
        $9::text[],
        $10::integer[]
    ) WITH ORDINALITY AS input (
        tenant_id,
        status,
        severity,
        created_after,
        created_before,
        before_created_at,
        before_id,
        rule_name,
        pattern,
        terms,
        batch_index
    )
)
SELECT
    input.batch_index,
    page.alerts,
    page.last_created_at,
    page.last_id
FROM input
CROSS JOIN LATERAL (
    WITH candidates AS (
        (
            SELECT
                created_at,
                id
            FROM alerts
            WHERE input.unfiltered
                AND input.rule_name IS NULL
                AND tenant_id = input.tenant_id
                AND created_at >= input.created_after
                AND (created_at, id) < (input.before_created_at, input.before_id)
                AND severity >= '' -- selects idx_alerts_tenant_id
            ORDER BY created_at DESC, id DESC
            LIMIT input.candidate_limit
        )
        UNION ALL
        SELECT
            index_range.created_at,
            index_range.id
        FROM unnest(input.statuses) AS statuses (status)
        CROSS JOIN unnest(input.severities) AS severities (severity)
        CROSS JOIN LATERAL (
            (
                SELECT
                    created_at,
                    id
                FROM alerts
                WHERE NOT input.unfiltered
                    AND input.rule_name IS NULL
                    AND tenant_id = input.tenant_id
                    AND status = statuses.status
                    AND severity = severities.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND status >= '' -- selects idx_alerts_status
                ORDER BY created_at DESC, id DESC
                LIMIT input.candidate_limit
            )
            UNION ALL
            (
                SELECT
                    created_at,
                    id
                FROM alerts
                WHERE tenant_id = input.tenant_id
                    AND rule_name = input.rule_name
                    AND status = statuses.status
                    AND severity = severities.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND rule_name >= '' -- selects idx_alerts_rule_name
                ORDER BY created_at DESC, id DESC
                LIMIT input.candidate_limit
            )
        ) AS index_range
        ORDER BY created_at DESC, id DESC
        LIMIT input.candidate_limit
    ),
    candidate_texts AS MATERIALIZED (
        SELECT
            candidates.created_at,
            candidates.id,
            text.rule_name,
            text.message,
            row_number() OVER newest AS number,
            sum(octet_length(text.message)) OVER (newest ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                AS bytes_before
        FROM candidates
        LEFT JOIN LATERAL (
            SELECT
                rule_name,
                message
            FROM alerts
            WHERE input.pattern IS NOT NULL
                AND tenant_id = input.tenant_id
                AND id = candidates.id
            LIMIT 1
        ) AS text ON true
        WINDOW newest AS (ORDER BY candidates.created_at DESC, candidates.id DESC)
    ),
    examined AS (
        SELECT
            created_at,
            id,
            rule_name,
            message,
            number
        FROM candidate_texts
        WHERE number < input.candidate_limit
            AND (input.pattern IS NULL OR number = 1 OR bytes_before < input.message_bytes_limit)
    ),
    last_examined AS (
        SELECT
            created_at,
            id
        FROM examined
        WHERE (SELECT count(*) FROM examined) < (SELECT count(*) FROM candidate_texts)
        ORDER BY number DESC
        LIMIT 1
    ),
    matches AS (
        SELECT
            id,
            number
        FROM examined
        WHERE input.pattern IS NULL
            OR (rule_name || ' ' || left(message, 10000)) ~* input.pattern
        ORDER BY number
        LIMIT 51
    ),
    sized_matches AS (
        SELECT
            id,
            row_number() OVER newest AS number,
            coalesce(sum(bytes) OVER (newest ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
        FROM matches
        CROSS JOIN LATERAL (
            SELECT text_bytes(alerts) AS bytes
            FROM alerts
            WHERE tenant_id = input.tenant_id
                AND id = matches.id
            LIMIT 1
        ) AS size
        WINDOW newest AS (ORDER BY number)
    ),
    page_alerts AS (
        SELECT
            id,
            number
        FROM sized_matches
        WHERE number <= 50
            AND bytes_before < 1000000
    )
    SELECT
        convert_to(
            alerts_json(array_agg(fields ORDER BY number), array_agg(occurrence_fields ORDER BY number)),
            'UTF8'
        ) AS alerts,
        CASE
            WHEN count(*) < (SELECT count(*) FROM sized_matches) THEN (array_agg(created_at ORDER BY number))[count(*)]
            ELSE (SELECT created_at FROM last_examined)
        END AS last_created_at,
        CASE
            WHEN count(*) < (SELECT count(*) FROM sized_matches) THEN (array_agg(alert.id ORDER BY number))[count(*)]
            ELSE (SELECT id FROM last_examined)
        END AS last_id
    FROM page_alerts
    CROSS JOIN LATERAL (
        SELECT
            created_at,
            id,
            alert_fields(alerts) AS fields,
            occurrence_fields(alerts) AS occurrence_fields
        FROM alerts
        WHERE tenant_id = input.tenant_id
            AND id = page_alerts.id
        LIMIT 1
    ) AS alert
) AS page;
