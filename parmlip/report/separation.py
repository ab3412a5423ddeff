"""Errors against the separation L_D of dislocation cores, of a sweep over the simulation cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words
from parmlip.report.sweep import key_at

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

RealArray = NDArray[np.float64]

_POINTS: Final = 3  # fewer make no line
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")


@dataclass(frozen=True)
class Separation:
    """Points that differ in the simulation cell alone, in ascending order of L_D."""

    label: str
    apart: RealArray  # (n,) L_D, angstrom
    geometry: RealArray  # (n,) angstrom
    energy: RealArray  # (n,) of the formation energy where there is one, eV

    def line(self, power: int) -> tuple[float, float, float]:
        """a, b and R^2 of error^power = a + b ln(L_D), of the geometry for power 2, of the energy for power 1."""
        y = self.geometry**2 if power == 2 else self.energy
        x = np.log(self.apart)
        b, a = np.polyfit(x, y, 1)
        spread = float(np.sum((y - y.mean()) ** 2))
        left = float(np.sum((y - a - b * x) ** 2))
        return float(a), float(b), 1.0 - left / spread if spread > 0.0 else 1.0


def read_separations(path: Path) -> list[Separation]:
    """Series over at least three separations; none without dislocations or a sweep of the simulation cell."""
    values, points = scalars(path), ResultFile(path).points()
    found: dict[str, list[tuple[float, float, float]]] = {}
    for i, point in enumerate(points):
        name = f"sweep.{i}.compare."
        apart = values.get(key_at(values, i, "build.core_separation"))
        if apart is None or f"{name}geometry_error" not in values or not values.get(f"{name}same_basin", True):
            continue
        label = ", ".join(
            f"{key} = {in_words(value)}" for key, value in point.items() if not key.startswith("simulation.")
        )
        energy = values.get(f"{name}formation_energy_error", values[f"{name}energy_error"])
        found.setdefault(label, []).append((float(apart), float(values[f"{name}geometry_error"]), float(energy)))
    series = []
    for label, rows in found.items():
        columns = np.array(sorted(rows)).T
        if len(np.unique(np.round(columns[0], 6))) >= _POINTS:
            series.append(Separation(label, *columns))
    return series


def separation_lines(series: list[Separation]) -> list[str]:
    """Lines of text: coefficients of the logarithm, which theory has for the square of the geometry error.

    Wang, Patel, Ortner (2023): table 1 has log^1/2(L_D) for the energy too, eq. (3.14) log(L_D); both are shown.
    """
    lines = []
    for one in series:
        before = f"{one.label}: " if one.label else ""
        a, b, fit = one.line(2)
        plain = Separation(one.label, one.apart, one.energy, one.geometry).line(1)[2]
        lines.append(
            f"{before}(geometry error)^2 = {a:.3e} + {b:.3e} ln(L_D / A), R^2 = {fit:.4f} "
            f"over {len(one.apart)} points (the error itself as log: R^2 = {plain:.4f}); "
            "theory: L_D enters as log^1/2(L_D) where elastic constants have errors, else not"
        )
        a, b, fit = one.line(1)
        square = Separation(one.label, one.apart, one.energy, one.energy).line(2)[2]
        lines.append(
            f"{before}energy error = {a:.3e} + {b:.3e} ln(L_D / A), R^2 = {fit:.4f}; as log^1/2: R^2 = {square:.4f}; "
            "theory: log^1/2 (table 1) or log (eq. 3.14)"
        )
    return lines


def separation_panels(left: Axes, right: Axes, series: list[Separation]) -> None:
    """Squares of geometry errors, and energy errors, over ln(L_D), with the fitted lines."""
    for axes, power in ((left, 2), (right, 1)):
        for number, one in enumerate(series):
            colour = _COLOURS[number % len(_COLOURS)]
            y = one.geometry**2 if power == 2 else one.energy
            a, b, fit = one.line(power)
            name = f"{one.label + ': ' if one.label else ''}{b:.2e} ln $L_D$ + {a:.2e}, $R^2$ = {fit:.3f}"
            axes.plot(one.apart, y, "o", color=colour, markersize=6.5, markeredgecolor="white")
            axes.plot(one.apart, a + b * np.log(one.apart), color=colour, label=name)
        axes.set_xscale("log")
        ticks = sorted({round(float(x)) for one in series for x in one.apart})
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.minorticks_off()
        axes.set_xlabel(r"separation of cores $L_D$ ($\mathrm{\AA}$)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17))
    left.set_ylabel(r"(geometry error)$^2$ ($\mathrm{\AA}^2$)")
    right.set_ylabel("energy error (eV)")
    left.set_title("Geometry")
    right.set_title("Energy")
