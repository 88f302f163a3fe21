-- Find the stored responses of idempotency keys.
-- No row: no response was stored for the key in the last 24 hours.
-- The keys are locked by an earlier statement of the transaction: the snapshot of a statement that also took the locks
-- would not include a response that was committed before it had them.
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
