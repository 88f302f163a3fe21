-- The table of the specification. Where another installation made it already, with its rows, it is adopted.

CREATE TABLE IF NOT EXISTS alerts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id UUID NOT NULL,
    rule_name VARCHAR(255),
    message TEXT NOT NULL,
    severity VARCHAR(50) DEFAULT 'medium',
    status VARCHAR(50) DEFAULT 'triggered',
    created_at TIMESTAMP DEFAULT NOW(),
    updated_at TIMESTAMP DEFAULT NOW(),
    acknowledged_at TIMESTAMP NULL,
    acknowledgment_note TEXT NULL,
    resolved_at TIMESTAMP NULL,
    resolution_note TEXT NULL
);

CREATE INDEX IF NOT EXISTS idx_alerts_tenant_id ON alerts (tenant_id);
CREATE INDEX IF NOT EXISTS idx_alerts_status ON alerts (status);
CREATE INDEX IF NOT EXISTS idx_alerts_created_at ON alerts (created_at);
