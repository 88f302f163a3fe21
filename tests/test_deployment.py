"""Defaults and variables of compose.yaml, Dockerfile and .env.example."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
DIGEST = f"@sha256:{'0123456789abcdef' * 4}"


def interpolated(value: str, **environment: str) -> str:
    """Replace `${NAME:-default}` as Compose does."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1]) or match[2], value)


def base_images(**build_args: str) -> list[str]:
    """Return the base image of each stage of the Dockerfile for these build arguments."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    head, *_ = dockerfile.partition("\nFROM ")
    variables = {**dict(re.findall(r"^ARG (\w+)=(\S+)$", head, re.MULTILINE)), **build_args}
    images = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    return [re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], image) for image in images]


def test_compose_publishes_on_loopback_by_default() -> None:
    (port,) = SERVICES["alerts"]["ports"]
    assert interpolated(port) == "127.0.0.1:3101:3101"
    assert interpolated(port, AS_ALERTS_PUBLISH_ADDRESS="0.0.0.0") == "0.0.0.0:3101:3101"
    assert "ports" not in SERVICES["postgres"]


@pytest.mark.parametrize("service", SERVICES)
def test_compose_limits_memory(service: str) -> None:
    assert re.fullmatch("[1-9][0-9]*[mg]", interpolated(SERVICES[service]["mem_limit"]))


@pytest.mark.parametrize("service", SERVICES)
def test_compose_rotates_logs(service: str) -> None:
    logging = SERVICES[service]["logging"]
    assert logging == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}


def test_the_postgresql_image_can_be_pinned() -> None:
    image = SERVICES["postgres"]["image"]
    assert interpolated(image) == "docker.io/library/postgres:18"
    assert interpolated(image, POSTGRES_IMAGE=f"postgres:18{DIGEST}") == f"postgres:18{DIGEST}"


def test_the_base_image_of_every_stage_can_be_pinned() -> None:
    assert base_images(PYTHON_IMAGE=f"python:3.13-slim{DIGEST}") == [f"python:3.13-slim{DIGEST}"] * 2


def test_compose_and_the_dockerfile_have_the_same_default_base_image() -> None:
    build_arg = SERVICES["alerts"]["build"]["args"]["PYTHON_IMAGE"]
    assert [interpolated(build_arg)] * 2 == base_images()
    assert interpolated(build_arg, PYTHON_IMAGE=f"python:3.13-slim{DIGEST}") == f"python:3.13-slim{DIGEST}"


def test_the_example_file_has_a_placeholder_for_the_database_password() -> None:
    (url,) = re.findall(r"^# DATABASE_URL=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert (urlsplit(url).username, urlsplit(url).password) == ("USER", "PASSWORD")
