"""Figure of QM/MM couplings: errors of the geometry against R_QM, with fitted slopes and those of the theory.

Chen, Ortner, Wang (2021), QM/MM III, figures 4.3 to 4.5; rates of table 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parmlip.report.qmmm_table import Coupled

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "os^Dv<>"
GREY = "#7F7F7F"
QUANTITY = "geometry_error"


def coupled_panel(axes: Axes, series: list[Coupled]) -> None:
    """Errors of some series (of one kind of mixing) over R_QM, both logarithmic; other basins are hollow."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

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
    low_x, high_x = axes.get_xlim()
    if high_x < 30.0 * low_x:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def _theory_lines(axes: Axes, series: list[Coupled]) -> list[Line2D]:
    """A line for every rate of the theory, beside the series that it is about: what is compared are slopes."""
    lines, styles = [], ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
    for number, rate in enumerate(sorted({one.rate for one in series if one.rate is not None}, reverse=True)):
        one = next(one for one in series if one.rate == rate)
        error = one.errors[QUANTITY]
        use = one.usable(QUANTITY)
        if not use.any():
            continue
        first = int(np.flatnonzero(use)[0])
        ends = np.array([one.x[use].min(), one.x[use].max()])
        level = 1.8 * error[first] / one.x[first] ** rate
        lines += axes.plot(ends, level * ends**rate, linestyle=styles[number % len(styles)], color=GREY, zorder=1.5,
                           label=f"theory: $R_{{QM}}^{{{rate:g}}}$")  # fmt: skip
    return lines
