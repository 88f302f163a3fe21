-- The first answer to each request that came with an Idempotency-Key, to be given again to whoever repeats it.

CREATE TABLE idempotency_keys (
    tenant_id uuid NOT NULL,
    route text NOT NULL,
    key varchar(255) NOT NULL,
    fingerprint bytea NOT NULL,
    status integer NOT NULL,
    etag text,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, route, key)
);

-- Where those that have expired are found.
CREATE INDEX idx_idempotency_keys_created_at ON idempotency_keys (created_at);
