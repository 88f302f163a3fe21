-- Delete alerts of all tenants that were resolved more than a number of days ago, with their events, in batches of 500
-- alerts, or fewer if they have 5,000 events.
-- No tenant: the statement prunes the alerts of all tenants.
-- since is the time of the last alert that the previous batch deleted, so that a batch does not read the dead rows of
-- earlier batches. Alerts with more than max_events events are skipped, and so are alerts that another transaction has
-- locked. The DELETE repeats the condition as a CASE, which no index supports, so that only locked alerts are examined.
-- The triggers of alert_events allow the deletion of events only together with their alert.
-- $1 days int4[]
-- $2 since timestamptz[]?
-- $3 max_events int4[]?

WITH locked AS MATERIALIZED (
    SELECT
        id,
        resolved_at,
        version
    FROM alerts
    WHERE resolved_at < now() - make_interval(days => ($1::integer[])[1])
        AND resolved_at >= coalesce(($2::timestamptz[])[1], '-infinity')
        AND (($3::integer[])[1] IS NULL OR version <= ($3::integer[])[1])
    ORDER BY resolved_at
    LIMIT 500
    FOR UPDATE SKIP LOCKED
),
expired AS MATERIALIZED (
    SELECT id
    FROM (
        SELECT
            id,
            sum(version) OVER (ORDER BY resolved_at, id) - version AS events_before
        FROM locked
    ) AS locked_versions
    WHERE events_before < 5000
),
deleted_alerts AS (
    DELETE FROM alerts
    WHERE id = ANY (ARRAY(SELECT id FROM expired))
        AND CASE status WHEN 'resolved' THEN resolved_at < now() - make_interval(days => ($1::integer[])[1]) END
    RETURNING
        id,
        tenant_id,
        resolved_at
),
deleted_events AS (
    DELETE FROM alert_events
    WHERE alert_id = ANY (ARRAY(SELECT id FROM deleted_alerts))
    RETURNING alert_id
),
counters AS (
    INSERT INTO alert_counts (
        tenant_id,
        lane,
        resolved
    )
    SELECT
        tenant_id,
        count_lane(),
        -count(*)
    FROM deleted_alerts
    GROUP BY tenant_id
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET resolved = alert_counts.resolved + excluded.resolved
)
SELECT
    1 AS batch_index,
    (SELECT count(*) FROM deleted_alerts) AS alerts,
    (SELECT count(*) FROM deleted_events) AS events,
    (SELECT max(resolved_at) FROM deleted_alerts) AS until;
