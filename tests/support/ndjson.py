"""NDJSON requests over raw connections: their bytes, and a reader of the results."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from alerts_service.settings import Settings
from tests.support.sockets import RawConnection

KIB = 1024
HEAD = b"POST /alerts/bulk HTTP/1.1\r\nHost: alerts.test\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def alert_line(tenant: UUID, message: str = "m") -> bytes:
    return json.dumps({"tenant_id": str(tenant), "rule_name": "r", "message": message}).encode() + b"\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def complete_request(body: bytes, head: bytes = HEAD) -> bytes:
    """Return a request with a Content-Length."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class ResultReader:
    """Reads the head of a response, and then its results as they arrive."""

    def __init__(self, connection: RawConnection) -> None:
        self.stream = connection.stream
        self.status = int(self.stream.readline().split()[1])
        lines = iter(self.stream.readline, b"\r\n")
        self.headers = dict(line.decode().strip().split(": ", 1) for line in lines)
        # Whether the last chunk of the response has arrived.
        self.complete = False

    def read_chunk(self) -> list[dict[str, Any]]:
        """Read the results of one chunk. The list is empty at the end of the response or of the connection."""
        size = int(self.stream.readline() or b"0", 16)
        lines = self.stream.read(size).splitlines()
        self.complete = size == 0 and self.stream.readline() == b"\r\n"
        if size:
            self.stream.readline()
        return [json.loads(line) for line in lines]

    def read_all(self) -> list[dict[str, Any]]:
        results = []
        while chunk_results := self.read_chunk():
            results += chunk_results
        return results


def send_in_thread(connection: RawConnection, parts: Sequence[bytes]) -> threading.Thread:
    """Send in a thread, so that the caller can read the results in the meantime."""

    def send() -> None:
        for part in parts:
            connection.send(part)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def stored_ids(settings: Settings, tenant: UUID) -> dict[str, str]:
    """Return the ids of a tenant's alerts by their messages."""

    async def fetch() -> dict[str, str]:
        connection = await asyncpg.connect(settings.database_url)
        rows = await connection.fetch("SELECT message, id FROM alerts WHERE tenant_id = $1", tenant)
        await connection.close()
        return {row["message"]: str(row["id"]) for row in rows}

    return asyncio.run(fetch())
