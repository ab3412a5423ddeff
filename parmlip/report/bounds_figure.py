"""Figure of a study: the true geometry error against the theorem's bound, with the line of equality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parmlip.report.bounds import Bounds
from parmlip.report.domain_figure import COLOURS, GREY, MARKERS

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

TITLES = {"random": r"$\epsilon^F$ over random states", "ascent": r"$\epsilon^F$ over random states and ascent"}


def bounds_panel(axes: Axes, found: Bounds, kind: str) -> None:
    """Points that calibrate the constant are hollow, held-out ones full; a colour for each size L."""
    from matplotlib.lines import Line2D

    calibration, bound = found.calibration[kind], found.bound(kind)
    legend: list[Line2D] = []
    for number, length in enumerate(np.unique(np.round(found.length, 9))):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
        mine = np.isclose(found.length, length) & (found.error > 0.0)
        for chosen, face in ((calibration.calibrated, "none"), (calibration.held_out, colour)):
            axes.plot(bound[mine & chosen], found.error[mine & chosen], marker, color=colour, markerfacecolor=face,
                      markersize=6.5)  # fmt: skip
        legend.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=f"L = {length:.4g}"))
    shown = (calibration.calibrated | calibration.held_out) & (found.error > 0.0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = np.array([0.7 * bound[shown].min(), 1.4 * bound[shown].max()])
    legend += axes.plot(ends, ends, "--", color=GREY, linewidth=1.2, label="error = bound", zorder=1.5)
    low, middle, high = calibration.spread
    legend.append(Line2D([], [], color=GREY, marker="o", markerfacecolor="none", linestyle="none", label="calibrates"))
    axes.set_title(f"{TITLES[kind]}\nC = {calibration.constant:.3g}; error / bound {low:.2g} to {high:.2g}, "
                   f"median {middle:.2g}", fontsize=10.5)  # fmt: skip
    axes.set_xlabel(r"bound  $C \sqrt{n_D}\,(\epsilon^F + L^{-d/2} \epsilon^{FC}_{hom} + L^{-3d/2})$"
                    r"  ($\mathrm{\AA}$)")  # fmt: skip
    axes.set_ylabel(r"geometry error  $\|Du_{ref} - Du_{sur}\|$  ($\mathrm{\AA}$)")
    axes.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
