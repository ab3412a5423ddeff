"""Errors of QM/MM couplings against R_QM, of a sweep over it: series, fitted slopes and those of the theory."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.errors import Slope
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words
from parmlip.report.sweep import slope_of

RealArray = NDArray[np.float64]

QUANTITIES: Final[Mapping[str, str]] = {
    "geometry_error": "geometry error", "energy_error": "energy error", "energy_excess": "energy excess",
}  # fmt: skip
_POINTS: Final = 3  # fewer make no line


@dataclass(frozen=True)
class Coupled:
    """Points of a sweep that differ in R_QM alone, in ascending order of it."""

    label: str  # what they have in common of what is swept; empty if there is but one series
    kind: str  # "energy" or "force"
    radius: RealArray  # (n,) angstrom
    errors: dict[str, RealArray]  # (n,) by `QUANTITIES`, NaN where it is missing
    same_basin: NDArray[np.bool_]  # (n,)
    rate: float | None  # of the geometry error, -3 for R^-3, where the theory says it without a fit

    def slope(self, quantity: str) -> Slope | None:
        """Fitted slope of log(error) against log(R_QM); None where it would say nothing."""
        error = self.errors[quantity]
        use = self.same_basin & np.isfinite(error) & (error > 0.0)
        return slope_of(self.radius[use], error[use])


def read_coupled(path: Path) -> list[Coupled]:
    """Series over at least three radii; none without the stage qmmm, a truth or a sweep."""
    values, file = scalars(path), ResultFile(path)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    inputs = None
    for i, point in enumerate(file.points()):
        name = f"sweep.{i}.qmmm."
        if f"{name}geometry_error" not in values:
            continue
        inputs = tomllib.loads(str(file.meta()["config"])) if inputs is None else inputs
        label = ", ".join(f"{key} = {in_words(value)}" for key, value in point.items() if key != "qmmm.radius")
        row: dict[str, Any] = {q: float(values.get(f"{name}{q}", np.nan)) for q in QUANTITIES}
        row |= {"radius": float(values[f"{name}radius_angstrom"]), "same": bool(values[f"{name}same_basin"])}
        row["rate"] = _rate({**_flat(inputs), **point}, str(values[f"{name}kind"]))
        found.setdefault((label, str(values[f"{name}kind"])), []).append(row)
    series = []
    for (label, kind), rows in found.items():
        rows.sort(key=lambda row: row["radius"])
        radius = np.array([row["radius"] for row in rows])
        if len(np.unique(radius)) >= _POINTS:
            errors = {q: np.array([row[q] for row in rows]) for q in QUANTITIES}
            series.append(
                Coupled(label, kind, radius, errors, np.array([row["same"] for row in rows]), rows[0]["rate"])
            )
    return series


def coupled_lines(path: Path) -> list[str]:
    """Lines of text: for every series the fitted slope of each error, and the theory's."""
    lines = []
    for one in read_coupled(path):
        before = f"{one.label}: " if one.label else ""
        for quantity, words in QUANTITIES.items():
            slope = one.slope(quantity)
            if slope is None:
                continue
            low, high = slope.interval()
            theory = ""
            if one.rate is not None and quantity == "geometry_error":
                theory = f"; theory R_QM^{one.rate:g}"
            lines.append(
                f"{before}{one.kind} mixing, {words} ~ R_QM^{slope.slope:.2f} over {slope.n} points, "
                f"95 % interval {low:.2f} to {high:.2f}{theory}"
            )
    return lines


def _rate(values: Mapping[str, Any], kind: str) -> float | None:
    """Table 3.1 of Chen, Ortner, Wang (2021) for an MM law that meets all matching conditions up to its order.

    An expansion of the site energies to order K has K_E = K and K_F = K - 1.
    """
    if values.get("surrogate.kind") != "taylor" or values.get("qmmm.mm") != "surrogate":
        return None
    if any(values.get(f"surrogate.{name}") for name in ("force_constant_error", "third_order_error")):
        return None
    order = int(values["surrogate.order"])
    matched = order if kind == "energy" else order - 1
    if "simulation.dislocations" in values:
        return -float(matched - 1 if kind == "energy" else matched)
    d = 3 if values.get("simulation.domain") == "ball" else 2
    return -0.5 * d * (2 * matched - 1 if kind == "energy" else 2 * matched + 1)


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of an input as dotted keys; lists of tables are left out."""
    return {
        f"{name}.{key}": value
        for name, table in tables.items()
        if isinstance(table, Mapping)
        for key, value in table.items()
    }
