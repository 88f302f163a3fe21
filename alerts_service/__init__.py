"""as-alerts-service: a multi-tenant HTTP service that stores alerts in PostgreSQL.

The path of a request:

1. `server` (uvicorn) receives the request, and limits its size and time.
2. `web.middleware` assigns the request ID, checks origin and host, and writes the access log.
3. `web.guards` check the tenant's token or the service key.
4. The controller of a feature (`alerts`, `history`, `stats`, `health`) decodes the body into a Struct.
5. `db` combines concurrent calls of a statement into a batch, and runs its file of `sql/queries` once for the batch.
6. The rows become Structs, which are encoded as JSON.

Imports go one way: a package imports only from packages to its left in this order (see `tests/test_imports.py`):

    errors, settings, logging_config, memory <- db, embedded <- web <- features, server <- bootstrap, app, cli, main

A feature imports no other feature, except the Structs of `alerts`. Only `cli` imports `server`.
"""
