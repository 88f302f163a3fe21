-- Delete expired idempotency keys of all tenants in batches of 500, or fewer if they hold 16 MB of stored responses.
-- No tenant: the statement prunes the keys of all tenants.
-- since is the time of the last key that the previous batch deleted, so that a batch does not read the dead rows of
-- earlier batches. Keys that another transaction has locked are skipped.
-- $1 since timestamptz[]?

WITH locked AS MATERIALIZED (
    SELECT
        tenant_id,
        route,
        key,
        created_at,
        octet_length(body) AS size
    FROM idempotency_keys
    WHERE created_at <= now() - interval '24 hours'
        AND created_at >= coalesce(($1::timestamptz[])[1], '-infinity')
    ORDER BY created_at
    LIMIT 500
    FOR UPDATE SKIP LOCKED
),
expired AS MATERIALIZED (
    SELECT
        tenant_id,
        route,
        key
    FROM (
        SELECT
            tenant_id,
            route,
            key,
            sum(size) OVER (ORDER BY created_at, tenant_id, route, key) - size AS size_before
        FROM locked
    ) AS locked_sizes
    WHERE size_before < 16000000
),
deleted AS (
    DELETE FROM idempotency_keys
    USING expired
    WHERE idempotency_keys.tenant_id = expired.tenant_id
        AND idempotency_keys.route = expired.route
        AND idempotency_keys.key = expired.key
    RETURNING idempotency_keys.created_at
)
SELECT
    1 AS batch_index,
    count(*) AS keys,
    max(created_at) AS until
FROM deleted;
