"""The same endpoints on the same schema, written three times more, straight and without the service's own code.

`fastapi_peer.py` is what a team would write from the specification with FastAPI and Pydantic, `litestar_peer.py` what
it would write with Litestar and msgspec; `asgi_peer.py` is the least that can answer at all: ASGI, msgspec and asyncpg.
"""
