"""Cores of straight dislocations as relaxed with each law: what maps of them show, and the table of their places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.dislocations import nearest_images
from parmlip.io.hdf5 import ResultFile
from parmlip.report.columns import in_words
from parmlip.report.published import aligned

RealArray = NDArray[np.float64]

LAWS: Final = {"reference": "relax_reference", "surrogate": "relax_surrogate", "QM/MM": "qmmm"}  # and their stages
_SCREW: Final = 0.05  # edge part of a Burgers vector, relative to its length, below which it is a screw's
_WEAK: Final = 0.1  # of the largest density: less is noise
_ABOVE: Final = (1.0, 4.5)  # Burgers vectors: from and to where sites above a core say what frame it is seen in
_LEAST: Final = 1.5  # Burgers vectors about a core that a map needs
_UNTILTED: Final = 1e-6  # angstrom


@dataclass(frozen=True, eq=False)
class CoreMap:
    """A core as relaxed with one law, or with two that are coupled; places are seen from where the core was put."""

    law: str
    number: int  # of the core
    burgers_c: RealArray  # (3,) angstrom
    x_nc: RealArray  # (n, 3) sites of the reference configuration, angstrom
    u_nc: RealArray  # (n, 3) displacements, angstrom
    nye_n: RealArray  # (n,) density of the Burgers vector along itself, 1 / angstrom
    period: float  # of the cell along the line, angstrom
    nye_on_lattice: tuple[float, float]  # centre of the density on the reference lattice, angstrom
    elastic_centre: tuple[float, float] | None
    elastic_misfit: float | None  # angstrom
    spread: float  # of the density, angstrom
    present: bool  # all cores of the cell are still there
    radius: float  # angstrom: within it a map shows free sites of this core alone
    polarity: float | None = None  # of screws, Burgers vectors
    point: str = ""  # swept values it was relaxed at; empty if once for all points

    @property
    def is_screw(self) -> bool:
        """Whether the Burgers vector has no edge part."""
        return float(np.linalg.norm(self.burgers_c[:2])) < _SCREW * self.size

    @property
    def size(self) -> float:
        """Length of the Burgers vector, angstrom."""
        return float(np.linalg.norm(self.burgers_c))

    def relaxed(self) -> RealArray:
        """Sites where they have moved to, (n, 3), angstrom, in the frame in which those right above the core stay.

        Displacements about an edge are known up to a translation, and with the cut that they are given with: those to
        the right and to the left are not where the reference lattice has them.
        """
        x, y = self.nye_on_lattice if self.elastic_centre is None else self.elastic_centre
        off_nc = self.x_nc[:, :2] - np.array([x, y])
        low, high = (r * self.size for r in _ABOVE)
        above_n = (np.abs(off_nc[:, 0]) < self.size) & (off_nc[:, 1] > low) & (off_nc[:, 1] < high)
        shift_c = np.zeros(3)
        if not self.is_screw and above_n.any():
            shift_c[:2] = self.u_nc[above_n, :2].mean(axis=0)
        return np.asarray(self.x_nc + self.u_nc - shift_c)

    def nye_centre(self) -> tuple[float, float]:
        """Centre of the density among the relaxed sites, where it is not below a tenth of its largest, angstrom."""
        weight_n = np.where(self.nye_n < _WEAK * self.nye_n.max(initial=0.0), 0.0, self.nye_n)
        if not weight_n.any():
            return self.nye_on_lattice
        return _pair((weight_n @ self.relaxed() / weight_n.sum())[:2])


def read_core_maps(path: Path, point: int | None) -> list[CoreMap]:
    """Maps of the first core of each Burgers vector, a law after the other, of one point of a sweep. Local.

    None without straight dislocations, where cores are next to each other, or in tilted cells, whose images do not lie
    along the axes.
    """
    file = ResultFile(path)
    build = _stage(file, "build", point, ("core_positions", "core_burgers", "positions", "cell"))
    if build is None:
        return []
    cell_cc, burgers_nc = (np.asarray(build[name], dtype=float) for name in ("cell", "core_burgers"))
    if np.abs(cell_cc - np.diag(np.diag(cell_cc))).max() > _UNTILTED:
        return []
    x_ac, put_nc = (np.asarray(build[name], dtype=float) for name in ("positions", "core_positions"))
    alone = len(put_nc) == 1
    first: dict[tuple[float, ...], int] = {}
    for number, burgers_c in enumerate(burgers_nc):
        first.setdefault(tuple(np.round(burgers_c, 6)), number)
    maps = []
    points = file.points()
    for law, stage in LAWS.items():
        found = _stage(file, stage, point, ("displacement", "nye", "core_position", "core_spread"))
        if found is None:
            continue
        place = _place(file, stage, point)
        u_ac, nye_ac = (np.asarray(found[name], dtype=float) for name in ("displacement", "nye"))
        for number in first.values():
            put_c, burgers_c = put_nc[number], burgers_nc[number]
            off_ac = x_ac[:, :2] - put_c
            radius = _free_radius(file, point) if alone else 0.5 * _apart(put_nc, number, cell_cc)
            if not alone:
                off_ac = nearest_images(off_ac, cell_cc[:2, :2])
            if radius < _LEAST * float(np.linalg.norm(burgers_c)):
                continue
            near_n = np.flatnonzero(np.linalg.norm(off_ac, axis=1) < radius)
            elastic = found.get("core_elastic_position")
            maps.append(CoreMap(
                law, number, burgers_c, np.column_stack([off_ac, x_ac[:, 2]])[near_n], u_ac[near_n],
                nye_ac[near_n] @ burgers_c / float(np.linalg.norm(burgers_c)), float(cell_cc[2, 2]),
                _pair(found["core_position"][number] - put_c),
                None if elastic is None else _pair(elastic[number] - put_c), found.get("core_elastic_misfit"),
                float(found["core_spread"][number]),
                bool(found.get("cores_present", True)), radius,
                float(found["polarity"][number]) if "polarity" in found else None,
                "" if place is None else _words(points[place]),
            ))  # fmt: skip
    return maps


def core_lines(path: Path) -> list[str]:
    """Lines of text: place of the core of a single dislocation by law, of every point of a sweep; else none. Local."""
    file = ResultFile(path)
    points = file.points()
    rows: list[list[str]] = []
    seen: set[tuple[str, int | None]] = set()
    for point in range(len(points)) if points else [None]:
        build = _stage(file, "build", point, ("core_positions",))
        if build is None or len(build["core_positions"]) > 1:
            continue
        for one in read_core_maps(path, point):
            place = _place(file, LAWS[one.law], point)
            if (one.law, place) in seen:
                continue
            seen.add((one.law, place))
            swept = {} if place is None else points[place]
            words = ", ".join(f"{key} = {in_words(value)}" for key, value in swept.items())
            elastic = ["-"] * 3
            if one.elastic_centre is not None and one.elastic_misfit is not None:
                elastic = [f"{c:.3f}" for c in (*one.elastic_centre, one.elastic_misfit)]
            rows.append([one.law, *(f"{c:.3f}" for c in one.nye_centre()), f"{one.spread:.3f}", *elastic, words])
    if not rows:
        return []
    headings = [["law", "Nye x", "y", "spread", "elastic x", "y", "misfit", "point"], ["", *["A"] * 6, ""]]
    return [
        "",
        "place of the core from where it was put: centre of Nye's density, which sits on sites, and of the elastic "
        "field that fits best round it",
        *aligned([*headings, *rows]),
    ]


def _words(swept: Mapping[str, Any]) -> str:
    names = {key: "R_QM" if key == "qmmm.radius" else key.rpartition(".")[2] for key in swept}
    return ", ".join(f"{names[key]} = {in_words(value)}" for key, value in swept.items())


def _place(file: ResultFile, stage: str, point: int | None) -> int | None:
    return point if point is not None and file.complete(stage, point) else None


def _stage(file: ResultFile, stage: str, point: int | None, needed: tuple[str, ...]) -> dict[str, Any] | None:
    """What maps are made of, of a stage at a point or once for all; None unless all that is needed is there."""
    place = _place(file, stage, point)
    names = set(file.names(stage, place))
    if not set(needed) <= names:
        return None
    more = ("core_spread", "polarity", "core_elastic_position", "core_elastic_misfit", "cores_present")
    return {name: file.read(stage, name, place) for name in {*needed, *more} & names}


def _free_radius(file: ResultFile, point: int | None) -> float:
    place = _place(file, "build", point)
    return float(file.read("build", "radius", place)) if "radius" in file.names("build", place) else np.inf


def _apart(put_nc: RealArray, number: int, cell_cc: RealArray) -> float:
    """Distance of a core from the nearest other one, images included, angstrom."""
    off_nc = nearest_images(np.delete(put_nc, number, axis=0) - put_nc[number], cell_cc[:2, :2])
    return float(min(np.linalg.norm(off_nc, axis=1).min(), np.diag(cell_cc)[:2].min()))


def _pair(x_c: Any) -> tuple[float, float]:
    x, y = (float(c) for c in x_c)
    return x, y
