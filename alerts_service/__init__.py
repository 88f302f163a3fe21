"""as-alerts-service: a multi-tenant HTTP service that stores alerts in PostgreSQL.

The path of a request:

1. `server` (uvicorn) receives it, and limits its size and time.
2. `web.middleware` assigns the request ID, checks origin and host, and writes the access log.
3. `web.guards` check the tenant's token or the service key.
4. The controller of a feature (`alerts`, `history`, `stats`, `health`) decodes the body into a Struct.
5. `db` combines concurrent requests into a batch and runs one file of `sql/queries` for it.
6. Its rows become Structs again, which are encoded as JSON.

Imports go one way: a package imports only from its left in this order, which `tests/test_imports.py` checks:

    errors, settings, logging_config, memory <- db, embedded <- web <- features, server <- bootstrap, app, cli, main

A feature imports no other feature, except the Structs of `alerts`. Only `cli` imports `server`.
"""
