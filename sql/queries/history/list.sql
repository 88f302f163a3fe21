-- Return pages of tenants' events, oldest first: up to 50 events as JSON, and the position of the last event if
-- more events follow.
-- A page is merged from one index range of idx_alert_events_tenant_id for each event type.
-- $1 tenant_id uuid[]
-- $2 type text[]?
-- $3 since timestamptz[]?
-- $4 until timestamptz[]?
-- $5 after_occurred_at timestamptz[]?
-- $6 after_alert_id uuid[]?
-- $7 after_sequence int4[]?

SELECT
    input.batch_index,
    page.events,
    page.last_occurred_at,
    page.last_alert_id,
    page.last_sequence
FROM (
    SELECT
        batch_index,
        tenant_id,
        type,
        coalesce(until, 'infinity') AS until,
        greatest(after_occurred_at, since, '-infinity') AS after_occurred_at,
        CASE
            WHEN after_occurred_at >= coalesce(since, '-infinity') THEN after_alert_id
            ELSE '00000000-0000-0000-0000-000000000000'
        END AS after_alert_id,
        CASE WHEN after_occurred_at >= coalesce(since, '-infinity') THEN after_sequence ELSE 0 END AS after_sequence
    FROM unnest(
        $1::uuid[],
        $2::text[],
        $3::timestamptz[],
        $4::timestamptz[],
        $5::timestamptz[],
        $6::uuid[],
        $7::integer[]
    ) WITH ORDINALITY AS input (
        tenant_id,
        type,
        since,
        until,
        after_occurred_at,
        after_alert_id,
        after_sequence,
        batch_index
    )
) AS input
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_to_json((array_agg(event))[:50])::text, '[]') AS events,
        CASE WHEN count(*) > 50 THEN (array_agg(event.occurred_at))[50] END AS last_occurred_at,
        CASE WHEN count(*) > 50 THEN (array_agg(event.alert_id))[50] END AS last_alert_id,
        CASE WHEN count(*) > 50 THEN (array_agg(event.sequence))[50] END AS last_sequence
    FROM (
        SELECT
            index_range.id,
            index_range.alert_id,
            index_range.tenant_id,
            index_range.sequence,
            index_range.type,
            index_range.from_status,
            index_range.to_status,
            index_range.note,
            index_range.actor,
            index_range.request_id,
            index_range.occurred_at
        FROM unnest(
            CASE
                WHEN input.type IS NOT NULL THEN ARRAY[input.type]
                ELSE ARRAY['created', 'acknowledged', 'resolved', 'repeated', 'escalated']
            END
        ) AS types (type)
        CROSS JOIN LATERAL (
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
            WHERE tenant_id = input.tenant_id
                AND type = types.type
                AND (occurred_at, alert_id, sequence)
                    > (input.after_occurred_at, input.after_alert_id, input.after_sequence)
                AND occurred_at < input.until
            ORDER BY occurred_at, alert_id, sequence
            LIMIT 51
        ) AS index_range
        ORDER BY occurred_at, alert_id, sequence
        LIMIT 51
    ) AS event
) AS page;
