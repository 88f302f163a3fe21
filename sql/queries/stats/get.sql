-- Return the number of tenants' alerts, in total and by status, from the statistics counters.
-- $1 tenant_id uuid[]

SELECT
    input.batch_index,
    totals.triggered + totals.acknowledged + totals.resolved AS total,
    totals.triggered,
    totals.acknowledged,
    totals.resolved
FROM unnest($1::uuid[]) WITH ORDINALITY AS input (tenant_id, batch_index)
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(triggered), 0)::bigint AS triggered,
        coalesce(sum(acknowledged), 0)::bigint AS acknowledged,
        coalesce(sum(resolved), 0)::bigint AS resolved
    FROM alert_counts
    WHERE alert_counts.tenant_id = input.tenant_id
) AS totals;
