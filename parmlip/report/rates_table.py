"""Barriers, attempt frequencies and rates of the stage rates as lines of text, jump by jump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.report.published import aligned
from parmlip.report.rates_figure import LAWS, Jumps, read_rates

_QUANTITIES: Final = (
    ("barrier", "eV", "barrier", "{:.6f}"),
    ("S", "k_B", "entropy", "{:.5f}"),
    ("nu*", "THz", "attempt_frequency", "{:.5f}"),
    ("+- nu*", "THz", "attempt_frequency_error", "{:.1e}"),
    ("barrier back", "eV", "barrier_back", "{:.6f}"),
    ("nu* back", "THz", "attempt_frequency_back", "{:.5f}"),
)
_CONNECTS: Final = {True: "yes", False: "no", None: "not checked"}


def rates_lines(path: Path) -> list[str]:
    """Lines of text: of each jump, law and point of a sweep the quantities and the rates; none without the stage.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    found = read_rates(path)
    if not found:
        return []
    rows = [(_place(found, one, name), one.values[name]) for one in found for name in one.names]
    lines = ["", *quantity_lines(rows)]
    # points of a sweep may have temperatures of their own
    for temperatures in dict.fromkeys(tuple(one.temperature_t) for one in found):
        of = [one for one in found if tuple(one.temperature_t) == temperatures]
        rates = [
            (_place(found, one, name), one.rate_jt[j], one.values[name])
            for one in of
            for j, name in enumerate(one.names)
        ]
        lines += ["", *rate_lines(rates, np.array(temperatures))]
    return lines


def quantity_lines(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A line for each jump: barrier, entropy, frequency there and back. Rows: name, results of the jump. Local."""
    cells = [["jump", *(q[0] for q in _QUANTITIES), "connects"], ["", *(q[1] for q in _QUANTITIES), ""]]
    for name, of in rows:
        values = [form.format(of[key]) for _, _, key, form in _QUANTITIES]
        cells.append([name, *values, _CONNECTS[_connects(of)]])
    return aligned(cells)


def rate_lines(
    rows: Sequence[tuple[str, NDArray[np.float64], Mapping[str, Any]]], temperature_t: NDArray[np.float64]
) -> list[str]:
    """A line for each jump: rates, 1/s. Rows: name, rates, results; other jumps' saddles have none. Local."""
    cells = [["rate (1/s)", *(f"{t:g} K" for t in temperature_t)], [""] * (1 + len(temperature_t))]
    for name, rate_t, of in rows:
        valid = _connects(of) is not False
        cells.append([name, *(f"{k:.4e}" if valid else "-" for k in rate_t)])
    lines = aligned(cells)
    return [lines[0], *lines[2:]]  # no line of units


def _connects(of: Mapping[str, Any]) -> bool | None:
    return bool(of["connects"]) if "connects" in of else None


def _place(found: Sequence[Jumps], one: Jumps, name: str) -> str:
    """Name of a jump, with the swept value and the law where there are several."""
    many = len({other.step for other in found}) > 1
    return ", ".join([*([one.label] if one.label else []), *([LAWS[one.step]] if many else []), name])
