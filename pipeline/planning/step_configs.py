"""What reading and `prepare` do to raw data, as the manifest tells it: enough to do the same when a model is served.

    images   {"decode": codec, "columns": {...}, "reading": {...}, "steps": [...], "encode": {name: codec}}
    tables   {"columns": {name: Arrow type}, "reading": {name: rules}, "steps": [...]}

The columns of images are those that are joined to them. `sources.table_schema` says what rules are; a column of a
source that does not tell has none. A step of Penstock's own is {"step": "image.resize", "arguments": {...}}, by its
`step_id` and `config`; a user's function {"python": "module.name"}; a codec {"codec": "jpeg", "arguments": {...}}.
`transforms.step.as_json` says how arguments are stored.
"""

from collections.abc import Mapping
from typing import Any

from ...transforms.columns import Vectorized
from ...transforms.step import Codec, Step, python_name
from ..formats.features import Feature
from ..prepare.images import Preparer
from ..prepare.tables import RecordPreparer
from ..sources.table_schema import TableSchema


def describe(
    preparer: Preparer | RecordPreparer, features: Mapping[str, Feature], joined: TableSchema
) -> dict[str, Any]:
    """The manifest's entry `prepare`.

    Args:
      preparer: What a run prepares examples by.
      features: What comes out.
      joined: The columns that are joined to images.
    """
    schema = preparer.schema if isinstance(preparer, RecordPreparer) else joined
    read = {
        "columns": {field.name: str(field.type) for field in schema.columns},
        "reading": {name: schema.rules[name].to_json() for name in schema.columns.names if name in schema.rules},
        "steps": [describe_step(step) for step in preparer.steps],
    }
    if isinstance(preparer, RecordPreparer):
        return read
    pixels = [name for name, feature in features.items() if feature.is_pixels]
    return {
        "decode": describe_codec(preparer.decode),
        **read,
        "encode": {name: describe_codec(preparer.encoding(name)) for name in pixels},
    }


def describe_step(step: object) -> dict[str, Any]:
    """One function of `prepare`."""
    function = step.function if isinstance(step, Vectorized) else step
    if isinstance(function, Step):
        return {"step": function.step_id, "arguments": function.config()}
    return {"python": python_name(function)}


def describe_codec(codec: Codec) -> dict[str, Any]:
    """How images are decoded, or pixels are stored."""
    return {"codec": codec.codec_id, "arguments": codec.config()}
