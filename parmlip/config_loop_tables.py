"""Checks of the key `dislocations` with kind = "loop"."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from parmlip.config_schema import show
from parmlip.errors import ConfigError

_OF_LOOPS: Final = ("diameter", "shape", "platelet", "centre", "corner", "tilt")
_OF_LINES: Final = ("line", "core", "core_minus", "cores", "polarity", "offsets")


def check_loop_keys(where: str, given: Any) -> None:
    """Raise `ConfigError` for keys of straight lines beside a loop, and the other way round; `where` names the key."""
    defaults = {field.name: field.default for field in fields(given)}
    is_loop = given.kind == "loop"
    for name in _OF_LINES if is_loop else _OF_LOOPS:
        if getattr(given, name) != defaults[name]:
            others = "straight lines" if is_loop else 'kind = "loop"'
            raise ConfigError(f"{where} {name} = {show(getattr(given, name))}: is for {others}; remove it")
    if is_loop and given.diameter is None:
        raise ConfigError(f"{where} diameter: is missing; L_D in lattice constants")
    if not is_loop and given.line is None:
        raise ConfigError(f"{where} line: is missing; the direction [u, v, w] of the lines")
