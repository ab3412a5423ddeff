"""Errors of QM/MM couplings against R_QM, of a sweep over it: series, fitted slopes and those of the theory."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.config_fit_tables import OBSERVATION_NAMES, WEIGHT_PRESETS
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words
from parmlip.report.sweep import FEWEST, ErrorCurve, key_at

RealArray = NDArray[np.float64]

QUANTITIES: Final[Mapping[str, str]] = {
    "geometry_error": "geometry error", "energy_error": "energy error", "energy_excess": "energy excess",
}  # fmt: skip
_POINTS: Final = 2  # are drawn; a slope needs `FEWEST`
_DISTURBED: Final = ("force_constant_error", "third_order_error", "elastic_error", "short_wave_error")


@dataclass(frozen=True, kw_only=True)
class Coupled(ErrorCurve):
    """Points of a sweep that differ in R_QM alone, in ascending order of it: x, angstrom."""

    label: str  # what they have in common of what is swept; empty if there is but one series
    kind: str  # "energy" or "force"
    rate: float | None  # of the geometry error, -3 for R^-3, by the theory (of a fit: until its error shows)
    lattice_constant: float = 1.0  # angstrom
    conditions: Mapping[str, float] = field(default_factory=dict)  # relative errors of what a fit was to match

    def window(self, quantity: str) -> tuple[float, float]:
        """Least and largest R_QM of the points that a slope is fitted to, angstrom."""
        radius = self.x[self.usable(quantity)]
        return float(radius.min()), float(radius.max())

    def local_slopes(self, quantity: str) -> RealArray:
        """Slopes from each point that is used to the next: where errors of a fit show they are those of the floor."""
        use = self.usable(quantity)
        return np.asarray(np.diff(np.log(self.errors[quantity][use])) / np.diff(np.log(self.x[use])))


def read_coupled(path: Path) -> list[Coupled]:
    """Series over at least two radii; none without the stage qmmm, a truth or a sweep."""
    values, file = scalars(path), ResultFile(path)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    inputs = None
    points = file.points()
    told = {"qmmm.radius", "simulation.radius"} if _grows(points) else {"qmmm.radius"}
    for i, point in enumerate(points):
        name = f"sweep.{i}.qmmm."
        if f"{name}geometry_error" not in values:
            continue
        inputs = tomllib.loads(str(file.meta()["config"])) if inputs is None else inputs
        here = {**_flat(inputs), **point}
        label = _name(point, here, told)
        row: dict[str, Any] = {q: float(values.get(f"{name}{q}", np.nan)) for q in QUANTITIES}
        row |= {"radius": float(values[f"{name}radius_angstrom"]), "same": bool(values[f"{name}same_basin"])}
        row["rate"] = _rate(here, str(values[f"{name}kind"]))
        row["a"] = row["radius"] / float(values[f"{name}radius_lattice"])
        row["eps"] = {
            name: float(values[key])
            for name in OBSERVATION_NAMES
            if (key := key_at(values, i, f"train.matching.{name}.relative")) in values and name != "site_energy_0"
        }
        found.setdefault((label, str(values[f"{name}kind"])), []).append(row)
    series = []
    for (label, kind), rows in found.items():
        rows.sort(key=lambda row: row["radius"])
        radius = np.array([row["radius"] for row in rows])
        if len(np.unique(radius)) >= _POINTS:
            errors = {q: np.array([row[q] for row in rows]) for q in QUANTITIES}
            series.append(
                Coupled(
                    label=label, kind=kind, x=radius, errors=errors, same_basin=np.array([row["same"] for row in rows]),
                    rate=rows[0]["rate"], lattice_constant=rows[0]["a"], conditions=rows[0]["eps"],
                )
            )  # fmt: skip
    return series


def coupled_lines(path: Path) -> list[str]:
    """Lines of text: for every series the fitted slope of each error, and the theory's."""
    lines = []
    for one in read_coupled(path):
        before = f"{one.label}: " if one.label else ""
        for quantity, words in QUANTITIES.items():
            slope = one.slope(quantity)
            if slope is None:
                n = len(np.unique(one.x[one.usable(quantity)]))
                if quantity == "geometry_error" and n < FEWEST:
                    local = ", ".join(f"{x:.1f}" for x in one.local_slopes(quantity))
                    lines.append(
                        f"{before}{one.kind} mixing, {words}: {n} point{'s' if n != 1 else ''} of R_QM in the "
                        f"reference's basin, a slope is fitted to {FEWEST}"
                        + (f"; from point to point R_QM^{local}" if local else "")
                    )
                continue
            low, high = slope.interval()
            theory = ""
            if one.rate is not None and quantity == "geometry_error":
                theory = f"; theory R_QM^{one.rate:g}"
                if one.conditions:
                    told = ", ".join(f"{name} {error:.1e}" for name, error in one.conditions.items())
                    theory += f" until the errors of the fit show ({told})"
                local = ", ".join(f"{x:.1f}" for x in one.local_slopes(quantity))
                theory += f"; from point to point {local}"
            first, last = (r / one.lattice_constant for r in one.window(quantity))
            lines.append(
                f"{before}{one.kind} mixing, {words} ~ R_QM^{slope.slope:.2f} over {slope.n} points of {first:.1f} to "
                f"{last:.1f} a, 95 % interval {low:.2f} to {high:.2f}{theory}"
            )
    return lines


def _grows(points: list[dict[str, Any]]) -> bool:
    """Whether each R_QM of a sweep has an R_MM of its own: one series then, whose domain grows with the QM region."""
    pairs = {(str(p.get("qmmm.radius")), str(p.get("simulation.radius"))) for p in points}
    return len(pairs) > 1 and all(len({pair[i] for pair in pairs}) == len(pairs) for i in (0, 1))


def _name(point: Mapping[str, Any], here: Mapping[str, Any], told: set[str]) -> str:
    """What tells a series from the others: the MM law in words where that is swept, then swept keys not `told`."""
    words = ["R_MM with R_QM"] if "simulation.radius" in told else []
    if {"surrogate.kind", "fit.weights"} & set(point):
        told = told | {"surrogate.kind", "surrogate.states", "surrogate.order", "fit.weights", "surrogate.total_degree",
                       "surrogate.correlation_order", "surrogate.cutoff"}  # fmt: skip
        if here.get("surrogate.kind") == "taylor":
            words.append(f"expansion, order {here['surrogate.order']}")
        else:
            weights = here.get("fit.weights")
            words.append(f"ACE, {weights}" if isinstance(weights, str) else "ACE")
    return ", ".join(words + [f"{key} = {in_words(value)}" for key, value in point.items() if key not in told])


def _rate(values: Mapping[str, Any], kind: str) -> float | None:
    """Table 3.1 of Chen, Ortner, Wang (2021) for an MM law that meets all matching conditions up to its order.

    An expansion of the site energies to order K has K_E = K and K_F = K - 1; a fit what its weights name.
    """
    if values.get("qmmm.mm") != "surrogate":
        return None
    found = _matched(values, kind)
    if found is None:
        return None
    matched, virial = found
    if "simulation.dislocations" in values:
        rate = float(matched - 1 if kind == "energy" else matched)
    else:
        d = 3 if values.get("simulation.domain") == "ball" else 2
        rate = 0.5 * d * (2 * matched - 1 if kind == "energy" else 2 * matched + 1)
    return -rate - float(virial)


def _matched(values: Mapping[str, Any], kind: str) -> tuple[int, bool] | None:
    """K_E or K_F, and whether the virial of one order more is matched too; None where the theory says nothing."""
    if values.get("surrogate.kind") == "taylor":
        if any(values.get(f"surrogate.{name}") for name in _DISTURBED):
            return None
        order = int(values["surrogate.order"])
        return (order if kind == "energy" else order - 1), False
    weights = values.get("fit.weights")
    given = WEIGHT_PRESETS.get(weights, {}) if isinstance(weights, str) else weights or {}
    what, least = ("site_energy", 2) if kind == "energy" else ("force_derivative", 1)
    order = 0
    while given.get(f"{what}_{order + 1}", 0.0) > 0.0:
        order += 1
    if order < least:
        return None
    return order, given.get(f"cauchy_born_{order + (1 if kind == 'energy' else 2)}", 0.0) > 0.0


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of an input as dotted keys; lists of tables are left out."""
    return {
        f"{name}.{key}": value
        for name, table in tables.items()
        if isinstance(table, Mapping)
        for key, value in table.items()
    }
