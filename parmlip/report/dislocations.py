"""Errors of dislocated cells over a sweep: a series for each loss and training domain, against the RMSE and L."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words, swept_value
from parmlip.report.sweep import ErrorCurve, energies_line, key_at

RealArray = NDArray[np.float64]


# What the compare stage gives, and plain names. Total errors are ruled by the soft glide of the cores; the far field
# and the shift of the cores tell the two apart.
QUANTITIES: Final[Mapping[str, str]] = {
    "geometry_error": "geometry error",
    "energy_error": "energy error",
    "geometry_error_far": "far-field error",
    "max_core_shift": "core shift",
}
# The losses of Wang, Patel, Ortner (2023), figures 5, 8, 11, 14.
LOSSES: Final[Mapping[str, str]] = {"none": "no elasticity", "linear": "CLE", "nonlinear": "CLE + nonlinear"}
# Theorem 3.1 and table 1: slopes against L by loss; without elasticity errors do not fall.
AGAINST_L: Final[Mapping[str, Mapping[str, float]]] = {
    "none": {"geometry_error": 0.0, "geometry_error_far": 0.0, "energy_error": 0.0},
    "linear": {"geometry_error": -1.0, "geometry_error_far": -1.0, "energy_error": -2.0},
    "nonlinear": {"geometry_error": -2.0, "geometry_error_far": -2.0, "energy_error": -2.0},
}
AGAINST_RMSE: Final[Mapping[str, float]] = {"geometry_error": 1.0, "geometry_error_far": 1.0, "energy_error": 2.0}

_LOSS: Final = "fit.elasticity"
# Swept keys along the RMSE, what makes one fit better than another: of several the first, the others make series.
_ACCURACY: Final = ("surrogate.total_degree", "fit.tolerance", "surrogate.", "training.samples")


@dataclass(frozen=True, kw_only=True)
class LineSeries(ErrorCurve):
    """Points of a sweep with one loss, in ascending order of x: the force RMSE, eV / angstrom, or L.

    L is in nearest-neighbour distances.
    """

    label: str  # what its points have in common
    loss: str  # none, linear, nonlinear
    group: str  # label without the loss: what colours or markers tell
    against: str  # "RMSE" or "L"
    rmse_energy: RealArray  # (n,) eV

    def theory(self, quantity: str) -> float | None:
        """The slope that the theory has for this loss; None where it has none."""
        return (AGAINST_RMSE if self.against == "RMSE" else AGAINST_L[self.loss]).get(quantity)


def read_line_series(path: Path) -> list[LineSeries]:
    """Series against the force RMSE and, where training cells of several sizes were swept, against L.

    Along the RMSE varies the degree (else the tolerance, another key of [surrogate], the number of samples) and the
    seed, along L the training cell. All other swept keys, among them the loss (fit.elasticity), make series of their
    own. Far-field errors are those beyond one radius for all points. None without dislocations or a sweep, or of
    expansions that were not fitted.
    """
    values, points = scalars(path), ResultFile(path).points()
    done = [i for i in range(len(points)) if f"sweep.{i}.compare.geometry_error" in values]
    simulation = _config(path).get("simulation", {})
    if len(done) < 2 or not simulation.get("dislocations"):
        return []
    rmse = {i: _rmse(values, i, "force") for i in done}
    if not np.isfinite(list(rmse.values())).all():
        return []
    size = {i: round(float(values.get(key_at(values, i, "train.domain_size"), np.nan)), 9) for i in done}
    several = len(set(size.values())) > 1
    keys = list(dict.fromkeys(key for point in points for key in point))
    cells = [key for key in keys if _of_cell(key)]
    accuracy = _along(keys)
    others = [key for key in keys if key not in cells and key not in accuracy and key != _LOSS]
    default = str(_config(path).get("fit", {}).get("elasticity", "none"))
    loss = {i: str(points[i].get(_LOSS, default)) for i in done}
    swept_loss = _LOSS in keys
    errors = point_errors(path)
    found: list[LineSeries] = []
    for against, x, own in (("RMSE", rmse, others), ("L", size, [*others, *accuracy])):
        if against == "L" and not several:
            continue
        group = {}
        for i in done:
            parts = [_told(points[i], key) for key in own]
            group[i] = ", ".join(filter(None, [f"L = {size[i]:.4g}" if against == "RMSE" and several else "", *parts]))
        series = _series(values, errors, x, group, loss, against, swept_loss=swept_loss)
        if against == "L" or any(len(np.unique(one.x)) > 2 for one in series) or not several:
            found += [one for one in series if len(one.x) > 1]
    return found


def point_errors(path: Path) -> dict[int, dict[str, float]]:
    """Errors of every compared point of a sweep by quantity, NaN where they are missing; far fields by one radius."""
    values = scalars(path)
    done = [i for i in range(len(ResultFile(path).points())) if f"sweep.{i}.compare.geometry_error" in values]
    return _beyond_one_radius(path, values, {i: _errors(values, i) for i in done})


def line_slopes(series: Sequence[LineSeries]) -> list[str]:
    """Lines of text: the fitted slope of every series and quantity with its interval and the theory's slope."""
    lines = []
    for one in series:
        for quantity, name in QUANTITIES.items():
            slope = one.slope(quantity)
            if slope is None:
                continue
            low, high = slope.interval()
            theory = one.theory(quantity)
            base = "L" if one.against == "L" else "(force RMSE)"
            lines.append(
                f"{one.label + ': ' if one.label else ''}{name} ~ {base}^{slope.slope:.2f} over {slope.n} points, "
                f"95 % interval {low:.2f} to {high:.2f}" + ("" if theory is None else f"; theory {theory:g}")
            )
            if one.against == "RMSE" and quantity == "energy_error":
                lines += filter(None, [energies_line(one.x, one.rmse_energy, slope)])
    left_out = {one.against: 0 for one in series}
    for one in series:
        left_out[one.against] += int(np.count_nonzero(~one.same_basin))
    others = max(left_out.values(), default=0)
    if others:
        lines.append(f"{others} point{'s' if others > 1 else ''} in another basin, not in the fits")
    return lines


def _series(
    values: Mapping[str, Any], errors: Mapping[int, Mapping[str, float]], x: Mapping[int, float],
    group: Mapping[int, str], loss: Mapping[int, str], against: str, *, swept_loss: bool,
) -> list[LineSeries]:  # fmt: skip
    found = []
    for name, kind in dict.fromkeys((group[i], loss[i]) for i in errors):
        mine = sorted((i for i in errors if (group[i], loss[i]) == (name, kind)), key=lambda i: x[i])
        of_mine = {q: np.array([errors[i][q] for i in mine]) for q in QUANTITIES}
        label = ", ".join(filter(None, [name, LOSSES[kind] if swept_loss else ""]))
        same = np.array([bool(values.get(f"sweep.{i}.compare.same_basin", True)) for i in mine])
        energy = np.array([_rmse(values, i, "energy") for i in mine])
        at = np.array([x[i] for i in mine])
        found.append(
            LineSeries(
                label=label, loss=kind, group=name, against=against, x=at, errors=of_mine, rmse_energy=energy,
                same_basin=same,
            )
        )  # fmt: skip
    return found


def _errors(values: Mapping[str, Any], i: int) -> dict[str, float]:
    """Errors of a point; of energies the formation energy's where there is one, which no start enters."""
    found = {q: float(values.get(f"sweep.{i}.compare.{q}", np.nan)) for q in QUANTITIES}
    formation = f"sweep.{i}.compare.formation_energy_error"
    return {**found, "energy_error": float(values.get(formation, found["energy_error"]))}


def _beyond_one_radius(
    path: Path, values: Mapping[str, Any], errors: Mapping[int, Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    """The far-field error of every point beyond the largest of their core radii: that of a point is its L / 2."""
    radii = [float(values.get(f"sweep.{i}.compare.core_radius", np.nan)) for i in errors]
    found = {i: dict(row) for i, row in errors.items()}
    file = ResultFile(path)
    if len(set(np.round(radii, 6))) < 2 or not np.isfinite(radii).all():
        return found
    for i, row in found.items():
        if "geometry_error_beyond" not in file.names("compare", i):
            return {i: {**row, "geometry_error_far": np.nan} for i, row in found.items()}
        radius_k = np.asarray(file.read("compare", "beyond_radius", i))
        k = min(int(np.searchsorted(radius_k, max(radii) - 1e-6)), len(radius_k) - 1)
        row["geometry_error_far"] = float(np.asarray(file.read("compare", "geometry_error_beyond", i))[k])
    return found


def _rmse(values: Mapping[str, Any], i: int, what: str) -> float:
    test, train = (key_at(values, i, f"train.{of}rmse_{what}") for of in ("test_", ""))
    return float(values.get(test, values.get(train, np.nan)))


def _of_cell(key: str) -> bool:
    return key.startswith("training.") and key.endswith(".cell")


def _along(keys: Sequence[str]) -> list[str]:
    """The swept keys that go along the RMSE: the first that is there, and the seed."""
    found = [key for name in _ACCURACY for key in keys if key.startswith(name)][:1]
    return found + [key for key in keys if key == "run.seed"]


def _config(path: Path) -> dict[str, Any]:
    """The resolved input; empty where a file has none."""
    return tomllib.loads(str(ResultFile(path).meta().get("config", "")))


def _told(point: Mapping[str, Any], key: str) -> str:
    """The last part of a swept key with its value."""
    if key not in point:
        return ""
    name = key.rpartition(".")[2].replace("_", " ")
    value = swept_value(point[key])
    if isinstance(value, dict):
        return f"{name} " + ", ".join(f"{k} {v}" for k, v in value.items())
    return f"{name} {in_words(point[key])}"
