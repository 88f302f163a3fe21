"""The same endpoints on the same schema, written twice more, straight and without the service's own code.

`fastapi_peer.py` is what a team would write from the specification with FastAPI and Pydantic; `asgi_peer.py` is the
least that can answer at all: ASGI, msgspec and asyncpg.
"""
