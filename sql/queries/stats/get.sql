-- How many alerts tenants have, in all and by status, from the counts that are kept.
-- $1 tenant_id uuid[]

SELECT
    asked.place,
    counted.triggered + counted.acknowledged + counted.resolved AS total,
    counted.triggered,
    counted.acknowledged,
    counted.resolved
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (tenant_id, place)
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(triggered), 0)::bigint AS triggered,
        coalesce(sum(acknowledged), 0)::bigint AS acknowledged,
        coalesce(sum(resolved), 0)::bigint AS resolved
    FROM alert_counts
    WHERE alert_counts.tenant_id = asked.tenant_id
) AS counted;
