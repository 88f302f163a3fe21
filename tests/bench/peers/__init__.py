"""Three other implementations of the same API on the same schema, without code of the service.

- `fastapi_peer.py`: a straightforward implementation with FastAPI, Pydantic and asyncpg.
- `litestar_peer.py`: the same with the libraries of the service: Litestar, msgspec and asyncpg.
- `asgi_peer.py`: the lower bound of work per request: ASGI, msgspec and asyncpg without a framework.
"""
