"""Checks events by OpenLineage's schemas, as its client has them: a class for each, made from the specification."""

import enum
import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import attr


def faults(event: Mapping[str, Any]) -> list[str]:
    """In what an event, as JSON, is not as the schemas have it."""
    classes = _classes()
    return list(_object_faults(classes[event["schemaURL"]], event, "event", classes))


def _classes() -> dict[str, type]:
    """The URL of each schema to its class."""
    import openlineage.client.generated as generated

    found = {}
    for module in pkgutil.iter_modules(generated.__path__, f"{generated.__name__}."):
        for each in vars(importlib.import_module(module.name)).values():
            if isinstance(each, type) and attr.has(each) and hasattr(each, "_get_schema"):
                found[each._get_schema()] = each
    return found


def _object_faults(kind: type, value: Any, path: str, classes: Mapping[str, type]) -> Iterator[str]:
    """Names that are missing or unknown, and values of other types than the class says."""
    if not isinstance(value, Mapping):
        yield f"{path}: expected an object, found {value!r}"
        return
    attributes, hints = attr.fields_dict(kind), typing.get_type_hints(kind)
    yield from (f"{path}.{name}: unknown" for name in value.keys() - attributes.keys())
    for name, attribute in attributes.items():
        if name not in value:
            if attribute.default is attr.NOTHING:
                yield f"{path}.{name}: missing"
            continue
        yield from _value_faults(hints[name], value[name], f"{path}.{name}", classes)
        if attribute.validator is not None:
            try:
                attribute.validator(None, attribute, value[name])
            except ValueError as error:
                yield f"{path}.{name}: {error}"


def _value_faults(hint: Any, value: Any, path: str, classes: Mapping[str, type]) -> Iterator[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if not any(not list(_value_faults(each, value, path, classes)) for each in arguments):
            yield from _value_faults(arguments[0], value, path, classes)
    elif origin is list:
        for number, each in enumerate(value):
            yield from _value_faults(arguments[0], each, f"{path}[{number}]", classes)
    elif origin is dict:
        for name, each in value.items():
            is_facet = attr.has(arguments[1]) and "_schemaURL" in attr.fields_dict(arguments[1])
            known = classes.get(each["_schemaURL"]) if is_facet else arguments[1]
            if known is None or (is_facet and not issubclass(known, arguments[1])):
                yield f"{path}.{name}: expected a {arguments[1].__name__}, found {each['_schemaURL']}"
            else:
                yield from _value_faults(known, each, f"{path}.{name}", classes)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value not in {each.value for each in hint}:
            yield f"{path}: expected a {hint.__name__}, found {value!r}"
    elif isinstance(hint, type) and attr.has(hint):
        yield from _object_faults(hint, value, path, classes)
    else:
        allowed = (int, float) if hint is float else (hint,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool):
            yield f"{path}: expected {hint}, found {value!r}"
