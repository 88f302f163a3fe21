-- Count the alerts that were resolved more than a number of days ago, their events, and the expired idempotency keys.
-- No tenant: the statement counts the alerts of all tenants.
-- The version of an alert is the number of its events.
-- $1 days int4[]

SELECT
    1 AS batch_index,
    count(*) AS alerts,
    coalesce(sum(version), 0)::bigint AS events,
    (SELECT count(*) FROM idempotency_keys WHERE created_at <= now() - interval '24 hours') AS keys
FROM alerts
WHERE resolved_at < now() - make_interval(days => ($1::integer[])[1]);
