-- Define the JSON of an alert in one place, for the statements that return pages of alerts.
--
-- The planner inlines these functions, so a page costs the same as with the columns written out (0.99 to 1.01 times).
-- Their bodies are strings, which record no dependency on columns: a later migration can alter the table.
-- With (alert).message, rather than alert.message, PostgreSQL names a missing column in its error.
-- Processes of an older version call repeats_json and with_repeats until they are restarted, so these functions stay.

-- The fields of every alert, in the order of its JSON.
CREATE TYPE alert_fields AS (
    id uuid,
    tenant_id uuid,
    rule_name text,
    message text,
    severity text,
    status text,
    created_at timestamptz,
    updated_at timestamptz,
    acknowledged_at timestamptz,
    acknowledgment_note text,
    resolved_at timestamptz,
    resolution_note text
);

CREATE FUNCTION alert_fields(alert alerts) RETURNS alert_fields LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT ROW(
    (alert).id,
    (alert).tenant_id,
    (alert).rule_name,
    (alert).message,
    (alert).severity,
    (alert).status,
    (alert).created_at,
    (alert).updated_at,
    (alert).acknowledged_at,
    (alert).acknowledgment_note,
    (alert).resolved_at,
    (alert).resolution_note
)::alert_fields
$$;

-- The end of the JSON of an alert with a dedup_key: its other fields and the closing brace. Null without a dedup_key.
CREATE FUNCTION occurrence_fields(alert alerts) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT CASE
    WHEN (alert).dedup_key IS NOT NULL THEN concat(
        ',"dedup_key":', to_json((alert).dedup_key),
        ',"occurrences":', (alert).occurrences,
        ',"first_seen_at":', to_json((alert).created_at),
        ',"last_seen_at":', to_json((alert).last_seen_at),
        '}'
    )
END
$$;

-- The bytes of an alert's message and notes. The length of a value is known without reading it from the TOAST table.
CREATE FUNCTION text_bytes(alert alerts) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT octet_length((alert).message)
    + coalesce(octet_length((alert).acknowledgment_note), 0)
    + coalesce(octet_length((alert).resolution_note), 0)
$$;

-- The JSON of alerts of which at least one has occurrence_fields.
CREATE FUNCTION add_occurrence_fields(alerts json, occurrence_fields text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT '[' || string_agg(left(alert::text, -1) || coalesce(ending, '}'), ',' ORDER BY number) || ']'
FROM ROWS FROM (json_array_elements(alerts), unnest(occurrence_fields)) WITH ORDINALITY AS item (alert, ending, number)
$$;

-- The JSON of a page. Both arrays have an element for each alert; they are null where the page is empty.
CREATE FUNCTION alerts_json(alerts alert_fields[], occurrence_fields text[]) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT CASE
    WHEN alerts IS NULL THEN '[]'
    WHEN num_nonnulls(VARIADIC occurrence_fields) = 0 THEN array_to_json(alerts)::text
    ELSE add_occurrence_fields(array_to_json(alerts), occurrence_fields)
END
$$;

-- Triggers refer to functions by their identity, so these renames need no lock on the table.
ALTER FUNCTION refuse_to_rewrite_history() RENAME TO reject_event_change;
ALTER FUNCTION refuse_to_forget() RENAME TO reject_event_deletion;
