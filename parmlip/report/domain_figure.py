"""Figures of sweeps over the training domain (Ortner & Wang (2022), figures 3, 4, 6, 7, 8, 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parmlip.report.domains import Series
from parmlip.report.labels import plain_ticks

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "os^Dv<>"
GREY = "#7F7F7F"
AXES = {"L": "training domain L (nearest-neighbour distances)", "RMSE": r"force RMSE (eV/$\mathrm{\AA}$)"}


def domain_panels(left: Axes, right: Axes, series: list[Series]) -> None:
    """Geometry and energy errors of some series with fitted slopes and the theory's; other basins are hollow."""
    with_formation = any(np.isfinite(s.errors["formation_energy_error"]).any() for s in series)
    energy = "formation_energy_error" if with_formation and series[0].against == "L" else "energy_error"
    _panel(left, series, "geometry_error", r"geometry error ($\mathrm{\AA}$)")
    formation = energy == "formation_energy_error"
    _panel(right, series, energy, "formation energy error (eV)" if formation else "relaxation energy error (eV)")
    left.set_title("Geometry")
    right.set_title("Energy")


def _panel(axes: Axes, series: list[Series], quantity: str, label: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    legend: list[Line2D] = []
    for number, one in enumerate(series):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
        error, use, slope = one.errors[quantity], one.usable(quantity), one.slope(quantity)
        name = one.label or "errors"
        if slope is not None:
            low, high = slope.interval()
            name += f": slope {slope.slope:.2f} (95 %: {low:.2f} to {high:.2f})"
            ends = np.array([one.x[use].min() / 1.1, one.x[use].max() * 1.1])
            axes.plot(ends, slope.at(ends), color=colour)
        axes.plot(one.x[use], error[use], marker, color=colour, markersize=6.5, markeredgecolor="white")
        axes.plot(one.x[~one.same_basin], error[~one.same_basin], marker, markersize=6.5, markerfacecolor="none",
                  markeredgecolor=GREY)  # fmt: skip
        legend.append(Line2D([], [], color=colour, marker=marker, linewidth=1.6 * (slope is not None), label=name))
    legend += _theory_lines(axes, series, quantity)
    axes.margins(0.08, 0.1)
    axes.set_xlabel(AXES[series[0].against])
    axes.set_ylabel(label)
    low_x, high_x = axes.get_xlim()
    if high_x < 30.0 * low_x:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    low_y, high_y = axes.get_ylim()
    if high_y < 100.0 * low_y:
        plain_ticks(axes.yaxis)
    axes.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.17))


def _theory_lines(axes: Axes, series: list[Series], quantity: str) -> list[Line2D]:
    """Through the middle of the series whose slope is nearest, moved a little up: what is compared are slopes."""
    lines = []
    usable = [s for s in series if s.slope(quantity) is not None]
    for number, exponent in enumerate(series[0].theory(quantity) if usable else ()):
        one = min(usable, key=lambda s: abs(_slope(s, quantity) - exponent))
        x, y = one.x[one.usable(quantity)], one.errors[quantity][one.usable(quantity)]
        ends = np.array([x.min(), x.max()])
        level = 1.6 * np.exp(np.mean(np.log(y) - exponent * np.log(x)))
        style = "--" if number == 0 else ":"
        name = f"theory: slope {exponent:g}"
        lines += axes.plot(ends, level * ends**exponent, style, color=GREY, label=name, zorder=1.5)
    return lines


def _slope(series: Series, quantity: str) -> float:
    found = series.slope(quantity)
    return np.inf if found is None else found.slope
