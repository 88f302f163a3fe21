-- The version of the schema; that it answers at all shows that the database does. No tenant: it reads no alert.

SELECT
    1 AS batch_index,
    coalesce(max(version), 0) AS version
FROM alerts_service_migrations;
