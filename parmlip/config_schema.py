"""Strict reading of plain values (as tomllib gives them) into frozen dataclasses, and back.

A table is a frozen dataclass. Its annotations say the types, `key(...)` adds bounds and choices; everything
that does not fit is a `ConfigError` of one line that names the table, the key, the value and what would be right.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from parmlip.errors import ConfigError

T = TypeVar("T")

_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
_KINDS = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list", dict: "a table"}


def key(
    default: Any = dataclasses.MISSING,
    *,
    choices: Iterable[str] = (),
    later: Iterable[str] = (),
    meant: Mapping[str, str] | None = None,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    length: tuple[int, int] | None = None,
    about: str = "",
) -> Any:
    """A key of a table: its default (none: required) and what values are right.

    Bounds hold for numbers and for every member of a list of numbers; `later` are choices that a coming version has.
    `meant` says of words that other programs use what to write here.
    """
    metadata = {
        "choices": tuple(choices), "later": tuple(later), "meant": meant or {}, "above": above, "least": least,
        "most": most, "length": length, "about": about,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def key_name(field: dataclasses.Field[Any]) -> str:
    """The key of a field: its name, without the underscore that makes a word of Python's a name."""
    return field.name.removesuffix("_")


def suggestion(word: str, known: Iterable[str], quote: str = "'{}'") -> str:
    """`; did you mean 'x'?`, or the list of what is known when nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {quote.format(near[0])}?"
    return "; known: " + ", ".join(quote.format(name) for name in names)


def show(value: Any) -> str:
    """A value as the input file has it, cut when long."""
    text = toml_value(value)
    return text if len(text) <= 60 else text[:56] + " ..."


def read_table(kind: type[T], values: Any, where: str, later: Mapping[str, str] | None = None) -> T:
    """The dataclass `kind` from a plain table; `where` begins every message, such as `[relax]`."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be a table, not {_kind(values)}")
    hints = typing.get_type_hints(kind)
    fields = {key_name(field): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if later and name in later:
            raise ConfigError(f"{where} {name}: {later[name]}")
        if name not in fields:
            raise ConfigError(f"{where} unknown key '{name}'{suggestion(name, fields)}")
    read = {}
    for name, field in fields.items():
        if name in values:
            read[field.name] = read_value(hints[field.name], values[name], f"{where} {name}", field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            about = field.metadata.get("about", "")
            raise ConfigError(f"{where} missing key '{name}'" + (f": {about}" if about else ""))
    return kind(**read)


def read_value(hint: Any, value: Any, where: str, rules: Mapping[str, Any]) -> Any:
    """`value` as type `hint`: str, int, float, bool, dataclass, tuple[x, ...], dict[str, x], Literal, unions, Any."""
    if hint is Any:
        return value
    options = [o for o in _options(hint) if o is not type(None)]
    for option in options:
        if typing.get_origin(option) is typing.Literal and value in typing.get_args(option):
            return value
    kinds = [o for o in options if typing.get_origin(o) is not typing.Literal]
    for option in kinds:
        if _fits(option, value):
            return _convert(option, value, where, rules)
    words = [toml_value(w) for o in options if typing.get_origin(o) is typing.Literal for w in typing.get_args(o)]
    right = " or ".join([*words, *(_describe(o) for o in kinds)])
    raise ConfigError(f"{where} = {show(value)}: must be {right}, not {_kind(value)}")


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _kind(value: Any) -> str:
    return next((text for kind, text in _KINDS.items() if isinstance(value, kind)), type(value).__name__)


def _describe(option: Any) -> str:
    if typing.get_origin(option) is dict:
        return "a table"
    if typing.get_origin(option) is tuple:
        (member, *_) = typing.get_args(option)
        return "a list of " + {int: "integers", float: "numbers", str: "strings"}.get(member, "tables")
    if dataclasses.is_dataclass(option):
        return "a number or a table" if hasattr(option, "from_plain") else "a table"
    return _NAMES[option]


def _fits(option: Any, value: Any) -> bool:
    """Whether the outer type is right (members are checked when converted)."""
    if typing.get_origin(option) is tuple:
        return isinstance(value, (list, tuple))
    if typing.get_origin(option) is dict:
        return isinstance(value, Mapping)
    if dataclasses.is_dataclass(option):
        short = hasattr(option, "from_plain") and isinstance(value, (int, float)) and not isinstance(value, bool)
        return isinstance(value, Mapping) or short
    if option is bool or isinstance(value, bool):
        return option is bool and isinstance(value, bool)
    if option is float:
        return isinstance(value, (int, float))
    return isinstance(value, option)


def _convert(option: Any, value: Any, where: str, rules: Mapping[str, Any]) -> Any:
    if typing.get_origin(option) is tuple:
        low, high = rules.get("length") or (0, math.inf)
        if not low <= len(value) <= high:
            count = f"{low}" if low == high else f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise ConfigError(f"{where} = {show(value)}: must have {count} members, not {len(value)}")
        member = typing.get_args(option)[0]
        return tuple(read_value(member, v, f"{where}[{i}]", rules) for i, v in enumerate(value))
    if typing.get_origin(option) is dict:  # names that the user chooses, such as configuration types
        member = typing.get_args(option)[1]
        return {name: read_value(member, v, f"{where}.{toml_key(name)}", rules) for name, v in value.items()}
    if dataclasses.is_dataclass(option):
        table = value if isinstance(value, Mapping) else option.from_plain(value)  # type: ignore[union-attr]
        return read_table(option, table, where)  # type: ignore[arg-type]
    if option is str:
        _check_choice(value, where, rules)
        return value
    if option is not bool:
        _check_bounds(value, where, rules)
    return option(value)


def _check_choice(value: str, where: str, rules: Mapping[str, Any]) -> None:
    choices = rules.get("choices") or ()
    if value in (rules.get("later") or ()):
        here = ", ".join(f'"{c}"' for c in choices)
        raise ConfigError(f'{where} = "{value}": not available in this version yet; available: {here}')
    if choices and value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        hint = f' (did you mean "{near[0]}"?)' if near else ""
        if value in rules["meant"]:
            hint = f" ({rules['meant'][value]})"
        raise ConfigError(f"{where} = {show(value)}: must be one of " + ", ".join(f'"{c}"' for c in choices) + hint)


def _check_bounds(value: float, where: str, rules: Mapping[str, Any]) -> None:
    above, least, most = rules.get("above"), rules.get("least"), rules.get("most")
    if not math.isfinite(value):
        raise ConfigError(f"{where} = {value}: must be finite")
    if above is not None and not value > above:
        raise ConfigError(f"{where} = {show(value)}: must be greater than {above:g}")
    if least is not None and value < least:
        raise ConfigError(f"{where} = {show(value)}: must be at least {least:g}")
    if most is not None and value > most:
        raise ConfigError(f"{where} = {show(value)}: must be at most {most:g}")


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as the tables and lists that tomllib would have given; None is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((key_name(f), getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: plain(v) for name, v in pairs if v is not None}
    if isinstance(value, Mapping):
        return {name: plain(v) for name, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def toml_value(value: Any) -> str:
    """One plain value as TOML text on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return repr(value) if isinstance(value, (int, float)) else str(value)


def toml_key(name: str) -> str:
    """A bare key where TOML allows it, else a quoted one."""
    bare = bool(name) and all(c.isascii() and (c.isalnum() or c in "_-") for c in name)
    return name if bare else toml_value(name)


def toml_document(tables: Mapping[str, Any]) -> str:
    """Plain tables as a TOML document: a list of tables becomes `[[name]]` blocks, everything below is inline."""
    lines: list[str] = []
    for name, table in tables.items():
        blocks = [(f"[[{name}]]", t) for t in table] if isinstance(table, list) else [(f"[{name}]", table)]
        for head, block in blocks:
            lines += [head, *(f"{toml_key(k)} = {toml_value(v)}" for k, v in block.items()), ""]
    return "\n".join(lines)
