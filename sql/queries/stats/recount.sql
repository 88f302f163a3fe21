-- Correct the statistics counters of all tenants that differ from the alerts.
-- No tenant: the statement corrects the counters of all tenants.
-- The alerts and the counters are read in one snapshot, so the difference is correct while other transactions write.
-- The difference is added to lane -1, which no other statement updates.

WITH actual AS (
    SELECT
        tenant_id,
        count(*) FILTER (WHERE status = 'triggered') AS triggered,
        count(*) FILTER (WHERE status = 'acknowledged') AS acknowledged,
        count(*) FILTER (WHERE status = 'resolved') AS resolved
    FROM alerts
    GROUP BY tenant_id
),
stored AS (
    SELECT
        tenant_id,
        sum(triggered) AS triggered,
        sum(acknowledged) AS acknowledged,
        sum(resolved) AS resolved
    FROM alert_counts
    GROUP BY tenant_id
),
differences AS (
    SELECT
        tenant_id,
        coalesce(actual.triggered, 0) - coalesce(stored.triggered, 0) AS triggered,
        coalesce(actual.acknowledged, 0) - coalesce(stored.acknowledged, 0) AS acknowledged,
        coalesce(actual.resolved, 0) - coalesce(stored.resolved, 0) AS resolved
    FROM actual
    FULL JOIN stored USING (tenant_id)
),
corrected AS (
    INSERT INTO alert_counts (
        tenant_id,
        lane,
        triggered,
        acknowledged,
        resolved
    )
    SELECT
        tenant_id,
        -1,
        triggered,
        acknowledged,
        resolved
    FROM differences
    WHERE (triggered, acknowledged, resolved) <> (0, 0, 0)
    ORDER BY tenant_id
    ON CONFLICT (tenant_id, lane) DO UPDATE
    SET triggered = alert_counts.triggered + excluded.triggered,
        acknowledged = alert_counts.acknowledged + excluded.acknowledged,
        resolved = alert_counts.resolved + excluded.resolved
    RETURNING tenant_id
)
SELECT
    1 AS batch_index,
    count(*) AS tenants
FROM corrected;
