-- Delete the first 500 alerts, of any tenants, that were resolved more than so many days ago, with their events, or as
-- many as have 5,000 of these, and take them off the counts. One batch at a time; the next goes on from the last one's
-- time, past what is dead already. One that has more events than may go at once is left.
-- The condition stands in the DELETE, as a CASE, so that no plan looks for it but in the alerts that were locked. Whom
-- somebody holds is skipped. Events are kept as long as their alert exists: they go with it.
-- $1 days int4[]
-- $2 since timestamptz[]?
-- $3 most int4[]?

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
due AS MATERIALIZED (
    SELECT id
    FROM (
        SELECT
            id,
            sum(version) OVER (ORDER BY resolved_at, id) - version AS events_before
        FROM locked
    ) AS one
    WHERE events_before < 5000
),
deleted AS (
    DELETE FROM alerts
    WHERE id = ANY (ARRAY(SELECT id FROM due))
        AND CASE status WHEN 'resolved' THEN resolved_at < now() - make_interval(days => ($1::integer[])[1]) END
    RETURNING
        id,
        tenant_id,
        resolved_at
),
forgotten AS (
    DELETE FROM alert_events
    WHERE alert_id = ANY (ARRAY(SELECT id FROM deleted))
    RETURNING alert_id
),
counted AS (
    INSERT INTO alert_counts (
        tenant_id,
        lane,
        resolved
    )
    SELECT
        tenant_id,
        count_lane(),
        -count(*)
    FROM deleted
    GROUP BY tenant_id
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET resolved = alert_counts.resolved + excluded.resolved
)
SELECT
    1 AS batch_index,
    (SELECT count(*) FROM deleted) AS alerts,
    (SELECT count(*) FROM forgotten) AS events,
    (SELECT max(resolved_at) FROM deleted) AS until;
