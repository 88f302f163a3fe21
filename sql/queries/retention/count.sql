-- How many alerts were resolved more than so many days ago, how many events they have, which their versions tell, and
-- how many idempotency keys have expired.
-- No tenant: for whoever looks after the service.
-- $1 days int4[]

SELECT
    1 AS batch_index,
    count(*) AS alerts,
    coalesce(sum(version), 0)::bigint AS events,
    (SELECT count(*) FROM idempotency_keys WHERE created_at <= now() - interval '24 hours') AS keys
FROM alerts
WHERE resolved_at < now() - make_interval(days => ($1::integer[])[1]);
