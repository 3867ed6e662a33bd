"""JSON Schemas of the types in the table, as the OpenAPI document wants them."""

from __future__ import annotations

from typing import Any

import msgspec

Schema = dict[str, Any]

REF = "#/components/schemas/"


def schemas_of(kinds: list[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return a schema for each type, and by name those that they refer to."""
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF + "{name}")
    shown = {name: _tidied(schema) for name, schema in sorted(components.items())}
    return [_tidied(schema) for schema in schemas], shown


def _tidied(schema: Any) -> Any:
    """Say the same more plainly.

    A member that may be null is absent then, so its default is not null: it is what its
    other type says, or nothing. A title that repeats the name says nothing.
    """
    if isinstance(schema, list):
        return [_tidied(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {
        name: {member: _tidied(each) for member, each in value.items()}
        if name == "properties"
        else value
        if name in {"examples", "default", "enum", "const"}
        else _tidied(value)
        for name, value in schema.items()
        if not (name == "title" or (name == "default" and value is None))
    }
    if tidied.get("required") == []:
        del tidied["required"]
    return _without_null(tidied)


def _without_null(schema: Schema) -> Schema:
    """Turn "one of these two, and the second is null" into a list of types."""
    choices = schema.get("anyOf")
    if not isinstance(choices, list) or {"type": "null"} not in choices or len(choices) != 2:
        return schema
    (other,) = (each for each in choices if each != {"type": "null"})
    if "enum" in other:
        other = {**other, "enum": [*other["enum"], None]}
    elif isinstance(other.get("type"), str):
        other = {**other, "type": [other["type"], "null"]}
    else:
        return schema
    return other | {name: value for name, value in schema.items() if name != "anyOf"}


def example_of(schema: Schema, components: dict[str, Schema]) -> Any:
    """Return a value that a schema allows, made of its members' examples."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].removeprefix(REF)], components)
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema or "default" in schema:
        return schema.get("default", schema.get("enum", [None])[0])
    choices = schema.get("anyOf")
    if isinstance(choices, list) and "type" not in schema:
        return example_of(choices[0], components)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return [example_of(schema["items"], components)]
    if kind == "object":
        return {
            name: example_of(member, components)
            for name, member in schema.get("properties", {}).items()
            if name in schema.get("required", ()) or "examples" in member
        }
    return {"string": "text", "integer": 1, "number": 1, "boolean": False}.get(str(kind))
