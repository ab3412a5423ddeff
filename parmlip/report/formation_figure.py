"""Figures of the stage entropy: site entropies and free energies, or formation entropies over sizes of the cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

RealArray = NDArray[np.float64]

LAWS: Final = {"entropy": "reference", "entropy_surrogate": "surrogate"}
COLOURS: Final = {"entropy": "#0072B2", "entropy_surrogate": "#D55E00"}
_NAMES: Final = (
    "formation", "formation_error", "formation_limit", "near_distance", "near_entropy", "near_sites", "temperature",
    "formation_free_energy", "formation_free_energy_quantum",
)  # fmt: skip


@dataclass(frozen=True)
class Formation:
    """What the stage entropy left of one law at one point of a sweep, or at all."""

    step: str
    n_sites: int
    values: dict[str, Any]

    @property
    def label(self) -> str:
        """The law and S_f."""
        return f"{LAWS[self.step]}: $S_f$ = {self.values['formation']:.4f} $k_B$"


def read_formations(path: Path) -> list[Formation]:
    """In the order of the points; empty where the stage has not run, or found no formation entropy."""
    file = ResultFile(path)
    found = []
    for i in range(len(file.points())) if file.points() else [None]:
        for step in LAWS:
            if not file.complete(step, i):
                continue
            there = set(file.names(step, i))
            if "formation" in there:
                values: dict[str, Any] = {name: file.read(step, name, i) for name in _NAMES if name in there}
                found.append(Formation(step, _sites(file, i), values))
    return found


def _sites(file: ResultFile, point: int | None) -> int:
    return int(file.read("build", "n_sites", point if file.complete("build", point) else None))


def n_panels(found: list[Formation]) -> int:
    """How many panels `formation_panels` draws."""
    if len({one.n_sites for one in found}) > 1:
        return 1
    return ("near_entropy" in found[0].values) + ("temperature" in found[0].values)


def formation_panels(panels: list[Axes], found: list[Formation]) -> None:
    """Of several sizes S_f against 1 / N, else site entropies against the distance, and free energies."""
    if len({one.n_sites for one in found}) > 1:
        _by_size(panels[0], found)
        return
    left = list(panels)
    if "near_entropy" in found[0].values:
        _by_distance(left.pop(0), found)
    if "temperature" in found[0].values:
        _over_temperature(left.pop(0), found)


def _by_distance(axes: Axes, found: list[Formation]) -> None:
    for one in found[:2]:
        distance, value = one.values["near_distance"], one.values["near_entropy"]
        away = distance > 0.0
        for positive, marker in ((True, "o"), (False, "v")):
            shown = away & ((value > 0.0) == positive) & (value != 0.0)
            axes.plot(distance[shown], np.abs(value[shown]), marker, color=COLOURS[one.step], markersize=5.5,
                      markeredgecolor="white", label=one.label if positive else None)  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel(r"distance from the defect ($\mathrm{\AA}$)")
    axes.set_ylabel("$|S_l|$ ($k_B$); triangles: negative")
    axes.set_title("Site entropies, one by one")
    axes.legend(loc="upper right")


def _over_temperature(axes: Axes, found: list[Formation]) -> None:
    for one in found[:2]:
        temperature = one.values["temperature"]
        order = np.argsort(temperature)
        for name, style, word in (
            ("formation_free_energy", "-", "classical"), ("formation_free_energy_quantum", "--", "quantum harmonic"),
        ):  # fmt: skip
            if name in one.values:
                axes.plot(temperature[order], one.values[name][order], style, marker="o", markersize=4.5,
                          color=COLOURS[one.step], label=f"{LAWS[one.step]}, {word}")  # fmt: skip
    axes.set_xlabel("temperature (K)")
    axes.set_ylabel("$E_f - T S_f$ (eV)")
    axes.set_title("Free energy of formation")
    axes.legend(loc="best")


def _by_size(axes: Axes, found: list[Formation]) -> None:
    for step in LAWS:
        chosen = [one for one in found if one.step == step]
        if not chosen:
            continue
        inverse = np.array([1.0 / one.n_sites for one in chosen])
        for name, marker, word in (("formation", "o", "$S_f$"), ("formation_limit", "s", "$S_{FHF} + c_\\infty$")):
            axes.errorbar(
                inverse, [one.values[name] for one in chosen], [one.values["formation_error"] for one in chosen],
                fmt=marker, color=COLOURS[step], capsize=3, markersize=5.5, label=f"{word}, {LAWS[step]}",
                markerfacecolor=COLOURS[step] if marker == "o" else "none",
            )  # fmt: skip
    axes.set_xlim(left=0.0)
    axes.set_xlabel("1 / number of sites")
    axes.set_ylabel("formation entropy ($k_B$)")
    axes.set_title("Formation entropy and size of the cell")
    axes.legend(loc="best")
