-- How many alerts of each status a tenant has, kept by the statements that change them: counting would read them all.
--
-- A tenant's counts are the sums of its lanes. Each connection counts in one of sixteen, so that writers of one tenant
-- seldom wait for each other; so a single lane may well be negative. Lane -1 is what was counted all at once.

LOCK TABLE alerts IN SHARE ROW EXCLUSIVE MODE;

CREATE TABLE alert_counts (
    tenant_id uuid NOT NULL,
    lane integer NOT NULL,
    triggered bigint NOT NULL DEFAULT 0,
    acknowledged bigint NOT NULL DEFAULT 0,
    resolved bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, lane)
) WITH (fillfactor = 50);

INSERT INTO alert_counts (tenant_id, lane, triggered, acknowledged, resolved)
SELECT
    tenant_id,
    -1,
    count(*) FILTER (WHERE status = 'triggered'),
    count(*) FILTER (WHERE status = 'acknowledged'),
    count(*) FILTER (WHERE status = 'resolved')
FROM alerts
GROUP BY tenant_id;

-- The lane in which this connection counts.
CREATE FUNCTION count_lane() RETURNS integer LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN pg_backend_pid() % 16;
