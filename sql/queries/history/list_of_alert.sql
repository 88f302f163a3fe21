-- Return pages of alerts' events, oldest first: up to 50 events as JSON, and the position of the last event if
-- more events follow.
-- No row: the alert does not exist, or tenant_id is given and the alert belongs to another tenant.
-- $1 alert_id uuid[]
-- $2 tenant_id uuid[]?
-- $3 after_sequence int4[]?

SELECT
    input.batch_index,
    page.events,
    page.last_occurred_at,
    page.last_alert_id,
    page.last_sequence
FROM unnest($1::uuid[], $2::uuid[], $3::integer[])
    WITH ORDINALITY AS input (alert_id, tenant_id, after_sequence, batch_index)
JOIN alerts ON alerts.id = input.alert_id
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_to_json((array_agg(event))[:50])::text, '[]') AS events,
        CASE WHEN count(*) > 50 THEN (array_agg(event.occurred_at))[50] END AS last_occurred_at,
        CASE WHEN count(*) > 50 THEN (array_agg(event.alert_id))[50] END AS last_alert_id,
        CASE WHEN count(*) > 50 THEN (array_agg(event.sequence))[50] END AS last_sequence
    FROM (
        SELECT
            id,
            alert_id,
            tenant_id,
            sequence,
            type,
            from_status,
            to_status,
            note,
            actor,
            request_id,
            occurred_at
        FROM alert_events
        WHERE alert_id = input.alert_id
            AND sequence > coalesce(input.after_sequence, 0)
        ORDER BY sequence
        LIMIT 51
    ) AS event
) AS page
WHERE input.tenant_id IS NULL OR alerts.tenant_id = input.tenant_id;
