"""Patch tests of QM/MM: how the perfect crystal moves, and forces before relaxation, scheme by scheme.

Chen, Ortner, Wang (2021), QM/MM III, figure 4.2.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile
from parmlip.report.published import aligned
from parmlip.report.qmmm_names import flat, labels_of, telling

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

RealArray = NDArray[np.float64]

REFERENCE: Final = "unrelaxed_reference"
# Field of a scheme, its name, colour, marker and size.
SCHEMES: Final = (
    ("unrelaxed_energy", "energy mixing, not corrected", "#D55E00", "s", 4.0),
    ("unrelaxed_energy_corrected", "energy mixing, corrected", "#0072B2", "o", 3.6),
    ("unrelaxed_force", "force mixing", "#009E73", "^", 3.6),
)
_GREY: Final = "#7F7F7F"
_ROUNDING: Final = 1e-9  # of the largest force: less is none


@dataclass(frozen=True, eq=False)
class Patch:
    """The patch test of one QM region."""

    label: str  # what is swept besides R_QM; empty if nothing
    radius: float  # R_QM, angstrom
    distance_a: RealArray  # of sites from the defects, angstrom
    forces: Mapping[str, RealArray]  # (n_sites, d) before relaxation by scheme, eV / angstrom
    ghost: tuple[float, float]  # largest ghost force of the perfect crystal without and with load, eV / angstrom
    drift: tuple[float, float]  # how far it moves, angstrom

    def wrong(self, scheme: str) -> RealArray:
        """(n_sites,) lengths of what forces differ by from the reference's, eV / angstrom."""
        return np.asarray(np.linalg.norm(self.forces[scheme] - self.forces[REFERENCE], axis=1))


def read_patches(path: Path) -> list[Patch]:
    """One for every QM region and what it is coupled to: schemes are all in each of them. Local."""
    file = ResultFile(path)
    points = file.points()
    inputs = flat(tomllib.loads(str(file.meta().get("config", ""))))
    found: dict[tuple[tuple[tuple[str, str], ...], float], Patch] = {}
    heres = {}
    for number in range(len(points)) if points else [None]:
        if "patch" not in file.names("qmmm", number):
            continue
        point = {} if number is None else points[number]
        key = telling(point, {**inputs, **point}, {"qmmm.radius", "qmmm.correction"})
        radius = float(file.read("qmmm", "radius_angstrom", number))
        given = file.read("qmmm", "patch", number)
        forces = {name: np.asarray(given[name]) for name in given if name.startswith("unrelaxed_")}
        before = found[key, radius].forces if (key, radius) in found else {}
        ghost = (file.read("qmmm", name, number) for name in ("ghost_force", "ghost_force_corrected"))
        heres[key] = {**inputs, **point}
        found[key, radius] = Patch(
            "",
            radius,
            np.asarray(file.read("qmmm", "distance", number)),
            {**before, **forces},
            _pair(ghost),
            _pair((given["drift"], given["drift_corrected"])),
        )
    labels = dict(zip(heres, labels_of([(here, key) for key, here in heres.items()], growing=False), strict=True))
    return [
        Patch(labels[key], one.radius, one.distance_a, one.forces, one.ghost, one.drift)
        for (key, _), one in sorted(found.items(), key=lambda item: (labels[item[0][0]], item[0][1]))
    ]


def _pair(values: Iterable[Any]) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    return first, second


def patch_lines(path: Path) -> list[str]:
    """A table of the tests; none without them. Local."""
    patches = read_patches(path)
    if not patches:
        return []
    schemes = [scheme for scheme in SCHEMES if any(scheme[0] in one.forces for one in patches)]
    several = any(one.label for one in patches)
    head = ["R_QM", "ghost force", "corrected", "drift", "corrected", *(name for _, name, *_ in schemes)]
    units = ["A", "eV/A", "eV/A", "A", "A", *["eV/A"] * len(schemes)]
    rows = [[*head, *["of"] * several], [*units, *[""] * several]]
    for one in patches:
        wrong = [f"{one.wrong(name).max():.2e}" if name in one.forces else "-" for name, *_ in schemes]
        rows.append([f"{one.radius:g}", *(f"{x:.2e}" for x in (*one.ghost, *one.drift)), *wrong,
                     *[one.label] * several])  # fmt: skip
    return [
        "",
        "patch test: ghost force and drift of the perfect crystal; then the largest error of a force before "
        "relaxation, by scheme",
        *aligned(rows),
    ]


def patch_panels(panels: Sequence[Axes], patches: Sequence[Patch]) -> None:
    """Forces before relaxation against the distance from the defects, a panel for each QM region, one range for all."""
    sizes = [np.linalg.norm(force, axis=1) for one in patches for force in one.forces.values()]
    largest = max(float(size.max(initial=0.0)) for size in sizes) or 1.0
    lowest, farthest = largest, 0.0
    for axes, one in zip(panels, patches, strict=True):
        axes.set_yscale("log")
        shown = [(REFERENCE, "reference everywhere", _GREY, "x", 4.5), *SCHEMES]
        for name, words, colour, marker, size in shown:
            if name not in one.forces:
                continue
            force_a = np.linalg.norm(one.forces[name], axis=1)
            some = force_a > _ROUNDING * largest
            lowest = min(lowest, float(force_a[some].min(initial=lowest)))
            farthest = max(farthest, float(one.distance_a[some].max(initial=0.0)))
            axes.plot(one.distance_a[some], force_a[some], marker, color=colour, markersize=size, linestyle="none",
                      markeredgewidth=0.7, alpha=0.7, label=words, rasterized=True)  # fmt: skip
        axes.axvline(one.radius, color=_GREY, linewidth=1.0, linestyle=":")
        axes.set_xlabel(r"distance from the defects ($\mathrm{\AA}$)")
        axes.set_title(f"$R_{{QM}}$ = {one.radius:g} $\\mathrm{{\\AA}}$" + (f", {one.label}" if one.label else ""))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), markerscale=1.4)
    panels[0].set_ylabel(r"force before relaxation (eV/$\mathrm{\AA}$)")
    for axes in panels:
        axes.set(xlim=(0.0, 1.05 * farthest or None), ylim=(0.5 * lowest, 2.0 * largest))
