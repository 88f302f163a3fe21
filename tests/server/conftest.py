"""Fixtures of the server tests."""

from collections.abc import Iterator

import pytest

from alerts_service.settings import Settings
from tests.support.processes import ServiceProcess, serving
from tests.support.sockets import RawConnection, raw_connections


@pytest.fixture(scope="module")
def service(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    cwd = tmp_path_factory.mktemp("cwd")
    with serving(cwd, DATABASE_URL=str(settings.database_url), AS_ALERTS_REQUEST_TIMEOUT="0.5") as process:
        yield process


@pytest.fixture
def connection(service: ServiceProcess) -> Iterator[RawConnection]:
    with raw_connections(service, 1) as (connection,):
        yield connection
