-- Return the version of the schema. The health check runs this statement.
-- No tenant: the statement reads no alert.

SELECT
    1 AS batch_index,
    coalesce(max(version), 0) AS version
FROM alerts_service_migrations;
