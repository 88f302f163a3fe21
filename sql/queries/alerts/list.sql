-- Pages of tenants' alerts, newest first, each from behind its cursor's alert on: up to 50 alerts as JSON, and the place
-- of the last where more follow. Several statuses or severities have commas between them, and none comes twice.
-- A page is the first rows of one index without a filter, and with one the first of each piece of another that the
-- filter lets through: of one for a rule, of one for all others. By a condition that all rows meet each names its index: so nothing is read but the first 51 rows
-- of a piece, whatever the planner believes. The JSON of a whole page is made at once; what alerts with a key have behind
-- the twelve fields of all is put in where a page has any.
-- The alerts are null if one of them has more than 4,000 bytes of text, which is then not even read: alerts/search
-- returns that page.
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
        convert_to(
            CASE
                WHEN max(found.octets) > 4000 THEN NULL
                WHEN count(found.repeats) = 0 THEN coalesce(array_to_json((array_agg(alert) FILTER (WHERE found.octets <= 4000))[:50])::text, '[]')
                ELSE with_repeats(array_to_json((array_agg(alert) FILTER (WHERE found.octets <= 4000))[:50]), (array_agg(found.repeats))[:50])
            END,
            'UTF8'
        ) AS alerts,
        CASE WHEN count(*) > 50 THEN (array_agg(found.created_at))[50] END AS last_created_at,
        CASE WHEN count(*) > 50 THEN (array_agg(found.id))[50] END AS last_id
    FROM (
        (
            SELECT
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
                repeats_json(dedup_key, occurrences, created_at, last_seen_at) AS repeats,
                octet_length(message) + coalesce(octet_length(acknowledgment_note), 0)
                    + coalesce(octet_length(resolution_note), 0) AS octets
            FROM alerts
            WHERE input.status IS NULL
                AND input.severity IS NULL
                AND input.rule_name IS NULL
                AND tenant_id = input.tenant_id
                AND created_at >= input.created_after
                AND (created_at, id) < (input.before_created_at, input.before_id)
                AND severity >= ''
            ORDER BY created_at DESC, id DESC
            LIMIT 51
        )
        UNION ALL
        SELECT
            piece.id,
            piece.tenant_id,
            piece.rule_name,
            piece.message,
            piece.severity,
            piece.status,
            piece.created_at,
            piece.updated_at,
            piece.acknowledged_at,
            piece.acknowledgment_note,
            piece.resolved_at,
            piece.resolution_note,
            piece.repeats,
            piece.octets
        FROM unnest(
            CASE
                WHEN input.status IS NOT NULL THEN string_to_array(input.status, ',')
                WHEN input.severity IS NOT NULL OR input.rule_name IS NOT NULL
                    THEN ARRAY['triggered', 'acknowledged', 'resolved']
            END
        ) AS one (status)
        CROSS JOIN unnest(
            CASE
                WHEN input.severity IS NOT NULL THEN string_to_array(input.severity, ',')
                ELSE ARRAY['low', 'medium', 'high', 'critical']
            END
        ) AS other (severity)
        CROSS JOIN LATERAL (
            (
                SELECT
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
                    repeats_json(dedup_key, occurrences, created_at, last_seen_at) AS repeats,
                    octet_length(message) + coalesce(octet_length(acknowledgment_note), 0)
                        + coalesce(octet_length(resolution_note), 0) AS octets
                FROM alerts
                WHERE input.rule_name IS NULL
                    AND tenant_id = input.tenant_id
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND status >= ''
                ORDER BY created_at DESC, id DESC
                LIMIT 51
            )
            UNION ALL
            (
                SELECT
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
                    repeats_json(dedup_key, occurrences, created_at, last_seen_at) AS repeats,
                    octet_length(message) + coalesce(octet_length(acknowledgment_note), 0)
                        + coalesce(octet_length(resolution_note), 0) AS octets
                FROM alerts
                WHERE tenant_id = input.tenant_id
                    AND rule_name = input.rule_name
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= input.created_after
                    AND (created_at, id) < (input.before_created_at, input.before_id)
                    AND rule_name >= ''
                ORDER BY created_at DESC, id DESC
                LIMIT 51
            )
        ) AS piece
        ORDER BY created_at DESC, id DESC
        LIMIT 51
    ) AS found
    CROSS JOIN LATERAL (
        SELECT
            found.id,
            found.tenant_id,
            found.rule_name,
            found.message,
            found.severity,
            found.status,
            found.created_at,
            found.updated_at,
            found.acknowledged_at,
            found.acknowledgment_note,
            found.resolved_at,
            found.resolution_note
    ) AS alert
) AS page;
