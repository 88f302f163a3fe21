"""as-alerts-service: a multi-tenant HTTP service that stores alerts in PostgreSQL.

The path of a request:

1. `server` (uvicorn) receives the request, and limits the size and the time of its head.
2. `web.middleware` assigns the request ID, checks origin and host, and writes the access log.
3. `web.guards` check the tenant token or the service key.
4. The controller of a feature (`alerts`, `history`, `stats`, `health`) decodes the body into a Struct. `web` limits the
   size and the time of the body.
5. `db` combines concurrent calls of a statement into a batch and executes its file of `sql/queries` for the batch. Bulk
   requests and requests with an idempotency key execute their statements on their own.
6. Each row becomes a Struct, which is encoded as JSON. PostgreSQL encodes the rows of lists as JSON.

Imports go one way. In this order, a package imports only from packages to its left (tested by `tests/test_imports.py`):

    errors, settings, logging_config, memory <- db, embedded <- web <- features, server <- bootstrap, app, cli, main

The features are `alerts`, `history`, `stats`, `health` and `retention`, which is a background job without routes. A
feature imports no other feature, except `alerts.structs`. Only `cli` imports `server`.
"""
