"""Figures of errors of dislocated cells (Wang, Patel, Ortner (2023), figures 4, 5, 7, 8, 10, 11, 13, 14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from parmlip.report.dislocations import LOSSES, QUANTITIES, LineSeries
from parmlip.report.labels import plain_ticks

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
_ROUNDING: Final = 1e-7  # angstrom, eV
_GREY: Final = "#7F7F7F"
_MARKERS: Final = "osD^v<>"
Style = Literal["-", "--", "-.", ":"]
_STYLES: Final[tuple[Style, ...]] = ("-", "--", "-.", ":")
_TITLES: Final = {
    "geometry_error": r"Geometry $\|Dy_{ref} - Dy_{sur}\|$",
    "energy_error": "Energy of the cell",
    "geometry_error_far": "Geometry far from the cores",
    "max_core_shift": "Largest shift of a core",
}
_LABELS: Final = {
    "geometry_error": r"geometry error ($\mathrm{\AA}$)",
    "energy_error": "energy error (eV)",
    "geometry_error_far": r"far-field error ($\mathrm{\AA}$)",
    "max_core_shift": r"core shift ($\mathrm{\AA}$)",
}
_ABSCISSAS: Final = {
    "RMSE": r"force RMSE (eV/$\mathrm{\AA}$)",
    "L": "training domain L (nearest-neighbour distances)",
}


def shown_quantities(series: Sequence[LineSeries]) -> list[str]:
    """The quantities that have a panel: those known at two points of a series, and not zero by symmetry."""

    def known(one: LineSeries, quantity: str) -> int:
        return int(np.count_nonzero(np.isfinite(one.errors[quantity]) & (one.errors[quantity] > _ROUNDING)))

    return [q for q in QUANTITIES if any(known(one, q) > 1 for one in series)]


def dislocation_panels(panels: Sequence[Axes], series: Sequence[LineSeries], quantities: Sequence[str]) -> None:
    """Errors of some series, a panel for each quantity: points, fitted slopes and, dashed in grey, the theory's.

    Losses have colours and what else tells series apart has markers, or groups have colours if there is one loss.
    Points in another basin are hollow and grey, and in no fit.
    """
    losses = list(dict.fromkeys(one.loss for one in series))
    groups = list(dict.fromkeys(one.group for one in series))
    by_loss = len(losses) > 1
    for axes, quantity in zip(panels, quantities, strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log")
        legend: list[Line2D] = []
        for one in series:
            loss, group = list(LOSSES).index(one.loss), groups.index(one.group)
            colour = _COLOURS[(loss if by_loss else group) % len(_COLOURS)]
            marker = _MARKERS[group % len(_MARKERS)]
            legend.append(_draw(axes, one, quantity, colour, marker, _STYLES[group % len(_STYLES) if by_loss else 0]))
        legend += _theory(axes, series, quantity)
        if not all(one.same_basin.all() for one in series):
            legend.append(_hollow())
        axes.margins(0.08, 0.12)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            if high < 30.0 * low:
                plain_ticks(axis)
        if series[0].against == "L":
            ticks = sorted({round(float(x), 1) for one in series for x in one.x})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xlabel(_ABSCISSAS[series[0].against])
        axes.set_ylabel(_LABELS[quantity])
        axes.set_title(_TITLES[quantity])
        axes.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.17))


def _draw(axes: Axes, one: LineSeries, quantity: str, colour: str, marker: str, style: Style) -> Line2D:
    """Points and line of one series; what stands in the legend."""
    from matplotlib.lines import Line2D

    error, use, slope = one.errors[quantity], one.usable(quantity), one.slope(quantity)
    name = one.label or "errors"
    if slope is None:  # too few points, or scattered: joined by thin lines
        axes.plot(one.x[use], error[use], style, color=colour, linewidth=0.8)
    else:
        low, high = slope.interval()
        name += f": slope {slope.slope:.2f} (95 %: {low:.2f} to {high:.2f})"
        ends = np.array([one.x[use].min() / 1.1, one.x[use].max() * 1.1])
        axes.plot(ends, slope.at(ends), style, color=colour)
    axes.plot(one.x[use], error[use], marker, color=colour, markersize=6.5, markeredgecolor="white")
    other = ~one.same_basin & np.isfinite(error) & (error > 0.0)
    axes.plot(one.x[other], error[other], marker, markersize=6.5, markerfacecolor="none", markeredgecolor=_GREY)
    width = 1.6 if slope is not None else 0.8
    return Line2D([], [], color=colour, marker=marker, linestyle=style, linewidth=width, label=name)


def _theory(axes: Axes, series: Sequence[LineSeries], quantity: str) -> list[Line2D]:
    """A line of every slope that theory has, below the lowest series that it is for: what is compared are slopes."""
    lines: list[Line2D] = []
    for number, slope in enumerate(sorted({s for one in series if (s := one.theory(quantity)) is not None})):
        meant = [o for o in series if o.theory(quantity) == slope and o.usable(quantity).sum() > 1]
        if not meant:
            continue
        one = min(meant, key=lambda o: float(np.log(o.errors[quantity][o.usable(quantity)]).mean()))
        use = one.usable(quantity)
        x, y = one.x[use], one.errors[quantity][use]
        ends = np.array([x.min(), x.max()])
        level = 0.6 * np.exp(np.mean(np.log(y) - slope * np.log(x)))
        label = f"theory: slope {slope:g}" if slope else "theory: does not fall"
        lines += axes.plot(ends, level * ends**slope, _STYLES[1 + number % 3], color=_GREY, label=label, zorder=1.5)
    return lines


def _hollow() -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", markerfacecolor="none", markeredgecolor=_GREY, linestyle="none",
                  label="another basin")  # fmt: skip
