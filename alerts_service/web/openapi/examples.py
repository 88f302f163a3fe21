"""Examples of bodies, from the examples of their schemas."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

REF_TEMPLATE = "#/components/schemas/{name}"

Schemas: TypeAlias = Mapping[str, dict[str, Any]]


def verbatim(example: Any) -> msgspec.Raw:
    """Encode an example in advance, because Litestar removes every null from the document."""
    return msgspec.Raw(msgspec.json.encode(example))


def example_of(type_: Any, schemas: Schemas) -> Any:
    """Return an example of a type, or UNSET if a part of its schema has no example."""
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=REF_TEMPLATE)
    return _example(schema, schemas)


def _example(schema: dict[str, Any], schemas: Schemas) -> Any:
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema and "examples" not in schema:
        return _example(schema["anyOf"][0], schemas)
    if schema.get("type") == "array" and "examples" not in schema:
        item = _example(schema["items"], schemas)
        return item if item is UNSET else [item]
    if schema.get("type") == "object" and "examples" not in schema:
        return _object(schema, schemas)
    values = (*schema.get("examples", ()), schema.get("default"), schema.get("const"), *schema.get("enum", ()))
    return next((value for value in values if value is not None), UNSET)


def _object(schema: dict[str, Any], schemas: Schemas) -> Any:
    """Return an object with all properties that have examples, or UNSET if a required property has no example."""
    properties = {name: _example(property_, schemas) for name, property_ in schema["properties"].items()}
    if any(properties[name] is UNSET for name in schema["required"]):
        return UNSET
    return {name: example for name, example in properties.items() if example is not UNSET}
