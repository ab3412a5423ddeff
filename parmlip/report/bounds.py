"""The theorem's bound beside the true geometry error, point by point of a study, with one constant for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.bounds import Calibration, TheoremTerms, calibrate, theorem_terms
from parmlip.io.hdf5 import ResultFile, Scalar, scalars
from parmlip.report.columns import in_words
from parmlip.report.published import aligned
from parmlip.report.sweep import key_at

RealArray = NDArray[np.float64]

# eps^F of the training ball by random states, as training sets have them, and by ascent to its corners.
KINDS: Final = {"random": "match.force_random", "ascent": "match.force_error"}


@dataclass(frozen=True)
class Bounds:
    """Points of a sweep with their matching conditions and errors."""

    points: tuple[int, ...]  # numbers of the sweep
    labels: tuple[str, ...]  # swept values
    length: RealArray  # (n,) L, nearest-neighbour distances
    error: RealArray  # (n,) geometry error, angstrom
    terms: dict[str, tuple[TheoremTerms, ...]]  # by kind of eps^F; eV and angstrom
    calibration: dict[str, Calibration]  # by kind of eps^F

    def form(self, kind: str) -> RealArray:
        """(n,) sum of the terms."""
        return np.array([t.total for t in self.terms[kind]])

    def bound(self, kind: str) -> RealArray:
        """(n,) the constant times that sum, angstrom."""
        return self.calibration[kind].constant * self.form(kind)


def read_bounds(path: Path) -> Bounds | None:
    """The bound of a study; None without matching conditions and errors at four points of a sweep at least."""
    values, points = scalars(path), ResultFile(path).points()

    def at(i: int, name: str) -> float:
        return float(values.get(key_at(values, i, name), np.nan))

    needed = ("compare.geometry_error", "match.force_constants_hom_error", "train.domain_size", *KINDS.values())
    found = [i for i in range(len(points)) if all(key_at(values, i, name) in values for name in needed)]
    if not found:
        return None
    dimension = int(values.get(key_at(values, found[0], "build.dimension"), 3))
    length, error = (np.array([at(i, name) for i in found]) for name in ("train.domain_size", "compare.geometry_error"))
    same = np.array([bool(values.get(key_at(values, i, "compare.same_basin"), True)) for i in found])
    terms, calibration = {}, {}
    for kind, name in KINDS.items():
        terms[kind] = tuple(
            theorem_terms(
                dimension, int(values.get(key_at(values, i, "compare.n_defects"), 1)), at(i, "train.domain_size"),
                at(i, name), at(i, "match.force_constants_hom_error"),
            )
            for i in found
        )  # fmt: skip
        one = calibrate(error, [t.total for t in terms[kind]], length, same)
        if one is None or not one.constant > 0.0:
            return None
        calibration[kind] = one
    labels = tuple(", ".join(in_words(value) for value in points[i].values()) for i in found)
    return Bounds(tuple(found), labels, length, error, terms, calibration)


def bound_lines(path: Path) -> list[str]:
    """Lines of text: a row for each point, then the constants with the spread of error over bound; may be empty."""
    found = read_bounds(path)
    if found is None:
        return []
    kind, calibration = "random", found.calibration["random"]
    rows = [
        ["point", "eps^F", "L^-d/2 eps^FC_hom", "L^-3d/2", "bound", "geometry error", "error/bound", ""],
        ["", *["eV/A"] * 3, "A", "A", "", ""],
    ]
    for n, (label, t) in enumerate(zip(found.labels, found.terms[kind], strict=True)):
        role = "calibrates" if calibration.calibrated[n] else "held out" if calibration.held_out[n] else "other basin"
        ratio = calibration.ratio[n]
        rows.append([
            label, *(f"{x:.2e}" for x in (t.force, t.force_constants, t.cell_size)), f"{found.bound(kind)[n]:.2e}",
            f"{found.error[n]:.2e}", f"{ratio:.3f}" if np.isfinite(ratio) else "-", role,
        ])  # fmt: skip
    lines = ["bound of theorem 3.1: C sqrt(n_D) (eps^F + L^-d/2 eps^FC_hom + L^-3d/2), eV and angstrom, L in nearest "
             "distances, sqrt(n_D) in the columns"]  # fmt: skip
    lines += aligned(rows)
    for name, one in found.calibration.items():
        low, middle, high = one.spread
        states = "random states" if name == "random" else "random states and ascent"
        lines.append(
            f"eps^F over {states}: C = {one.constant:.3g} by {one.how}; {one.obeyed} of {int(one.held_out.sum())} "
            f"held-out points obey it; error / bound {low:.2g} to {high:.2g}, median {middle:.2g}"
        )
    return lines


def bound_scalars(path: Path) -> dict[str, Scalar]:
    """What `bound_lines` tells, by key: `bound.<kind>.*` and, for each point, `sweep.<i>.bound.<kind>.*`."""
    found = read_bounds(path)
    if found is None:
        return {}
    values: dict[str, Scalar] = {}
    for kind, one in found.calibration.items():
        low, middle, high = one.spread
        key = f"bound.{kind}"
        values |= {
            f"{key}.constant": one.constant, f"{key}.calibrated": int(one.calibrated.sum()),
            f"{key}.held_out": int(one.held_out.sum()), f"{key}.held_out_obeyed": one.obeyed,
            f"{key}.ratio_least": low, f"{key}.ratio_median": middle, f"{key}.ratio_largest": high,
        }  # fmt: skip
        for n, i in enumerate(found.points):
            values[f"sweep.{i}.{key}.geometry"] = float(found.bound(kind)[n])
            if np.isfinite(one.ratio[n]):
                values[f"sweep.{i}.{key}.ratio"] = float(one.ratio[n])
    return values
