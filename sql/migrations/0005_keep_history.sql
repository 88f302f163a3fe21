-- Every change of an alert, kept as an event that nobody can change: what happened, when, who did it in which request.
--
-- An alert's version is the number of its last event. It counts up with the row's own lock, so the numbers have no gap
-- whoever races. What alerts went through before is told as far as their times tell it.

ALTER TABLE alerts ADD COLUMN version integer NOT NULL DEFAULT 1;

CREATE TABLE alert_events (
    alert_id uuid NOT NULL,
    sequence integer NOT NULL,
    tenant_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    type varchar(50) NOT NULL,
    from_status varchar(50),
    to_status varchar(50) NOT NULL,
    note text,
    actor text NOT NULL,
    request_id varchar(128),
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (alert_id, sequence),
    CONSTRAINT alert_events_type_known CHECK (
        type IN ('created', 'acknowledged', 'resolved', 'repeated', 'escalated')
    )
);

INSERT INTO alert_events (alert_id, sequence, tenant_id, type, from_status, to_status, note, actor, occurred_at)
SELECT id, 1, tenant_id, 'created', NULL, 'triggered', NULL, 'unknown', created_at
FROM alerts
UNION ALL
SELECT id, 2, tenant_id, 'acknowledged', 'triggered', 'acknowledged', acknowledgment_note, 'unknown', acknowledged_at
FROM alerts
WHERE acknowledged_at IS NOT NULL
UNION ALL
SELECT
    id,
    CASE WHEN acknowledged_at IS NULL THEN 2 ELSE 3 END,
    tenant_id,
    'resolved',
    CASE WHEN acknowledged_at IS NULL THEN 'triggered' ELSE 'acknowledged' END,
    'resolved',
    resolution_note,
    'unknown',
    resolved_at
FROM alerts
WHERE resolved_at IS NOT NULL;

UPDATE alerts
SET version = 1 + (acknowledged_at IS NOT NULL)::integer + (resolved_at IS NOT NULL)::integer
WHERE status <> 'triggered';

-- The order of a tenant's log, whole or of one type.
CREATE INDEX idx_alert_events_tenant_id ON alert_events (tenant_id, type, occurred_at, alert_id, sequence);

CREATE FUNCTION refuse_to_rewrite_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'an event is kept as it is, as long as its alert exists' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION refuse_to_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM (SELECT DISTINCT alert_id FROM gone) AS one JOIN alerts ON alerts.id = one.alert_id) THEN
        RAISE 'an event is kept as it is, as long as its alert exists' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER keep_events BEFORE UPDATE ON alert_events
FOR EACH ROW EXECUTE FUNCTION refuse_to_rewrite_history();

CREATE TRIGGER keep_events_of_alerts AFTER DELETE ON alert_events REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_forget();

CREATE TRIGGER keep_all_events BEFORE TRUNCATE ON alert_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_history();
