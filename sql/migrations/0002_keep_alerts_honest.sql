-- What the service relies on, the database now enforces.
--
-- Times get their zone. They were written by NOW() without one, so they stand in the server's zone, which is also this
-- session's: the conversion reads them so. What an old row left empty is filled with what it meant, and its status is
-- the furthest that its times or itself speak of.

ALTER TABLE alerts
    ALTER COLUMN created_at TYPE timestamptz,
    ALTER COLUMN updated_at TYPE timestamptz,
    ALTER COLUMN acknowledged_at TYPE timestamptz,
    ALTER COLUMN resolved_at TYPE timestamptz;

UPDATE alerts
SET rule_name = coalesce(rule_name, ''),
    severity = coalesce(severity, 'medium'),
    status = CASE
        WHEN resolved_at IS NOT NULL THEN 'resolved'
        WHEN acknowledged_at IS NOT NULL AND coalesce(status, 'triggered') = 'triggered' THEN 'acknowledged'
        ELSE coalesce(status, 'triggered')
    END,
    created_at = coalesce(created_at, updated_at, acknowledged_at, resolved_at, now()),
    updated_at = coalesce(updated_at, resolved_at, acknowledged_at, created_at, now())
WHERE rule_name IS NULL
    OR severity IS NULL
    OR status IS NULL
    OR created_at IS NULL
    OR updated_at IS NULL
    OR (status <> 'resolved' AND resolved_at IS NOT NULL)
    OR (status = 'triggered' AND acknowledged_at IS NOT NULL);

UPDATE alerts
SET acknowledged_at = CASE status WHEN 'acknowledged' THEN coalesce(acknowledged_at, updated_at) ELSE acknowledged_at END,
    resolved_at = CASE status WHEN 'resolved' THEN coalesce(resolved_at, updated_at) END
WHERE (status = 'acknowledged' AND acknowledged_at IS NULL)
    OR (status = 'resolved' AND resolved_at IS NULL);

ALTER TABLE alerts
    ALTER COLUMN rule_name SET NOT NULL,
    ALTER COLUMN severity SET NOT NULL,
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN created_at SET NOT NULL,
    ALTER COLUMN updated_at SET NOT NULL,
    ADD CONSTRAINT alerts_severity_known CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    ADD CONSTRAINT alerts_status_known CHECK (status IN ('triggered', 'acknowledged', 'resolved')),
    ADD CONSTRAINT alerts_times_fit_status CHECK (
        CASE status
            WHEN 'triggered' THEN acknowledged_at IS NULL AND resolved_at IS NULL
            WHEN 'acknowledged' THEN acknowledged_at IS NOT NULL AND resolved_at IS NULL
            ELSE resolved_at IS NOT NULL
        END
    );
