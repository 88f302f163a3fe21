"""SQL of the peers, one statement per request."""

COLUMNS = """id, tenant_id, rule_name, message, severity, status, created_at, updated_at,
    acknowledged_at, acknowledgment_note, resolved_at, resolution_note"""

CREATE = f"""
INSERT INTO alerts (tenant_id, rule_name, message, severity) VALUES ($1, $2, $3, $4) RETURNING {COLUMNS}
"""
GET = f"SELECT {COLUMNS} FROM alerts WHERE id = $1"
LIST = f"""
SELECT {COLUMNS} FROM alerts
WHERE tenant_id = $1 AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR severity = $3)
ORDER BY created_at DESC, id DESC LIMIT 50
"""
ACKNOWLEDGE = f"""
UPDATE alerts SET status = 'acknowledged', acknowledged_at = now(), acknowledgment_note = $2, updated_at = now()
WHERE id = $1 AND status = 'triggered' RETURNING {COLUMNS}
"""
RESOLVE = f"""
UPDATE alerts SET status = 'resolved', resolved_at = now(), resolution_note = $2, updated_at = now()
WHERE id = $1 AND status IN ('triggered', 'acknowledged') RETURNING {COLUMNS}
"""
STATS = """
SELECT count(*) AS total,
    count(*) FILTER (WHERE status = 'triggered') AS triggered,
    count(*) FILTER (WHERE status = 'acknowledged') AS acknowledged,
    count(*) FILTER (WHERE status = 'resolved') AS resolved
FROM alerts WHERE tenant_id = $1
"""
