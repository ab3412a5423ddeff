"""Results as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from parmlip.io.hdf5 import ResultFile, scalar_fields, scalars
from parmlip.report.bounds import bound_lines
from parmlip.report.columns import (
    COLUMNS,
    IF_SWEPT,
    OF_LINES,
    column_of,
    in_words,
    key_headings,
    matching_keys,
    symbols_line,
)
from parmlip.report.core_maps import core_lines
from parmlip.report.dislocations import line_slopes, point_errors, read_line_series
from parmlip.report.domains import read_series, slope_lines
from parmlip.report.elastic_table import elastic_lines
from parmlip.report.entropy_figure import entropy_lines
from parmlip.report.entropy_table import formation_lines
from parmlip.report.published import aligned, beside, read_published
from parmlip.report.qmmm_growth import growth_lines
from parmlip.report.qmmm_patch import patch_lines
from parmlip.report.qmmm_stability import stability_lines
from parmlip.report.qmmm_table import coupled_lines
from parmlip.report.rates_table import rates_lines
from parmlip.report.separation import read_separations, separation_lines
from parmlip.report.sweep import QUANTITIES, THEORY, Sweep, energies_line, key_at, read_sweep

# What cells with lines tell: of periodic ones alone, of all.
_LINES: Final = ("build.core_separation", "build.n_cores")


def table(path: Path) -> list[str]:
    """Lines of text: for a sweep a row for each point and the fitted slopes, else one line for each result; jumps.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    points = ResultFile(path).points()
    lines = _sweep_table(path, points) if points else _single_table(path)
    return lines + patch_lines(path) + core_lines(path) + rates_lines(path) + _type_tables(path, len(points))


def _sweep_table(path: Path, points: Sequence[dict[str, Any]]) -> list[str]:
    values, meta = scalars(path), ResultFile(path).meta()
    swept = list(dict.fromkeys(key for point in points for key in point))
    rows = [*key_headings(swept), *([in_words(point.get(key, "")) for key in swept] for point in points)]
    of_lines = read_line_series(path)
    far = point_errors(path) if of_lines else {}  # beyond one radius for all points
    lacks_test = not any(key.endswith(("train.test_rmse_force", "train.test_rmse_gradient")) for key in values)
    for name in [*(name for _, name, _ in COLUMNS), *matching_keys(values)]:
        heading, unit, form = column_of(name)
        key = name.replace("test_", "") if lacks_test else name
        found = [values.get(key_at(values, i, key)) for i in range(len(points))]
        if heading == "far error" and of_lines:
            found = [far.get(i, {}).get("geometry_error_far") for i in range(len(points))]
        if all(value is None for value in found) or (heading in IF_SWEPT and len(set(found)) == 1):
            continue
        if heading in OF_LINES and not any(key.endswith(_LINES) for key in values):
            continue
        rows[0].append(heading)
        rows[1].append(unit)
        for row, value in zip(rows[2:], found, strict=True):
            row.append("-" if value is None else _yes(form.format(value)))
    lines = aligned(rows)
    lines += symbols_line(rows[0])
    if of_lines:
        lines += line_slopes(of_lines)
    else:
        series = read_series(path)  # with training cells of several sizes one slope over all points would mean nothing
        lines += slope_lines(series) if series else _slope_lines(read_sweep(path))
    lines += separation_lines(read_separations(path))
    lines += elastic_lines(path)
    lines += bound_lines(path)
    lines += coupled_lines(path)
    lines += stability_lines(path)
    if meta.get("published"):
        lines += beside(read_published(meta["published"], swept), values, points)
    return lines


# Heading and unit, key and scale of the columns of a data set's errors.
TYPE_COLUMNS: Final = (
    ("energies", "", "n_energies", 1.0),
    ("RMSE", "meV/atom", "rmse_energy_per_atom", 1e3),
    ("largest", "meV/atom", "max_energy_error_per_atom", 1e3),
    ("forces", "components", "n_forces", 1.0),
    ("RMSE", "meV/A", "rmse_force", 1e3),
    ("largest", "meV/A", "max_force_error", 1e3),
    ("virials", "", "n_virials", 1.0),
    ("RMSE", "meV/atom", "rmse_virial_per_atom", 1e3),
)


def _type_tables(path: Path, n_points: int) -> list[str]:
    """Errors of a data set by configuration type; of a sweep, for every point."""
    file, lines = ResultFile(path), growth_lines(path)
    for point in [None, *range(n_points)]:
        lines += formation_lines(file, point) + entropy_lines(file, point)
        if not file.complete("train", point) or "errors" not in file.names("train", point):
            continue
        lines += ["", "errors by configuration type" + ("" if point is None else f", point {point}")]
        lines += error_table(file.read("train", "errors", point))
    return lines


def error_table(errors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Lines of text: errors by set ("training", "test"), configuration type and quantity."""
    rows = [["set", "type", *(c[0] for c in TYPE_COLUMNS)], ["", "", *(c[1] for c in TYPE_COLUMNS)]]
    for name, by_type in errors.items():
        for kind, found in by_type.items():
            cells = [
                "-" if key not in found else f"{found[key]:d}" if key[:2] == "n_" else f"{found[key] * scale:.4g}"
                for _, _, key, scale in TYPE_COLUMNS
            ]
            rows.append([name, kind, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    forms = [f"{{:{'<' if i < 2 else '>'}{width}}}" for i, width in enumerate(widths)]
    lines = ["  ".join(forms).format(*row) for row in rows]
    lines.insert(2, "-" * max(len(line) for line in lines))
    return lines


def _slope_lines(sweep: Sweep | None) -> list[str]:
    if sweep is None:
        return []
    lines = []
    for quantity, name in QUANTITIES.items():
        slope = sweep.slope(quantity)
        if slope is not None:
            low, high = slope.interval()
            spread = f", 95 % interval {low:.2f} to {high:.2f}"
            theory = f"; theory {THEORY[quantity]}" if quantity in THEORY else ""
            lines.append(f"{name} ~ (force RMSE)^{slope.slope:.2f} over {slope.n} points{spread}{theory}")
        if quantity == "energy_error" and (line := energies_line(sweep.x, sweep.rmse_energy, slope)):
            lines.append(line)
    others = int(np.count_nonzero(~sweep.same_basin))
    if others:
        lines.append(f"{others} point{'s' if others > 1 else ''} in another basin, not in the fits")
    return lines


def _single_table(path: Path) -> list[str]:
    rows = [
        (key, f"{value:.8g}" if isinstance(value, float) else _yes(str(value)), units)
        for key, value, units in scalar_fields(path)
        if key.count(".") == 1 and key != "qmmm.same"  # a digest, by which points find where to start
    ]
    if not rows:
        return ["no results yet"]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [f"{key:<{widths[0]}}  {value:>{widths[1]}}  {units}".rstrip() for key, value, units in rows]


def _yes(text: str) -> str:
    return {"True": "yes", "False": "no"}.get(text, text)
