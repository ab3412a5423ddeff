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

RealArray = NDArray[np.float64]

# Errors that the compare stage gives, and their plain names.
QUANTITIES: Final[Mapping[str, str]] = {
    "geometry_error": "geometry error",
    "energy_error": "energy error",
    "formation_energy_error": "formation energy error",
}
# What the theory of the matching conditions says about errors against force errors (energy: if eps^E ~ (eps^F)^2).
THEORY: Final[Mapping[str, int]] = {"geometry_error": 1, "energy_error": 2}

# Force errors must differ by this factor before a slope is fitted to them.
SPREAD: Final = 1.5


@dataclass(frozen=True)
class Sweep:
    """The sweep points that have been compared, in the order of the sweep."""

    labels: tuple[str, ...]  # swept values of each point
    what: str  # swept keys
    rmse: RealArray  # (n,) force RMSE, eV / angstrom
    test: bool  # on the test set, not the training set
    same_basin: NDArray[np.bool_]  # (n,)
    errors: dict[str, RealArray]  # (n,) by quantity of the compare stage, NaN where it is missing

    def slope(self, quantity: str) -> Slope | None:
        """Fitted slope of log(error) against log(force RMSE), without other basins.

        None where it would say nothing: fewer than three points, or force errors that hardly differ.
        """
        use = self.usable(quantity)
        if len(np.unique(self.rmse[use])) < 3 or self.rmse[use].max() < SPREAD * self.rmse[use].min():
            return None
        return fit_slope(self.rmse[use], self.errors[quantity][use])

    def usable(self, quantity: str) -> NDArray[np.bool_]:
        """Points that have a logarithm and are in the reference's basin."""
        error, rmse = self.errors[quantity], self.rmse
        return np.asarray(self.same_basin & np.isfinite(error) & (error > 0.0) & np.isfinite(rmse) & (rmse > 0.0))


def read_sweep(path: Path) -> Sweep | None:
    """The compared points of a sweep; None if there is no sweep or nothing was compared."""
    values = scalars(path)
    points = ResultFile(path).points()
    done = [i for i in range(len(points)) if f"sweep.{i}.compare.geometry_error" in values]
    if not done:
        return None
    test = all(key_at(values, i, "train.test_rmse_force") in values for i in done)
    rmse = "train.test_rmse_force" if test else "train.rmse_force"
    keys = list(dict.fromkeys(key for point in points for key in point))
    return Sweep(
        labels=tuple(", ".join(str(points[i].get(key, "")) for key in keys) for i in done),
        what=", ".join(keys),
        rmse=np.array([float(values.get(key_at(values, i, rmse), np.nan)) for i in done]),
        test=test,
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
