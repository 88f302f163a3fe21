-- Find the oldest alerts of a tenant that a bulk transition would change. Return up to 1,000 ids as JSON, each with
-- updated_at of the alert, and whether more alerts match.
-- target_status is the status after the transition. The result is merged from one index range for each pair of status
-- and severity.
-- $1 tenant_id uuid[]
-- $2 target_status text[]
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
        target_status,
        status,
        severity,
        rule_name,
        coalesce(created_after, '-infinity') AS created_after,
        coalesce(created_before, 'infinity') AS created_before
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[])
        WITH ORDINALITY
        AS input (tenant_id, target_status, status, severity, rule_name, created_after, created_before, batch_index)
) AS input
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_to_json((array_agg(json_build_array(oldest.id, rfc3339(oldest.updated_at))))[:1000])::text, '[]')
            AS alerts,
        count(*) > 1000 AS more
    FROM (
        SELECT
            index_range.id,
            index_range.updated_at
        FROM unnest(
            CASE input.target_status
                WHEN 'acknowledged' THEN ARRAY['triggered']
                ELSE ARRAY['triggered', 'acknowledged']
            END
        ) AS statuses (status)
        CROSS JOIN unnest(ARRAY['low', 'medium', 'high', 'critical']) AS severities (severity)
        CROSS JOIN LATERAL (
            (
                SELECT
                    id,
                    created_at,
                    updated_at
                FROM alerts
                WHERE input.rule_name IS NULL
                    AND tenant_id = input.tenant_id
                    AND status = statuses.status
                    AND severity = severities.severity
                    AND created_at >= input.created_after
                    AND created_at < input.created_before
                    AND status >= '' -- selects idx_alerts_status
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
                    AND status = statuses.status
                    AND severity = severities.severity
                    AND created_at >= input.created_after
                    AND created_at < input.created_before
                    AND rule_name >= '' -- selects idx_alerts_rule_name
                ORDER BY created_at, id
                LIMIT 1001
            )
        ) AS index_range
        WHERE (input.status IS NULL OR statuses.status = input.status)
            AND (input.severity IS NULL OR severities.severity = input.severity)
        ORDER BY
            index_range.created_at,
            index_range.id
        LIMIT 1001
    ) AS oldest
) AS page;
