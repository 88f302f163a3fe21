-- Pages of tenants' alerts with certain words, or with long texts: as alerts/list has them of others. A page ends behind 50 alerts or 1 MB of their texts.
-- A page of words examines the first 1,000 alerts that the other filters let through, or as many as have 200 kB of
-- messages: it has those that match, perhaps none, and the place is that of the last alert that it examined. Words are
-- those of the rule's name and of the first 10,000 characters of the message, which must match a regular expression. Its
-- cost grows with its terms: with more than 8 of them a page examines fewer alerts.
-- The indexes alone tell which alerts to examine. What is examined, and what is shown, is then read by its id, one by
-- one: a limit of one keeps the planner from reading all alerts instead, and no message is read in vain.
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
        status IS NULL AND severity IS NULL AS whole,
        string_to_array(coalesce(status, 'triggered,acknowledged,resolved'), ',') AS statuses,
        string_to_array(coalesce(severity, 'low,medium,high,critical'), ',') AS severities,
        rule_name,
        pattern,
        CASE WHEN pattern IS NULL THEN 51 ELSE 1 + 8000 / greatest(terms, 8) END AS depth,
        1600000 / greatest(terms, 8) AS octets,
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
    WITH listed AS (
        (
            SELECT
                created_at,
                id
            FROM alerts
            WHERE input.whole
                AND input.rule_name IS NULL
                AND tenant_id = input.tenant_id
                AND created_at >= input.created_after
                AND (created_at, id) < (input.before_created_at, input.before_id)
                AND severity >= ''
            ORDER BY created_at DESC, id DESC
            LIMIT input.depth
        )
        UNION ALL
        SELECT
            piece.created_at,
            piece.id
        FROM unnest(input.statuses) AS one (status)
        CROSS JOIN unnest(input.severities) AS other (severity)
        CROSS JOIN LATERAL (
            (
                SELECT
                    created_at,
                    id
                FROM alerts
                WHERE NOT input.whole
                    AND input.rule_name IS NULL
                    AND tenant_id = input.tenant_id
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND status >= ''
                ORDER BY created_at DESC, id DESC
                LIMIT input.depth
            )
            UNION ALL
            (
                SELECT
                    created_at,
                    id
                FROM alerts
                WHERE tenant_id = input.tenant_id
                    AND rule_name = input.rule_name
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND rule_name >= ''
                ORDER BY created_at DESC, id DESC
                LIMIT input.depth
            )
        ) AS piece
        ORDER BY created_at DESC, id DESC
        LIMIT input.depth
    ),
    examined AS MATERIALIZED (
        SELECT
            listed.created_at,
            listed.id,
            text.rule_name,
            text.message,
            row_number() OVER newest AS number,
            sum(octet_length(text.message)) OVER (newest ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                AS octets_before
        FROM listed
        LEFT JOIN LATERAL (
            SELECT
                rule_name,
                message
            FROM alerts
            WHERE input.pattern IS NOT NULL
                AND tenant_id = input.tenant_id
                AND id = listed.id
            LIMIT 1
        ) AS text ON true
        WINDOW newest AS (ORDER BY listed.created_at DESC, listed.id DESC)
    ),
    near AS (
        SELECT
            created_at,
            id,
            rule_name,
            message,
            number
        FROM examined
        WHERE number < input.depth
            AND (input.pattern IS NULL OR number = 1 OR octets_before < input.octets)
    ),
    reached AS (
        SELECT
            created_at,
            id
        FROM near
        WHERE (SELECT count(*) FROM near) < (SELECT count(*) FROM examined)
        ORDER BY number DESC
        LIMIT 1
    ),
    matching AS (
        SELECT
            id,
            number
        FROM near
        WHERE input.pattern IS NULL
            OR (rule_name || ' ' || left(message, 10000)) ~* input.pattern
        ORDER BY number
        LIMIT 51
    ),
    measured AS (
        SELECT
            id,
            row_number() OVER newest AS number,
            coalesce(sum(octets) OVER (newest ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS octets_before
        FROM matching
        CROSS JOIN LATERAL (
            SELECT
                octet_length(message) + coalesce(octet_length(acknowledgment_note), 0)
                    + coalesce(octet_length(resolution_note), 0) AS octets
            FROM alerts
            WHERE tenant_id = input.tenant_id
                AND id = matching.id
            LIMIT 1
        ) AS size
        WINDOW newest AS (ORDER BY number)
    ),
    found AS (
        SELECT
            id,
            number
        FROM measured
        WHERE number <= 50
            AND octets_before < 1000000
    )
    SELECT
        convert_to(
            CASE
                WHEN count(repeats) = 0 THEN coalesce(array_to_json(array_agg(alert ORDER BY number))::text, '[]')
                ELSE with_repeats(array_to_json(array_agg(alert ORDER BY number)), array_agg(repeats ORDER BY number))
            END,
            'UTF8'
        ) AS alerts,
        CASE
            WHEN count(*) < (SELECT count(*) FROM measured) THEN (array_agg(alert.created_at ORDER BY number))[count(*)]
            ELSE (SELECT created_at FROM reached)
        END AS last_created_at,
        CASE
            WHEN count(*) < (SELECT count(*) FROM measured) THEN (array_agg(alert.id ORDER BY number))[count(*)]
            ELSE (SELECT id FROM reached)
        END AS last_id
    FROM found
    CROSS JOIN LATERAL (
        SELECT
            alerts AS entry,
            repeats_json(dedup_key, occurrences, created_at, last_seen_at) AS repeats
        FROM alerts
        WHERE tenant_id = input.tenant_id
            AND id = found.id
        LIMIT 1
    ) AS shown
    CROSS JOIN LATERAL (
        SELECT
            (entry).id,
            (entry).tenant_id,
            (entry).rule_name,
            (entry).message,
            (entry).severity,
            (entry).status,
            (entry).created_at,
            (entry).updated_at,
            (entry).acknowledged_at,
            (entry).acknowledgment_note,
            (entry).resolved_at,
            (entry).resolution_note
    ) AS alert
) AS page;
