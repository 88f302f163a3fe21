-- Find the first answers to keys. No row: there is none of the last 24 hours.
-- A statement of its own: one that also took the locks would not see what was committed until it had them.
-- $1 tenant_id uuid[]
-- $2 route text[]
-- $3 key text[]

SELECT
    input.batch_index,
    kept.fingerprint,
    kept.status,
    kept.etag,
    kept.body
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS input (tenant_id, route, key, batch_index)
JOIN idempotency_keys AS kept
    ON kept.tenant_id = input.tenant_id
    AND kept.route = input.route
    AND kept.key = input.key
WHERE kept.created_at > now() - interval '24 hours';
