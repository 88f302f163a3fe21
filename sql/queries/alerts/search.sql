-- Pages of tenants' alerts of one rule, or with certain words, or both: as alerts/list has them of others.
-- A page of words looks through the first 1,000 alerts that the other filters let through, or as many as have 200 kB of
-- messages, whatever they hold: it has those up to 50 that match, perhaps none, and the place is that of the last alert
-- that it looked at. Words are those of the rule's name and of the first 10,000 characters of the message; no word at
-- all finds nothing.
-- The indexes alone tell which alerts to look at. What is looked at, and what is shown, is then read by its id, one by
-- one: a limit of one keeps the planner from reading all alerts instead, and no message is read in vain.
-- $1 tenant_id uuid[]
-- $2 status text[]?
-- $3 severity text[]?
-- $4 created_after timestamptz[]?
-- $5 created_before timestamptz[]?
-- $6 before_created_at timestamptz[]?
-- $7 before_id uuid[]?
-- $8 rule_name text[]?
-- $9 words text[]?

WITH asked AS MATERIALIZED (
    SELECT
        place,
        tenant_id,
        status IS NULL AND severity IS NULL AS whole,
        string_to_array(coalesce(status, 'triggered,acknowledged,resolved'), ',') AS statuses,
        string_to_array(coalesce(severity, 'low,medium,high,critical'), ',') AS severities,
        rule_name,
        websearch_to_tsquery('simple', words) AS words,
        CASE
            WHEN words IS NULL THEN 51
            WHEN numnode(websearch_to_tsquery('simple', words)) > 0 THEN 1001
            ELSE 0
        END AS depth,
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
        $9::text[]
    ) WITH ORDINALITY AS asked (
        tenant_id,
        status,
        severity,
        created_after,
        created_before,
        before_created_at,
        before_id,
        rule_name,
        words,
        place
    )
)
SELECT
    asked.place,
    page.alerts,
    page.last_created_at,
    page.last_id
FROM asked
CROSS JOIN LATERAL (
    WITH listed AS (
        (
            SELECT
                created_at,
                id
            FROM alerts
            WHERE asked.whole
                AND asked.rule_name IS NULL
                AND tenant_id = asked.tenant_id
                AND created_at >= asked.created_after
                AND (created_at, id) < (asked.before_created_at, asked.before_id)
                AND severity >= ''
            ORDER BY created_at DESC, id DESC
            LIMIT asked.depth
        )
        UNION ALL
        SELECT
            piece.created_at,
            piece.id
        FROM unnest(asked.statuses) AS one (status)
        CROSS JOIN unnest(asked.severities) AS other (severity)
        CROSS JOIN LATERAL (
            (
                SELECT
                    created_at,
                    id
                FROM alerts
                WHERE NOT asked.whole
                    AND asked.rule_name IS NULL
                    AND tenant_id = asked.tenant_id
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= asked.created_after
                    AND (created_at, id) < (asked.before_created_at, asked.before_id)
                    AND status >= ''
                ORDER BY created_at DESC, id DESC
                LIMIT asked.depth
            )
            UNION ALL
            (
                SELECT
                    created_at,
                    id
                FROM alerts
                WHERE tenant_id = asked.tenant_id
                    AND rule_name = asked.rule_name
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= asked.created_after
                    AND (created_at, id) < (asked.before_created_at, asked.before_id)
                    AND rule_name >= ''
                ORDER BY created_at DESC, id DESC
                LIMIT asked.depth
            )
        ) AS piece
        ORDER BY created_at DESC, id DESC
        LIMIT asked.depth
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
            WHERE asked.words IS NOT NULL
                AND tenant_id = asked.tenant_id
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
        WHERE number < asked.depth
            AND (asked.words IS NULL OR number = 1 OR octets_before < 200000)
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
    found AS (
        SELECT
            id,
            number
        FROM near
        WHERE asked.words IS NULL
            OR to_tsvector('simple', rule_name || ' ' || left(message, 10000)) @@ asked.words
        ORDER BY number
        LIMIT 51
    )
    SELECT
        CASE
            WHEN count(repeats) = 0 THEN coalesce(array_to_json((array_agg(alert ORDER BY number))[:50])::text, '[]')
            ELSE with_repeats(
                array_to_json((array_agg(alert ORDER BY number))[:50]),
                (array_agg(repeats ORDER BY number))[:50]
            )
        END AS alerts,
        CASE
            WHEN count(*) > 50 THEN (array_agg(alert.created_at ORDER BY number))[50]
            ELSE (SELECT created_at FROM reached)
        END AS last_created_at,
        CASE
            WHEN count(*) > 50 THEN (array_agg(alert.id ORDER BY number))[50]
            ELSE (SELECT id FROM reached)
        END AS last_id
    FROM found
    CROSS JOIN LATERAL (
        SELECT
            alerts AS entry,
            repeats_json(dedup_key, occurrences, created_at, last_seen_at) AS repeats
        FROM alerts
        WHERE tenant_id = asked.tenant_id
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
