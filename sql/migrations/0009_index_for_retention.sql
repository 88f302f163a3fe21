-- The order in which alerts go once they were resolved long enough ago. It knows no open one.

CREATE INDEX idx_alerts_resolved_at ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;
