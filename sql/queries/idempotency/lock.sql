-- Try to lock idempotency keys until the end of the transaction. If another transaction holds a lock, held is false.
-- No tenant: the statement reads no table. The tenant is part of the hashed lock number.
-- $1 tenant_id uuid[]
-- $2 route text[]
-- $3 key text[]

SELECT
    batch_index,
    pg_try_advisory_xact_lock(hashtextextended(concat_ws(' ', tenant_id, route, key), 0)) AS held
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS input (tenant_id, route, key, batch_index);
