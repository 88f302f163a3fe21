"""nginx of the Debian package, configured by nginx.conf in this folder."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.faults.service import port_of
from tests.support.processes import ServiceProcess, free_port

CONFIGURATION = Path(__file__).with_name("nginx.conf")
ADDRESSES = (":3101", ":3102", ":8080")  # of the two instances, and of nginx


@contextmanager
def running_nginx(folder: Path, services: list[ServiceProcess]) -> Iterator[str]:
    """Run nginx in front of two instances of the service until the end of the block, and yield its URL."""
    port, configuration = free_port(), folder / "nginx.conf"
    text = CONFIGURATION.read_text().replace("http {", f"http {{ access_log off; client_body_temp_path {folder};")
    for address, number in zip(ADDRESSES, (*(port_of(service) for service in services), port), strict=True):
        assert text.count(address) == 1
        text = text.replace(address, f":{number}")
    configuration.write_text(text)
    foreground = ("-g", f"daemon off; master_process off; pid {folder}/pid;")
    process = subprocess.Popen(
        ["nginx", "-c", configuration, "-p", folder, "-e", folder / "error.log", *foreground], stderr=subprocess.DEVNULL
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 10
    try:
        while not _is_healthy(url):
            assert time.monotonic() < deadline, (folder / "error.log").read_text()
            time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", verify=False).status_code == 200
    except httpx.TransportError:
        return False
