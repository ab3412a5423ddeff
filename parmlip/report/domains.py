"""Errors against the size L of the training domain, and against the force RMSE for each L, of a sweep over both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words
from parmlip.report.sweep import QUANTITIES, ErrorCurve, energies_line, key_at

RealArray = NDArray[np.float64]


# Ortner, Wang (2022), table 1, in units of the dimension: with and without errors of the crystal's force constants.
THEORY: Final[Mapping[str, tuple[float, ...]]] = {
    "geometry_error": (-0.5, -1.5),
    "energy_error": (-1.0,),
    "formation_energy_error": (-1.0,),
}
# Wang, Patel, Ortner (2023), table 1, dislocations: with eps^V_1 = 0, and with eps^V_2 = 0 too.
THEORY_OF_LINES: Final[Mapping[str, tuple[float, ...]]] = {
    "geometry_error": (-1.0, -2.0),
    "energy_error": (-2.0,),
    "formation_energy_error": (-2.0,),
}

# Tables whose keys make one fit better than another.
OF_FIT: Final = ("surrogate", "fit", "training")


@dataclass(frozen=True, kw_only=True)
class Series(ErrorCurve):
    """Points of a sweep that differ in one thing, in ascending order of it.

    x is L in nearest-neighbour distances, or the force RMSE, eV / angstrom.
    """

    label: str  # what they have in common; empty if there is but one series
    against: str  # "L" or "RMSE"
    rmse_energy: RealArray  # (n,) eV
    dimension: int
    of_lines: bool = False  # whether the simulation cell has dislocations

    def theory(self, quantity: str) -> tuple[float, ...]:
        """Slopes that the theory allows."""
        if self.against == "RMSE":
            return {"geometry_error": (1.0,), "energy_error": (2.0,)}.get(quantity, ())
        if self.of_lines:
            return THEORY_OF_LINES[quantity]
        return tuple(self.dimension * s for s in THEORY[quantity])


def read_series(path: Path) -> list[Series]:
    """Series against L and, where other keys were swept for each L, against the RMSE; none unless L was swept."""
    values, points = scalars(path), ResultFile(path).points()
    done = [i for i in range(len(points)) if f"sweep.{i}.compare.geometry_error" in values]
    size = {i: float(values.get(key_at(values, i, "train.domain_size"), np.nan)) for i in done}
    if len({round(x, 9) for x in size.values() if np.isfinite(x)}) < 2:
        return []
    test = all(key_at(values, i, "train.test_rmse_force") in values for i in done)
    name = "train.test_rmse_force" if test else "train.rmse_force"
    rmse = {i: float(values.get(key_at(values, i, name), np.nan)) for i in done}
    keys = list(dict.fromkeys(key for point in points for key in point))
    others = [key for key in keys if not _goes_with(key, {i: round(x, 9) for i, x in size.items()}, points)]
    shared = [key for key in others if key.split(".")[0] not in OF_FIT]  # what differs along the RMSE is the fit
    at_l = {i: ", ".join(filter(None, [_label(points[i], shared), f"L = {size[i]:.4g}"])) for i in done}
    x_of = {"L": size, "RMSE": rmse}
    found = _grouped(values, {i: _label(points[i], others) for i in done}, x_of, "L")
    if len(others) > len(shared) and np.isfinite(list(rmse.values())).all():
        of_rmse = _grouped(values, at_l, x_of, "RMSE")
        found += of_rmse if max(len(one.x) for one in of_rmse) > 2 else []  # two points are drawn against L
    return found


def _goes_with(key: str, size: Mapping[int, float], points: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a swept key is the training cell, or has one value for each L and so is changed with it."""
    if key.startswith("training.") and key.endswith(".cell"):
        return True
    of_size: dict[float, set[Any]] = {}
    for i, x in size.items():
        of_size.setdefault(x, set()).add(points[i].get(key))
    return all(len(found) == 1 for found in of_size.values()) and len(set().union(*of_size.values())) > 1


def slope_lines(series: list[Series]) -> list[str]:
    """Lines of text: the fitted slope of every series with its interval and the theory's slopes."""
    lines = []
    for one in series:
        for quantity, name in QUANTITIES.items():
            slope = one.slope(quantity)
            if slope is None:
                continue
            low, high = slope.interval()
            base = "L" if one.against == "L" else "(force RMSE)"
            theory = " or ".join(f"{s:g}" for s in one.theory(quantity))
            lines.append(
                f"{one.label + ': ' if one.label else ''}{name} ~ {base}^{slope.slope:.2f} over {slope.n} points, "
                f"95 % interval {low:.2f} to {high:.2f}" + (f"; theory {theory}" if theory else "")
            )
            if one.against == "RMSE" and quantity == "energy_error":
                lines += filter(None, [energies_line(one.x, one.rmse_energy, slope)])
    return lines


def _grouped(
    values: Mapping[str, Any], label: Mapping[int, str], x_of: Mapping[str, Mapping[int, float]], against: str
) -> list[Series]:
    """Points of the same label, in ascending order of what they are drawn against."""
    found, x = [], x_of[against]
    for name in dict.fromkeys(label.values()):
        mine = sorted((i for i in label if label[i] == name), key=lambda i: x[i])
        errors = {q: np.array([float(values.get(f"sweep.{i}.compare.{q}", np.nan)) for i in mine]) for q in QUANTITIES}
        same = np.array([bool(values.get(f"sweep.{i}.compare.same_basin", True)) for i in mine])
        energy = np.array([float(values.get(_energy_key(values, i), np.nan)) for i in mine])
        dimension = int(values.get(key_at(values, mine[0], "build.dimension"), 3))
        of_lines = any(key_at(values, mine[0], f"build.{name}") in values for name in ("core_separation", "n_cores"))
        if of_lines and not np.isfinite(x_of["RMSE"][mine[0]]):  # an expansion about cores means nothing at u = 0
            errors["energy_error"][np.isfinite(errors["formation_energy_error"])] = np.nan
        found.append(
            Series(
                label=name, against=against, x=np.array([x[i] for i in mine]), errors=errors, rmse_energy=energy,
                same_basin=same, dimension=dimension, of_lines=of_lines,
            )
        )  # fmt: skip
    return found


def _energy_key(values: Mapping[str, Any], i: int) -> str:
    test = key_at(values, i, "train.test_rmse_energy")
    return test if test in values else key_at(values, i, "train.rmse_energy")


def _label(point: Mapping[str, Any], keys: list[str]) -> str:
    """The last parts of the keys with their values; defects speak for themselves."""
    return ", ".join(
        in_words(point.get(key, ""))
        if key.endswith(".defects")
        else f"{key.rpartition('.')[2].replace('_', ' ')} {point.get(key, '')}"
        for key in keys
    )
