-- Find the stored responses of idempotency keys.
-- No row: no response was stored for the key in the last 24 hours.
-- An earlier statement of the transaction must lock the keys. If this statement took the locks, its snapshot would not
-- contain a response that was committed while the statement waited for a lock.
-- $1 tenant_id uuid[]
-- $2 route text[]
-- $3 key text[]

SELECT
    input.batch_index,
    stored.fingerprint,
    stored.status,
    stored.etag,
    stored.body
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS input (tenant_id, route, key, batch_index)
JOIN idempotency_keys AS stored
    ON stored.tenant_id = input.tenant_id
    AND stored.route = input.route
    AND stored.key = input.key
WHERE stored.created_at > now() - interval '24 hours';
