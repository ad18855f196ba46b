"""Records from TOML and JSON, and back: strict about types, missing keys and unknown ones."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from edgeq.errors import ConfigError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Record = TypeVar("Record")


def from_data(record: type[Record], data: object, *, where: str) -> Record:
    """Build ``record`` from plain data.

    ``where`` names the source in messages. An unknown key raises
    ConfigError with the nearest known one; so do a missing key and a value
    of the wrong type.
    """
    for path, key, known in _unknown_keys(record, data, ""):
        raise ConfigError(
            f"{where}: unknown key {path + key!r}",
            hint=did_you_mean(key, known) or f"known here: {', '.join(sorted(known))}",
        )
    try:
        return msgspec.convert(data, record, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_in_plain_words(str(error))}", hint="mend that value and try again") from error


def to_data(record: object) -> Any:  # noqa: ANN401  # plain data is whatever the record holds
    """The record as dicts, lists, strings and numbers, in the order of its fields."""
    return msgspec.to_builtins(record)


def load_toml(record: type[Record], path: Path) -> Record:
    """Read ``record`` from the TOML file at ``path``."""
    return from_data(record, read_toml(path), where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; ConfigError if it cannot be read or parsed."""
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", hint="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="check its permissions and encoding") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint="mend that line") from error
    return found


def from_json(record: type[Record], text: bytes | str, *, where: str) -> Record:
    """Read a record that edgeq wrote as JSON.

    Keys that a newer edgeq added are ignored here, as ``schema`` tells
    versions apart; everything else is as strict as :func:`from_data`.
    """
    try:
        return msgspec.json.decode(text, type=record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{where} is damaged or was written by another tool: {_in_plain_words(str(error))}",
            hint="write it again with the command that made it",
        ) from error


def to_json(record: object, *, indent: int = 0) -> str:
    """The record as JSON; one line unless ``indent`` is given."""
    data = msgspec.json.encode(record)
    return (msgspec.json.format(data, indent=indent) if indent else data).decode()


def _in_plain_words(message: str) -> str:
    """Turn a validator's "Expected `int`, got `str` - at `$.cores`" into "cores: expected ..."."""
    message = message.replace("Object missing required field", "missing key")
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", message)
    if not found:
        return message
    what, path = found.groups()
    return f"{path}: {what[0].lower()}{what[1:]}" if path else what


def _unknown_keys(record: Any, data: object, path: str) -> Iterator[tuple[str, str, set[str]]]:  # noqa: ANN401
    """Each key of ``data`` that no field of ``record`` takes: (where, key, the known keys there)."""
    origin = typing.get_origin(record)
    if origin in (types.UnionType, typing.Union):
        for option in typing.get_args(record):
            yield from _unknown_keys(option, data, path)
    elif origin is tuple and isinstance(data, list):
        inner = typing.get_args(record)[0]
        for index, item in enumerate(data):
            yield from _unknown_keys(inner, item, f"{path.removesuffix('.')}[{index}].")
    elif origin is dict and isinstance(data, dict):
        inner = typing.get_args(record)[1]
        for key, item in data.items():
            yield from _unknown_keys(inner, item, f"{path}{key}.")
    elif dataclasses.is_dataclass(record) and isinstance(data, dict):
        hints = typing.get_type_hints(record)
        for key, item in data.items():
            if key in hints:
                yield from _unknown_keys(hints[key], item, f"{path}{key}.")
            else:
                yield path, str(key), set(hints)
