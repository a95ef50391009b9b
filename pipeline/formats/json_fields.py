"""Reads JSON objects field by field: a field that is missing or of another type is named by its key."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JsonObject:
    """A JSON object. Every method raises ValueError where a field is not what it says.

    Attributes:
      fields: The object's fields, by name.
      key: Where the object lies in its document, as `splits.train`; empty for the document itself.
    """

    fields: Mapping[str, Any]
    key: str = ""

    @classmethod
    def of(cls, value: object, key: str = "") -> "JsonObject":
        """Takes a decoded JSON value that has to be an object."""
        if not isinstance(value, dict):
            raise mismatch(key, "a JSON object", value)
        return cls(value, key)

    def key_of(self, name: str) -> str:
        """A field's key in the document."""
        return f"{self.key}.{name}" if self.key else name

    def value(self, name: str) -> Any:
        """A field, whatever it is."""
        if name not in self.fields:
            raise ValueError(f"key {self.key_of(name)}: expected a value, found none")
        return self.fields[name]

    def string(self, name: str) -> str:
        """A string."""
        value = self.value(name)
        if not isinstance(value, str):
            raise mismatch(self.key_of(name), "a string", value)
        return value

    def optional_string(self, name: str) -> str | None:
        """A string or null."""
        return None if self.value(name) is None else self.string(name)

    def boolean(self, name: str) -> bool:
        """A boolean."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise mismatch(self.key_of(name), "true or false", value)
        return value

    def count(self, name: str) -> int:
        """A whole number from 0."""
        value = self.value(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise mismatch(self.key_of(name), "a whole number from 0", value)
        return value

    def path(self, name: str) -> str:
        """A relative path with `/` that leads to nothing outside of the folder that it starts from."""
        value = self.string(name)
        if "\\" in value or any(part in ("", ".", "..") for part in value.split("/")):
            raise mismatch(self.key_of(name), "a relative path that stays in the dataset, such as a/b", value)
        return value

    def object(self, name: str) -> "JsonObject":
        """An object."""
        return JsonObject.of(self.value(name), self.key_of(name))

    def optional_object(self, name: str) -> "JsonObject | None":
        """An object or null."""
        return None if self.value(name) is None else self.object(name)

    def array(self, name: str) -> list[Any]:
        """A list of whatever values."""
        value = self.value(name)
        if not isinstance(value, list):
            raise mismatch(self.key_of(name), "a list", value)
        return value

    def objects(self, name: str) -> Iterator["JsonObject"]:
        """A list of objects."""
        for number, value in enumerate(self.array(name)):
            yield JsonObject.of(value, f"{self.key_of(name)}[{number}]")

    def strings(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self.array(name)
        if not all(isinstance(value, str) for value in values):
            raise mismatch(self.key_of(name), "a list of strings", values)
        return tuple(values)

    def named_objects(self) -> Iterator[tuple[str, "JsonObject"]]:
        """This object's fields, of which each is an object."""
        for name in self.fields:
            yield name, self.object(name)

    def named_strings(self) -> dict[str, str]:
        """This object's fields, of which each is a string."""
        return {name: self.string(name) for name in self.fields}

    def named_counts(self) -> dict[str, int]:
        """This object's fields, of which each is a whole number from 0."""
        return {name: self.count(name) for name in self.fields}


def mismatch(key: str, expected: str, found: object) -> ValueError:
    """What is wrong with the value of a key."""
    where = f"key {key}: " if key else ""
    return ValueError(f"{where}expected {expected}, found {found!r:.80}")
