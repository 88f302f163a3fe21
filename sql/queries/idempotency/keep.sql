-- Store the responses of idempotency keys, and replace expired responses.
-- No row: an unexpired response is already stored. This cannot occur while the request holds the lock of its key.
-- $1 tenant_id uuid[]
-- $2 route text[]
-- $3 key text[]
-- $4 fingerprint bytea[]
-- $5 status int4[]
-- $6 etag text[]?
-- $7 body bytea[]

WITH input AS MATERIALIZED (
    SELECT
        batch_index,
        tenant_id,
        route,
        key,
        fingerprint,
        status,
        etag,
        body
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::integer[], $6::text[], $7::bytea[])
        WITH ORDINALITY AS input (tenant_id, route, key, fingerprint, status, etag, body, batch_index)
),
stored AS (
    INSERT INTO idempotency_keys (
        tenant_id,
        route,
        key,
        fingerprint,
        status,
        etag,
        body
    )
    SELECT
        tenant_id,
        route,
        key,
        fingerprint,
        status,
        etag,
        body
    FROM input
    ON CONFLICT (tenant_id, route, key) DO UPDATE
    SET fingerprint = excluded.fingerprint,
        status = excluded.status,
        etag = excluded.etag,
        body = excluded.body,
        created_at = excluded.created_at
    WHERE idempotency_keys.created_at <= now() - interval '24 hours'
    RETURNING
        tenant_id,
        route,
        key,
        created_at
)
SELECT
    input.batch_index,
    stored.created_at
FROM input
JOIN stored USING (tenant_id, route, key);
