-- Correct the counts that do not agree with the alerts, of every tenant, for whoever looks after the service.
-- One snapshot sees each alert together with its count, so the difference holds whoever writes meanwhile. It goes into a
-- lane of its own, where it keeps nobody waiting.

WITH real AS (
    SELECT
        tenant_id,
        count(*) FILTER (WHERE status = 'triggered') AS triggered,
        count(*) FILTER (WHERE status = 'acknowledged') AS acknowledged,
        count(*) FILTER (WHERE status = 'resolved') AS resolved
    FROM alerts
    GROUP BY tenant_id
),
kept AS (
    SELECT
        tenant_id,
        sum(triggered) AS triggered,
        sum(acknowledged) AS acknowledged,
        sum(resolved) AS resolved
    FROM alert_counts
    GROUP BY tenant_id
),
missing AS (
    SELECT
        tenant_id,
        coalesce(real.triggered, 0) - coalesce(kept.triggered, 0) AS triggered,
        coalesce(real.acknowledged, 0) - coalesce(kept.acknowledged, 0) AS acknowledged,
        coalesce(real.resolved, 0) - coalesce(kept.resolved, 0) AS resolved
    FROM real
    FULL JOIN kept USING (tenant_id)
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
    FROM missing
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
