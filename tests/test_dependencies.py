"""The libraries under the service: bounded versions, and the undocumented attributes of them that the service uses.

A release that removes or renames such an attribute fails here, with the names of the attribute and of the module.
"""

import ast
import dis
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import httptools
import litestar
import pytest
import uvicorn
from asyncpg.pool import PoolConnectionProxy
from litestar.config.cors import CORSConfig
from litestar.handlers.base import BaseRouteHandler
from litestar.typing import FieldDefinition
from litestar.utils.signature import ParsedSignature
from packaging.requirements import Requirement
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.supervisors import Multiprocess, multiprocess

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(each) for each in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["embedded"])]

# Per class: the module that uses it, and the attributes, also those that the module overrides.
USED: dict[type[Any], tuple[str, str]] = {
    HttpToolsProtocol: (
        "http_protocol.py",
        """
        RequestResponseCycle _unset_keepalive_if_required connection_lost connection_made cycle data_received flow
        headers loop on_headers_complete on_message_begin on_message_complete on_response_complete parser pause_writing
        pipeline resume_writing shutdown timeout_keep_alive_handler transport url
        """,
    ),
    RequestResponseCycle: (
        "http_protocol.py response_cycle.py",
        """
        chunked_encoding default_headers disconnected expected_content_length flow keep_alive message_event more_body
        on_response receive response_complete response_started scope send transport waiting_for_100_continue
        """,
    ),
    FlowControl: ("http_protocol.py response_cycle.py", "pause_reading write_paused"),
    httptools.HttpRequestParser: ("http_protocol.py", "feed_data get_http_version get_method should_upgrade"),
    uvicorn.Server: (
        "graceful_shutdown.py",
        "config handle_exit lifespan server_state servers should_exit shutdown started startup",
    ),
    uvicorn.Config: ("graceful_shutdown.py", "http_protocol_class"),
    LifespanOn: ("graceful_shutdown.py", "state"),
    multiprocess.Process: ("graceful_shutdown.py", "_server config exitcode server"),
    Multiprocess: (
        "graceful_shutdown.py",
        "Process processes sockets terminate_all",
    ),  # it finds the class Process by its name
    asyncpg.Connection: ("pool.py", "get_reset_query"),
    PoolConnectionProxy: ("pool.py", "is_closed is_in_transaction terminate"),
    BaseRouteHandler: ("requests.py", "opt parsed_fn_signature"),
    ParsedSignature: ("requests.py", "parameters return_type"),
    FieldDefinition: ("openapi.py", "annotation has_default inner_types is_subclass_of"),
    CORSConfig: ("middleware.py", "allow_methods is_origin_allowed"),
    litestar.Response: ("responses.py", "to_asgi_response"),
}


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_every_runtime_dependency_has_an_upper_bound(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators & {"<", "<=", "==", "~="}, f"pyproject.toml: {requirement} has no upper bound"


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_the_tests_run_with_a_version_within_the_bounds(requirement: Requirement) -> None:
    installed = version(requirement.name)
    assert requirement.specifier.contains(installed), f"{requirement.name} {installed} is not {requirement.specifier}"


@pytest.mark.parametrize("class_", USED, ids=lambda class_: class_.__qualname__)
def test_the_libraries_have_the_attributes_that_the_service_uses(class_: type[Any]) -> None:
    module, attributes = USED[class_]
    library = class_.__module__.partition(".")[0]
    gone = set(attributes.split()) - attributes_of(class_)
    assert not gone, f"{library} {version(library)}: {class_.__qualname__} has no {sorted(gone)}, which {module} uses"


def test_every_private_attribute_of_a_library_is_checked() -> None:
    """A private attribute that no class or module of the service defines belongs to a library."""
    nodes = [node for path in (ROOT / "alerts_service").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    own = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    own |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    private = {name for name in used if not name.startswith("__")} - own - {"_exit"}  # of os, which documents it
    assert private <= {name for _, names in USED.values() for name in names.split()}


def attributes_of(class_: type[Any]) -> set[str]:
    """Name what a class defines, what its methods assign to instances, and the global names that they look up."""
    methods = [getattr(value, "fget", value) for base in class_.__mro__ for value in vars(base).values()]
    steps = [step for each in methods if hasattr(each, "__code__") for step in dis.get_instructions(each)]
    return {*dir(class_), *(step.argval for step in steps if step.opname in {"STORE_ATTR", "LOAD_GLOBAL"})}
