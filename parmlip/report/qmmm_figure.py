"""Figure of QM/MM couplings: errors of the geometry against R_QM, with fitted slopes and those of the theory.

Chen, Ortner, Wang (2021), QM/MM III, figures 4.3 to 4.5; rates of table 3.1.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.report.qmmm_table import Coupled

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

RealArray = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "os^Dv<>"
GREY = "#7F7F7F"
QUANTITY = "geometry_error"
STYLES: Final[tuple[Any, ...]] = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
_APART: Final = 0.045  # of the length of the axis: ticks that are nearer run into each other
_WIDTH: Final = 84  # letters of a heading in the width of a panel


def coupled_figure(figure: Figure, panels: Sequence[Axes], series: Sequence[Coupled], heading: str) -> None:
    """A panel for each kind of mixing, all over the same range of errors, below a heading in words."""
    kinds = list(dict.fromkeys(one.kind for one in series))
    for axes, kind in zip(panels, kinds, strict=True):
        coupled_panel(axes, [one for one in series if one.kind == kind])
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    if heading:
        figure.suptitle(textwrap.fill(heading, _WIDTH * len(kinds)), fontsize=10, color=GREY)


def coupled_panel(axes: Axes, series: list[Coupled]) -> None:
    """Errors of some series (of one kind of mixing) over R_QM, both logarithmic; other basins are hollow."""
    from matplotlib.lines import Line2D

    axes.set_xscale("log")
    axes.set_yscale("log")
    legend: list[Line2D] = []
    for number, one in enumerate(series):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        error, slope = one.errors[QUANTITY], one.slope(QUANTITY)
        use = one.usable(QUANTITY)
        name = one.label or f"{one.kind} mixing"
        if slope is not None:
            low, high = slope.interval()
            name += f": slope {slope.slope:.1f} ({low:.1f} to {high:.1f})"
            ends = np.array([one.x[use].min(), one.x[use].max()])
            axes.plot(ends, slope.at(ends), color=colour, linewidth=1.2)
        elif one.no_slope(QUANTITY) is not None:
            name += ": no slope, see the table"
        axes.plot(one.x[use], error[use], marker, color=colour, markersize=6.5, markeredgecolor="white")
        other = np.isfinite(error) & (error > 0.0) & ~one.same_basin
        axes.plot(one.x[other], error[other], marker, markersize=6.5, markerfacecolor="none",
                  markeredgecolor=colour)  # fmt: skip
        legend.append(Line2D([], [], color=colour, marker=marker, linewidth=1.2 * (slope is not None), label=name))
    legend += _theory_lines(axes, series)
    if any((~one.same_basin).any() for one in series):
        legend.append(Line2D([], [], marker="o", markerfacecolor="none", markeredgecolor=GREY, linestyle="none",
                             label="another basin"))  # fmt: skip
    axes.margins(0.06, 0.08)
    axes.set_xlabel(r"radius of the QM region $R_{QM}$ ($\mathrm{\AA}$)")
    axes.set_ylabel(r"geometry error $\|D u - D u^H\|$ ($\mathrm{\AA}$)")
    axes.set_title(f"{series[0].kind.capitalize()} mixing")
    radius_ticks(axes.xaxis, np.concatenate([one.x for one in series]))
    axes.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def radius_ticks(axis: XAxis, radii: RealArray) -> None:
    """Ticks at the radii themselves, of a logarithmic axis; where they have no room those from the largest down."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    low, high = np.log(axis.get_view_interval())
    kept: list[float] = []
    for radius in np.unique(np.round(radii, 6))[::-1]:
        if not kept or np.log(kept[-1] / radius) > _APART * (high - low):
            kept.append(float(radius))
    axis.set_major_locator(FixedLocator(kept))
    axis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
    axis.set_minor_locator(NullLocator())


def _theory_lines(axes: Axes, series: list[Coupled]) -> list[Line2D]:
    """A line beside every series of which the theory says something, in its colour: what is compared are slopes."""
    from matplotlib.lines import Line2D

    told: dict[float, Line2D] = {}
    styles = dict(
        zip(sorted({one.rate for one in series if one.rate is not None}, reverse=True), STYLES * 9, strict=False)
    )
    for number, one in enumerate(series):
        error, use = one.errors[QUANTITY], one.usable(QUANTITY)
        if one.rate is None or not use.any():
            continue
        first = int(np.flatnonzero(use)[0])
        ends = np.array([one.x[use].min(), one.x[use].max()])
        level = 1.4 * error[first] / one.x[first] ** one.rate
        axes.plot(ends, level * ends**one.rate, linestyle=styles[one.rate], color=COLOURS[number % len(COLOURS)],
                  linewidth=1.0, alpha=0.7, zorder=1.5)  # fmt: skip
        told[one.rate] = Line2D([], [], linestyle=styles[one.rate], color=GREY, linewidth=1.0,
                                label=f"theory: $R_{{QM}}^{{{one.rate:g}}}$")  # fmt: skip
    return [told[rate] for rate in styles if rate in told]
