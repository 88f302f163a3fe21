"""Health: liveness of the process, readiness of the database, and details for operators."""
