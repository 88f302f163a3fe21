-- Indexes that have the order of every list, so that none reads more than it returns, whatever the statistics say.
--
-- On single columns a list walks past every other tenant's newer alerts, or reads all of its tenant's and sorts them.
-- The time alone is kept as ranges of pages: enough for finding what is old, and of no use for ordering.

DROP INDEX idx_alerts_tenant_id, idx_alerts_status, idx_alerts_created_at;

CREATE INDEX idx_alerts_tenant_id ON alerts (tenant_id, created_at DESC, id DESC);
CREATE INDEX idx_alerts_status ON alerts (tenant_id, status DESC, severity DESC, created_at DESC, id DESC);
CREATE INDEX idx_alerts_created_at ON alerts USING brin (created_at);

-- A time as it reads within row_to_json, so that an alert reads the same wherever its JSON is made.
CREATE FUNCTION rfc3339(moment timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_json(moment) #>> '{}';
