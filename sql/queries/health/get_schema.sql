-- The version of the schema; that it answers at all shows that the database does. No tenant: it reads no alert.

SELECT
    1 AS place,
    coalesce(max(version), 0) AS version
FROM alerts_service_migrations;
