-- Record new alerts, a row for each of the arrays' places.
-- $1 tenant_id uuid[]
-- $2 rule_name text[]
-- $3 message text[]
-- $4 severity text[]

WITH asked AS (
    SELECT
        gen_random_uuid() AS id,
        place,
        tenant_id,
        rule_name,
        message,
        severity
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        WITH ORDINALITY AS asked (tenant_id, rule_name, message, severity, place)
),
inserted AS (
    INSERT INTO alerts (
        id,
        tenant_id,
        rule_name,
        message,
        severity
    )
    SELECT
        id,
        tenant_id,
        rule_name,
        message,
        severity
    FROM asked
    RETURNING
        id,
        tenant_id,
        rule_name,
        message,
        severity,
        status,
        created_at,
        updated_at,
        acknowledged_at,
        acknowledgment_note,
        resolved_at,
        resolution_note
)
SELECT
    asked.place,
    inserted.id,
    inserted.tenant_id,
    inserted.rule_name,
    inserted.message,
    inserted.severity,
    inserted.status,
    inserted.created_at,
    inserted.updated_at,
    inserted.acknowledged_at,
    inserted.acknowledgment_note,
    inserted.resolved_at,
    inserted.resolution_note
FROM asked
JOIN inserted ON inserted.id = asked.id;
