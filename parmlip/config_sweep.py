"""[sweep]: dotted keys with lists of values; the points are the product of the lists, the last one fastest.

Keys that go together stand in one, separated by commas, with a list of rows: `"a.x, b.y" = [[1, 2], [3, 4]]` gives two
points, not four.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from parmlip.config_schema import show, suggestion
from parmlip.config_tables import TABLES
from parmlip.errors import ConfigError

Sweep = Mapping[str, tuple[Any, ...]]

_NOT_SWEPT: Final = ("run", "report", "sweep")


def keys_of(name: str) -> tuple[str, ...]:
    """The dotted keys of one name in [sweep]."""
    return tuple(part.strip() for part in name.split(","))


def swept_keys(sweep: Sweep) -> tuple[str, ...]:
    """All dotted keys, those that go together one after the other."""
    return tuple(key for name in sweep for key in keys_of(name))


def choices(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Values of all keys at every point, in order."""
    for chosen in itertools.product(*sweep.values()):
        values: dict[str, Any] = {}
        for name, value in zip(sweep, chosen, strict=True):
            keys = keys_of(name)
            values |= zip(keys, [value] if len(keys) == 1 else value, strict=True)
        yield values


def read_sweep(table: Any) -> dict[str, tuple[Any, ...]]:
    """The checked [sweep] of an input.

    Raises
    ------
    ConfigError
        One line that names the key.
    """
    if not isinstance(table, Mapping):
        raise ConfigError("[sweep] must be a table of dotted keys and lists")
    sweep: dict[str, tuple[Any, ...]] = {}
    for name, listed in table.items():
        if isinstance(listed, Mapping):  # surrogate.total_degree = [...] without quotes
            inner = next(iter(listed), "key")
            raise ConfigError(f'[sweep] {name}: write the dotted key in quotes, "{name}.{inner}" = [...]')
        keys = keys_of(name)
        for key in keys:
            head = key.split(".")[0]
            if head in _NOT_SWEPT or head not in TABLES:
                swept = [t for t in TABLES if t not in _NOT_SWEPT]
                raise ConfigError(f"[sweep] {name}: no table to sweep{suggestion(head, swept, '[{}]')}")
            if keys.count(key) > 1 or key in swept_keys(sweep):
                raise ConfigError(f"[sweep] {name}: {key} is swept twice")
        if not isinstance(listed, list) or not listed:
            raise ConfigError(f"[sweep] {name} = {show(listed)}: must be a list of one or more values")
        if any(value in listed[:i] for i, value in enumerate(listed)):
            raise ConfigError(f"[sweep] {name} = {show(listed)}: has a value twice")
        for i, row in enumerate(listed if len(keys) > 1 else ()):
            if not isinstance(row, list) or len(row) != len(keys):
                raise ConfigError(
                    f"[sweep] {name}, row {i}: must be a list of {len(keys)} values, one for each key, not {show(row)}"
                )
        sweep[", ".join(keys)] = tuple(listed)
    return sweep
