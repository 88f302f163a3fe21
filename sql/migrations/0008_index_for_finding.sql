-- Lists of one rule get an index, and every list names the index that it reads.
--
-- A page is read from one index whose first columns are all given as equal and whose others have the order of the page:
-- so nothing before or behind it is touched. Other indexes could serve it too, at the cost of reading all of a tenant,
-- and where the planner believes tenants to be small it cannot tell which is better. So each index holds the rows that
-- meet a condition, which all rows meet, and serves only a statement that repeats it.

DROP INDEX idx_alerts_tenant_id, idx_alerts_status;

CREATE INDEX idx_alerts_tenant_id ON alerts (tenant_id, created_at DESC, id DESC)
WHERE severity >= '';
CREATE INDEX idx_alerts_status ON alerts (tenant_id, status, severity, created_at DESC, id DESC)
WHERE status >= '';
CREATE INDEX idx_alerts_rule_name ON alerts (tenant_id, rule_name, status, severity, created_at DESC, id DESC)
WHERE rule_name >= '';
