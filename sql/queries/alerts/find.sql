-- Find the oldest alerts of a tenant that a move would change: up to 1,000 ids as JSON, each with the time
-- of the alert's last change, and whether there are more.
-- What is asked for is put together from the first of each piece of the index that has this order, as in a list.
-- $1 tenant_id uuid[]
-- $2 move text[]
-- $3 status text[]?
-- $4 severity text[]?
-- $5 rule_name text[]?
-- $6 created_after timestamptz[]?
-- $7 created_before timestamptz[]?

SELECT
    input.batch_index,
    page.alerts,
    page.more
FROM (
    SELECT
        batch_index,
        tenant_id,
        move,
        status,
        severity,
        rule_name,
        coalesce(created_after, '-infinity') AS created_after,
        coalesce(created_before, 'infinity') AS created_before
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[])
        WITH ORDINALITY
        AS input (tenant_id, move, status, severity, rule_name, created_after, created_before, batch_index)
) AS input
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_to_json((array_agg(json_build_array(found.id, rfc3339(found.updated_at))))[:1000])::text, '[]')
            AS alerts,
        count(*) > 1000 AS more
    FROM (
        SELECT
            piece.id,
            piece.updated_at
        FROM unnest(
            CASE input.move
                WHEN 'acknowledged' THEN ARRAY['triggered']
                ELSE ARRAY['triggered', 'acknowledged']
            END
        ) AS one (status)
        CROSS JOIN unnest(ARRAY['low', 'medium', 'high', 'critical']) AS other (severity)
        CROSS JOIN LATERAL (
            (
                SELECT
                    id,
                    created_at,
                    updated_at
                FROM alerts
                WHERE input.rule_name IS NULL
                    AND tenant_id = input.tenant_id
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= input.created_after
                    AND created_at < input.created_before
                    AND status >= ''
                ORDER BY created_at, id
                LIMIT 1001
            )
            UNION ALL
            (
                SELECT
                    id,
                    created_at,
                    updated_at
                FROM alerts
                WHERE tenant_id = input.tenant_id
                    AND rule_name = input.rule_name
                    AND status = one.status
                    AND severity = other.severity
                    AND created_at >= input.created_after
                    AND created_at < input.created_before
                    AND rule_name >= ''
                ORDER BY created_at, id
                LIMIT 1001
            )
        ) AS piece
        WHERE (input.status IS NULL OR one.status = input.status)
            AND (input.severity IS NULL OR other.severity = input.severity)
        ORDER BY
            piece.created_at,
            piece.id
        LIMIT 1001
    ) AS found
) AS page;
