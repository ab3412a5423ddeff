"""Errors over the points of a sweep, as a result file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.errors import Slope, fit_slope
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words

RealArray = NDArray[np.float64]

# Errors that the compare stage gives, and their plain names.
QUANTITIES: Final[Mapping[str, str]] = {
    "geometry_error": "geometry error",
    "energy_error": "energy error",
    "formation_energy_error": "formation energy error",
}
# What the theory of the matching conditions says about errors against force errors (energy: if eps^E ~ (eps^F)^2).
THEORY: Final[Mapping[str, int]] = {"geometry_error": 1, "energy_error": 2}

# Force errors must differ by this factor before a slope is fitted to them, and there must be as many: an interval of
# three points, with one degree of freedom, says nothing.
SPREAD: Final = 1.5
FEWEST: Final = 4
WIDEST: Final = 10.0  # 95 % interval of a slope that is told


@dataclass(frozen=True, kw_only=True)
class ErrorCurve:
    """Errors of points of a sweep against something that they differ in."""

    x: RealArray  # (n,)
    errors: Mapping[str, RealArray]  # (n,) by quantity, NaN where it is missing
    same_basin: NDArray[np.bool_]  # (n,) as the reference

    def usable(self, quantity: str) -> NDArray[np.bool_]:
        """Points that have a logarithm and are in the reference's basin."""
        error = self.errors[quantity]
        return np.asarray(self.same_basin & np.isfinite(error) & (error > 0.0) & np.isfinite(self.x) & (self.x > 0.0))

    def slope(self, quantity: str) -> Slope | None:
        """Fitted slope of log(error) against log(x); None where it would say nothing (`slope_of`)."""
        use = self.usable(quantity)
        return slope_of(self.x[use], self.errors[quantity][use])


@dataclass(frozen=True, kw_only=True)
class Sweep(ErrorCurve):
    """The sweep points that have been compared, in the order of the sweep; x is the force RMSE, eV / angstrom."""

    labels: tuple[str, ...]  # swept values of each point
    what: str  # swept keys
    test: bool  # whether x is of the test set, not the training set
    rmse_energy: RealArray  # (n,) energy RMSE, eV


def slope_of(x: RealArray, error: RealArray) -> Slope | None:
    """Fitted slope of log(error) against log(x).

    None for fewer than four different x, x that hardly differ, or a 95 % interval wider than 10.
    """
    if len(np.unique(x)) < FEWEST or x.max() < SPREAD * x.min():
        return None
    found = fit_slope(x, error)
    low, high = found.interval()
    return found if high - low < WIDEST else None


def energies_line(rmse: RealArray, rmse_energy: RealArray, slope: Slope | None) -> str | None:
    """What the energies of the test set say where the slope of the energy error stays below the theory's 2.

    That needs eps^E ~ (eps^F)^2. A linear model whose basis lacks a part of the law errs in energies by what this part
    is, to first order like the forces, and no weight changes it ([fit] weights = "balanced" tells how far it gets).
    """
    if slope is None or slope.interval()[1] >= THEORY["energy_error"]:
        return None
    use = np.isfinite(rmse_energy) & (rmse_energy > 0.0) & np.isfinite(rmse) & (rmse > 0.0)
    found = slope_of(rmse[use], rmse_energy[use])
    if found is None or found.slope >= THEORY["energy_error"]:
        return None
    low, high = found.interval()
    return (
        f"    below 2: the energy RMSE of the fits ~ (force RMSE)^{found.slope:.2f} ({low:.2f} to {high:.2f}), where "
        "the theory's 2 needs (force RMSE)^2"
    )


def read_sweep(path: Path) -> Sweep | None:
    """The compared points of a sweep; None if there is no sweep or nothing was compared."""
    values = scalars(path)
    points = ResultFile(path).points()
    done = [i for i in range(len(points)) if f"sweep.{i}.compare.geometry_error" in values]
    if not done:
        return None
    test = all(key_at(values, i, "train.test_rmse_force") in values for i in done)
    rmse = "train.test_rmse_force" if test else "train.rmse_force"
    rmse_energy = rmse.replace("force", "energy")
    keys = list(dict.fromkeys(key for point in points for key in point))
    return Sweep(
        labels=tuple(", ".join(in_words(points[i].get(key, "")) for key in keys) for i in done),
        what=", ".join(keys),
        x=np.array([float(values.get(key_at(values, i, rmse), np.nan)) for i in done]),
        test=test,
        rmse_energy=np.array([float(values.get(key_at(values, i, rmse_energy), np.nan)) for i in done]),
        same_basin=np.array([bool(values.get(f"sweep.{i}.compare.same_basin", True)) for i in done]),
        errors={
            quantity: np.array([float(values.get(f"sweep.{i}.compare.{quantity}", np.nan)) for i in done])
            for quantity in QUANTITIES
        },
    )


def key_at(values: Mapping[str, Any], point: int | None, name: str) -> str:
    """Key of a result as seen from a sweep point: the point's own, or the one that was computed once for all."""
    own = name if point is None else f"sweep.{point}.{name}"
    return own if own in values else name
