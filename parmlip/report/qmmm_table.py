"""Errors of QM/MM couplings against R_QM, of a sweep over it: series, fitted slopes and those of the theory."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.errors import fit_slope
from parmlip.config_fit_tables import OBSERVATION_NAMES, WEIGHT_PRESETS
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.qmmm_names import about, flat, grows, labels_of, telling
from parmlip.report.sweep import FEWEST, SPREAD, WIDEST, ErrorCurve, key_at

RealArray = NDArray[np.float64]

QUANTITIES: Final[Mapping[str, str]] = {
    "geometry_error": "geometry error", "energy_error": "energy error", "energy_excess": "energy excess",
}  # fmt: skip
_POINTS: Final = 2  # are drawn; a slope needs `FEWEST`
_NEAR_RIM: Final = 0.5  # of R_MM: a larger R_QM leaves less MM than the rates of the theory are about
_SLOWER: Final = 0.6  # of the theory's slope: less at the end, after more before, is a floor
_SHOWS: Final = 0.1  # of the forces that the coupling is in error by: more left by the relaxation shows in its error
_DISTURBED: Final = ("force_constant_error", "third_order_error", "elastic_error", "short_wave_error")


@dataclass(frozen=True, kw_only=True)
class Coupled(ErrorCurve):
    """Points of a sweep that differ in R_QM alone, in ascending order of it: x, angstrom."""

    label: str  # what they have in common of what is swept; empty if there is but one series
    kind: str  # "energy" or "force"
    rate: float | None  # of the geometry error, -3 for R^-3, by the theory (of a fit: until its error shows)
    lattice_constant: float = 1.0  # angstrom
    conditions: Mapping[str, float] = field(default_factory=dict)  # relative errors of what a fit was to match
    r_mm: RealArray = field(default_factory=lambda: np.zeros(0))  # (n,) R_MM, angstrom; empty or NaN: not known
    rim: float = 0.0  # angstrom: twice the range of the laws, at the least
    left: RealArray = field(default_factory=lambda: np.zeros(0))  # (n,) part of the error that forces left make, about

    def window(self, quantity: str) -> tuple[float, float]:
        """Least and largest R_QM of the points that a slope is fitted to, angstrom."""
        radius = self.x[self.usable(quantity)]
        return float(radius.min()), float(radius.max())

    def local_slopes(self, quantity: str) -> RealArray:
        """Slopes from each point that is used to the next: where errors of a fit show they are those of the floor."""
        use = self.usable(quantity)
        return np.asarray(np.diff(np.log(self.errors[quantity][use])) / np.diff(np.log(self.x[use])))

    def no_slope(self, quantity: str) -> str | None:
        """Why points that are enough have no slope; None where they have one, or are too few."""
        use = self.usable(quantity)
        x = self.x[use]
        if len(np.unique(x)) < FEWEST or self.slope(quantity) is not None:
            return None
        if x.max() < SPREAD * x.min():
            return f"R_QM differ by less than a factor of {SPREAD:g}"
        low, high = fit_slope(x, self.errors[quantity][use]).interval()
        return f"its 95 % interval, {low:.1f} to {high:.1f}, is wider than {WIDEST:g}"

    def remarks(self, quantity: str) -> list[str]:
        """What a slope of these errors is not told without."""
        use = self.usable(quantity)
        found = []
        if len(self.r_mm):
            near = use & ((self.x > _NEAR_RIM * self.r_mm) | (self.r_mm - self.x < self.rim))
            if near.any():
                found.append(f"few MM sites before the rim at R_QM {_listed(self.x[near])}")
        if quantity == "geometry_error" and self.floor():
            found.append("floor at the end")
        if quantity == "geometry_error" and len(self.left):
            shows = use & (self.left > _SHOWS)
            if shows.any():
                found.append(
                    f"limited by force_tolerance at R_QM {_listed(self.x[shows])}: the forces left make about "
                    f"{self.left[shows].max():.2g} of the error"
                )
        return found

    def floor(self) -> bool:
        """Whether geometry errors fall clearly slower than by the theory at the end, as they did not before."""
        local = self.local_slopes("geometry_error")
        if self.rate is None or len(local) < _POINTS:
            return False
        return bool(local[-1] > _SLOWER * self.rate and local[:-1].min() <= _SLOWER * self.rate)


def _listed(x: RealArray) -> str:
    return ", ".join(f"{radius:g}" for radius in x)


def read_coupled(path: Path) -> list[Coupled]:
    """Series over at least two radii; none without the stage qmmm, a truth or a sweep."""
    values, file = scalars(path), ResultFile(path)
    found: dict[tuple[tuple[tuple[str, str], ...], str], list[dict[str, Any]]] = {}
    points = file.points()
    growing = grows(points)
    told = {"qmmm.radius", "simulation.radius"} if growing else {"qmmm.radius"}
    inputs = flat(tomllib.loads(str(file.meta().get("config", "")))) if points else {}
    compliance = _compliance(file, values, len(points))
    for i, point in enumerate(points):
        name = f"sweep.{i}.qmmm."
        if f"{name}geometry_error" not in values:
            continue
        here = {**inputs, **point}
        row: dict[str, Any] = {q: float(values.get(f"{name}{q}", np.nan)) for q in QUANTITIES}
        row |= {"radius": float(values[f"{name}radius_angstrom"]), "same": bool(values[f"{name}same_basin"])}
        row["here"], row["rate"] = here, _rate(here, str(values[f"{name}kind"]))
        row["a"] = row["radius"] / float(values[f"{name}radius_lattice"])
        row["r_mm"] = float(values.get(f"{name}mm_radius_angstrom", np.nan))
        row["rim"] = float(values.get(key_at(values, i, "build.rim"), 0.0))
        row["left"] = _left(file, values, i, compliance)
        row["eps"] = {
            name: float(values[key])
            for name in OBSERVATION_NAMES
            if (key := key_at(values, i, f"train.matching.{name}.relative")) in values and name != "site_energy_0"
        }
        found.setdefault((telling(point, here, told), str(values[f"{name}kind"])), []).append(row)
    labels = _labels(found, growing)
    series = []
    for (telling_of, kind), rows in found.items():
        rows.sort(key=lambda row: row["radius"])
        radius = np.array([row["radius"] for row in rows])
        if len(np.unique(radius)) >= _POINTS:
            errors = {q: np.array([row[q] for row in rows]) for q in QUANTITIES}
            series.append(
                Coupled(
                    label=labels[telling_of, kind], kind=kind, x=radius, errors=errors,
                    same_basin=np.array([row["same"] for row in rows]),
                    rate=rows[0]["rate"], lattice_constant=rows[0]["a"], conditions=rows[0]["eps"],
                    r_mm=np.array([row["r_mm"] for row in rows]), rim=max(row["rim"] for row in rows),
                    left=np.array([row["left"] for row in rows]),
                )
            )  # fmt: skip
    return series


def _left(file: ResultFile, values: Mapping[str, Any], point: int, compliance: float) -> float:
    """About which part of a geometry error is of the forces that the relaxation leaves; NaN where it is not known.

    Against the reference's forces, whose work the error is; where these are not known, with a compliance.
    """
    name = f"sweep.{point}.qmmm."
    of = float(values.get(f"{name}residual_reference", np.nan))
    if of > 0.0:
        return float(values.get(f"{name}residual_force", np.nan)) / of
    error = float(values[f"{name}geometry_error"])
    if "residual_norms" not in file.names("qmmm", point) or not error > 0.0:
        return float("nan")
    return compliance * float(file.read("qmmm", "residual_norms", point)[-1]) / error


def _compliance(file: ResultFile, values: Mapping[str, Any], n_points: int) -> float:
    """||Du|| for a force, A / (eV/A), of the point whose relaxation began with the most: at a predictor; else NaN."""
    begun = [
        (float(file.read("qmmm", "residual_norms", i)[0]), float(values[f"sweep.{i}.qmmm.geometry_norm"]))
        for i in range(n_points)
        if f"sweep.{i}.qmmm.geometry_norm" in values and "residual_norms" in file.names("qmmm", i)
    ]
    force, norm = max(begun, default=(0.0, 0.0))
    return norm / force if force > 0.0 else float("nan")


def _labels(
    found: Mapping[tuple[tuple[tuple[str, str], ...], str], Sequence[Mapping[str, Any]]], growing: bool
) -> dict[tuple[tuple[tuple[str, str], ...], str], str]:
    """Of every series, told from the others of its kind of mixing."""
    labels: dict[tuple[tuple[tuple[str, str], ...], str], str] = {}
    for kind in dict.fromkeys(kind for _, kind in found):
        of = [one for one in found if one[1] == kind]
        words = labels_of([(found[one][0]["here"], one[0]) for one in of], growing=growing)
        labels |= dict(zip(of, words, strict=True))
    return labels


def heading(path: Path) -> str:
    """Material, defect and MM law of a run, in words."""
    file = ResultFile(path)
    swept = [key for point in file.points() for key in point]
    return about(tomllib.loads(str(file.meta().get("config", ""))), swept)


def coupled_lines(path: Path) -> list[str]:
    """Lines of text: for every series the fitted slope of each error, and the theory's."""
    lines = []
    for one in read_coupled(path):
        before = f"{one.label}: " if one.label else ""
        for quantity, words in QUANTITIES.items():
            line = _slope_line(one, quantity)
            if line is not None:
                remarks = "".join(f"; {remark}" for remark in one.remarks(quantity))
                lines.append(f"{before}{one.kind} mixing, {words}{line}{remarks}")
    return lines


def _slope_line(one: Coupled, quantity: str) -> str | None:
    """What follows the name of an error; None where there is nothing to tell."""
    slope, why = one.slope(quantity), one.no_slope(quantity)
    is_geometry = quantity == "geometry_error"
    local = ", ".join(f"{x:.1f}" for x in one.local_slopes(quantity)) if is_geometry else ""
    n = int(np.count_nonzero(one.usable(quantity)))
    if slope is None:
        between = f"; from point to point R_QM^{local}" if local else ""
        if why is not None:
            return f": no slope over {n} points, {why}{between}"
        few = f": {n} point{'s' if n != 1 else ''} of R_QM in the reference's basin, a slope is fitted to {FEWEST}"
        return few + between if is_geometry else None
    low, high = slope.interval()
    theory = ""
    if is_geometry and one.rate is not None:
        theory = f"; theory R_QM^{one.rate:g}"
        if one.conditions:
            told = ", ".join(f"{name} {error:.1e}" for name, error in one.conditions.items())
            theory += f" until the errors of the fit show ({told})"
    if local:
        theory += f"; from point to point {local}"
    first, last = (r / one.lattice_constant for r in one.window(quantity))
    return (
        f" ~ R_QM^{slope.slope:.2f} over {slope.n} points of {first:.1f} to "
        f"{last:.1f} a, 95 % interval {low:.2f} to {high:.2f}{theory}"
    )


def _rate(values: Mapping[str, Any], kind: str) -> float | None:
    """Table 3.1 of Chen, Ortner, Wang (2021) for an MM law that meets all matching conditions up to its order.

    An expansion of the site energies to order K has K_E = K and K_F = K - 1; a fit what its weights name.
    """
    if values.get("qmmm.mm") != "surrogate":
        return None
    found = _matched(values, kind)
    if found is None:
        return None
    if kind == "energy" and values.get("surrogate.kind") != "taylor" and not values.get("qmmm.correction", True):
        return None  # the ghost forces of a fit do not fall with R_QM
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
