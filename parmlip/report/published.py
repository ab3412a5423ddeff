"""Published numbers beside those of a sweep: `[report] published`, a CSV file.

Its first line names the columns by dotted keys: swept keys say which point a row is about (values as in the input),
all others are results, such as `train.test_rmse_force`, in the units of the result file; a cell may be empty. Lines
that begin with # are about where the numbers come from.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parmlip.errors import ConfigError
from parmlip.report.columns import column_of, in_words, key_headings, swept_value
from parmlip.report.sweep import key_at


@dataclass(frozen=True)
class Published:
    """The numbers of a file."""

    about: tuple[str, ...]  # lines of comment
    keys: tuple[str, ...]  # swept ones
    results: tuple[str, ...]
    rows: tuple[tuple[tuple[Any, ...], tuple[float | None, ...]], ...]  # values of the keys, and of the results


def read_published(text: str, swept: Sequence[str]) -> Published:
    """The numbers in the text of a file.

    Raises
    ------
    ConfigError
        One line that says what is wrong with it.
    """
    where = "[report] published"
    lines = text.splitlines()
    about = tuple(line.lstrip("# ").rstrip() for line in lines if line.startswith("#"))
    told = [line for line in lines if line.strip() and not line.startswith("#")]
    table = list(csv.reader(told, skipinitialspace=True))
    if len(table) < 2:
        raise ConfigError(f"{where}: must have a line of dotted keys and at least one row")
    head, *body = [[cell.strip() for cell in row] for row in table]
    keys, results = [k for k in head if k in swept], [k for k in head if k not in swept]
    if not keys:
        raise ConfigError(f"{where}: no column is a swept key ({', '.join(swept) or 'there is no [sweep]'})")
    if not results or len(set(head)) < len(head):
        raise ConfigError(f"{where}: " + ("a column is there twice" if results else "there is no column of results"))
    rows = []
    for number, row in enumerate(body, start=1):
        if len(row) != len(head):
            raise ConfigError(f"{where}: row {number} has {len(row)} cells for {len(head)} columns")
        cells = dict(zip(head, row, strict=True))
        values = tuple(_number(cells[key], f"{where}: row {number}, {key}") for key in results)
        rows.append((tuple(_value(cells[key]) for key in keys), values))
    return Published(about, tuple(keys), tuple(results), tuple(rows))


def _value(cell: str) -> Any:
    """A value of a swept key; numbers as numbers."""
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        return float(cell)
    except ValueError:
        return {"true": True, "false": False}.get(cell, swept_value(cell))


def _number(cell: str, where: str) -> float | None:
    try:
        number = float(cell) if cell else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise ConfigError(f"{where} = {cell}: must be a number, or empty")
    return number


def beside(published: Published, values: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of text: for every point that was published a row with ours and theirs, and sums of times.

    A published row counts once, however many points it stands beside: against the sum of their times, of all choices
    the one that flatters ours least.
    """
    of_point = [tuple(swept_value(point.get(key)) for key in published.keys) for point in points]
    found = [(i, n) for i, mine in enumerate(of_point) for n, (of, _) in enumerate(published.rows) if of == mine]
    pairs = [(i, published.rows[n][1]) for i, n in found]
    lines = ["", "beside published numbers", *(f"  {line}" for line in published.about)]
    if not pairs:
        return [*lines, "  no point of the sweep was published"]
    keys = [*published.keys, *_telling(found, points, published.keys)]
    rows = [*key_headings(keys)]
    rows += [[in_words(points[i].get(key, "")) for key in keys] for i, _ in pairs]
    sums = []
    for column, key in enumerate(published.results):
        heading, unit, form = column_of(key)
        ours = [values.get(key_at(values, i, key)) for i, _ in pairs]
        theirs = [row[column] for _, row in pairs]
        if all(cell is None for cell in (*ours, *theirs)):
            continue
        for who, cells in ((heading, ours), ("publ.", theirs)):
            rows[0].append(who)
            rows[1].append(unit)
            for row, cell in zip(rows[2:], cells, strict=True):
                row.append("-" if cell is None else _shown(form, cell))
        both = [
            (n, float(a), b)
            for (_, n), a, b in zip(found, ours, theirs, strict=True)
            if a is not None and b is not None
        ]
        if unit == "s" and both:
            total, once = math.fsum(a for _, a, _ in both), {n: b for n, _, b in both}
            published_total = math.fsum(once.values())
            ratio = f", {published_total / total:.1f} times as long" if total > 0.0 else ""
            several = " (each published row once, all our points of it)" if len(once) < len(both) else ""
            sums.append(f"{heading} in all: {total:.1f} s, published {published_total:.1f} s{ratio}{several}")
    missing = len(published.rows) - len({n for _, n in found})
    lines += aligned(rows) + sums
    return lines + ([f"{missing} published rows have no point in the sweep"] if missing > 0 else [])


def _telling(found: Sequence[tuple[int, int]], points: Sequence[Mapping[str, Any]], told: Sequence[str]) -> list[str]:
    """Swept keys by which points of one published row differ."""
    groups = [[points[i] for i, n in found if n == row] for row in dict.fromkeys(n for _, n in found)]
    keys = dict.fromkeys(key for point in points for key in point if key not in told)
    return [key for key in keys if any(len({in_words(point.get(key, "")) for point in group}) > 1 for group in groups)]


def _shown(form: str, cell: Any) -> str:
    return form.format(round(cell) if form == "{:d}" else cell)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table with two lines of headings, right-aligned, and a rule below them."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(2, "-" * max(len(line) for line in lines))
    return lines
