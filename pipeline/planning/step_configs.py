"""What reading and `prepare` do to raw data, as the manifest tells it: enough to do the same when a model is served.

    images   {"decode": codec, "columns": {...}, "reading": {...}, "reasons": {...}, "steps": [...],
              "encode": {name: codec}}
    tables   {"columns": {name: Arrow type}, "reading": {name: rules}, "reasons": {name: words}, "steps": [...]}

The columns of images are those that are joined to them. `sources.table_schema` says what rules are, and why a column is
of its type; a column of a source that does not tell has none. A step of Penstock's own is {"step": "image.resize",
"arguments": {...}}, by its `step_id` and `config`; a user's function {"python": "module.name"}; a codec
{"codec": "jpeg", "arguments": {...}}. A step that says which features it touches has {"touches": [...]} as well.
`transforms.step.as_json` says how arguments are stored.
"""

from typing import Any

from ...transforms.columns import Vectorized
from ...transforms.declare import touched
from ...transforms.step import Codec, Step, python_name
from ..prepare.preparer import Preparer


def describe(preparer: Preparer) -> dict[str, Any]:
    """The manifest's entry `prepare`."""
    schema = preparer.raw_schema
    read = {
        "columns": {field.name: str(field.type) for field in schema.columns},
        "reading": {name: schema.rules[name].to_json() for name in schema.columns.names if name in schema.rules},
        "reasons": dict(schema.reasons),
        "steps": [describe_step(function) for function in preparer.functions],
    }
    if preparer.decode is None:
        return read
    return {
        "decode": describe_codec(preparer.decode),
        **read,
        "encode": {name: describe_codec(encoding) for name, encoding in preparer.encodings.items()},
    }


def describe_step(step: object) -> dict[str, Any]:
    """One function of `prepare`."""
    function = step.function if isinstance(step, Vectorized) else step
    names = touched(step)
    touches = {} if names is None else {"touches": list(names)}
    if isinstance(function, Step):
        return {"step": function.step_id, "arguments": function.config(), **touches}
    return {"python": python_name(function), **touches}


def step_name(step: object) -> str:
    """The name of one function of `prepare`."""
    described = describe_step(step)
    return str(described.get("step") or described["python"])


def describe_codec(codec: Codec) -> dict[str, Any]:
    """How images are decoded, or pixels are stored."""
    return {"codec": codec.codec_id, "arguments": codec.config()}
