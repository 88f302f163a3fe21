-- Alerts that say what they are about: a tenant has one open alert at most for a key, and a repeat is an occurrence of it.
--
-- An alert without a key has none of what follows. A repeat notes how it found the alert, because the statement that
-- makes it cannot see that: another may have changed the alert after it began.

ALTER TABLE alerts
    ADD COLUMN dedup_key varchar(255),
    ADD COLUMN occurrences integer,
    ADD COLUMN last_seen_at timestamptz,
    ADD COLUMN previous_status varchar(50),
    ADD COLUMN previous_severity varchar(50),
    ADD CONSTRAINT alerts_occurrences_fit_key CHECK (num_nonnulls(dedup_key, occurrences, last_seen_at) IN (0, 3));

CREATE UNIQUE INDEX idx_alerts_dedup_key ON alerts (tenant_id, dedup_key)
WHERE dedup_key IS NOT NULL AND status <> 'resolved';

-- How much a severity is, from 1.
CREATE FUNCTION severity_rank(severity text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_position(ARRAY['low', 'medium', 'high', 'critical'], severity);

-- What the JSON of an alert with a key ends in, behind the twelve fields that every alert has.
CREATE FUNCTION repeats_json(dedup_key text, occurrences integer, first_seen_at timestamptz, last_seen_at timestamptz)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN dedup_key IS NOT NULL THEN concat(
        ',"dedup_key":', to_json(dedup_key),
        ',"occurrences":', occurrences,
        ',"first_seen_at":', to_json(first_seen_at),
        ',"last_seen_at":', to_json(last_seen_at),
        '}'
    )
END;

-- The JSON of alerts, each with its end, if it has one.
CREATE FUNCTION with_repeats(alerts json, repeats text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT '[' || string_agg(left(alert::text, -1) || coalesce(end_, '}'), ',' ORDER BY number) || ']'
    FROM ROWS FROM (json_array_elements(alerts), unnest(repeats)) WITH ORDINALITY AS one (alert, end_, number)
);
