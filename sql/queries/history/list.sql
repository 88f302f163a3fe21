-- Pages of tenants' events, oldest first, each from behind its cursor's event on: up to 50 events as JSON, and the place
-- of the last where more follow. A page is put together from the first rows of each type, which the index has in order.
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
        CASE WHEN after_occurred_at >= coalesce(since, '-infinity') THEN after_alert_id ELSE uuid_min END AS after_alert_id,
        CASE WHEN after_occurred_at >= coalesce(since, '-infinity') THEN after_sequence ELSE 0 END AS after_sequence
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::uuid[], $7::integer[])
        WITH ORDINALITY
        AS input (tenant_id, type, since, until, after_occurred_at, after_alert_id, after_sequence, batch_index)
    CROSS JOIN (SELECT '00000000-0000-0000-0000-000000000000'::uuid AS uuid_min) AS least
) AS input
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_to_json((array_agg(found))[:50])::text, '[]') AS events,
        CASE WHEN count(*) > 50 THEN (array_agg(found.occurred_at))[50] END AS last_occurred_at,
        CASE WHEN count(*) > 50 THEN (array_agg(found.alert_id))[50] END AS last_alert_id,
        CASE WHEN count(*) > 50 THEN (array_agg(found.sequence))[50] END AS last_sequence
    FROM (
        SELECT
            piece.id,
            piece.alert_id,
            piece.tenant_id,
            piece.sequence,
            piece.type,
            piece.from_status,
            piece.to_status,
            piece.note,
            piece.actor,
            piece.request_id,
            piece.occurred_at
        FROM unnest(
            CASE
                WHEN input.type IS NOT NULL THEN ARRAY[input.type]
                ELSE ARRAY['created', 'acknowledged', 'resolved', 'repeated', 'escalated']
            END
        ) AS one (type)
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
                AND type = one.type
                AND (occurred_at, alert_id, sequence)
                    > (input.after_occurred_at, input.after_alert_id, input.after_sequence)
                AND occurred_at < input.until
            ORDER BY occurred_at, alert_id, sequence
            LIMIT 51
        ) AS piece
        ORDER BY occurred_at, alert_id, sequence
        LIMIT 51
    ) AS found
) AS page;
