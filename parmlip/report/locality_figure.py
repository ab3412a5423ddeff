"""Figures of the stage locality: figures 2 to 4 of Torabi, Wang & Ortner (2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile
from parmlip.report.columns import in_words, swept_value
from parmlip.report.labels import plain_ticks

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

RealArray = NDArray[np.float64]

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
GREY: Final = "#7F7F7F"
# A fit that is drawn: slope, intercept, from, to.
Line = tuple[float, float, float, float]


@dataclass(frozen=True)
class Decay:
    """What a study of locality found at one point of a sweep, or at all."""

    label: str
    dimension: int
    distance_a: RealArray
    derivative_a: RealArray
    envelope: tuple[RealArray, RealArray]
    line: Line | None
    truncation: tuple[RealArray, RealArray] | None
    truncation_line: Line | None


def read_locality(path: Path) -> list[Decay]:
    """All studies of locality of a result file; empty without any."""
    file, points = ResultFile(path), ResultFile(path).points()
    found = []
    for i, values in enumerate(points) if points else [(None, {})]:
        if not file.complete("locality", i):
            continue
        names = file.names("locality", i)

        def get(name: str, i: int | None = i) -> Any:
            return file.read("locality", name, i)

        ends = (get("fit_from"), get("fit_to"))
        line = (get("slope"), get("intercept"), *ends) if "slope" in names else None
        truncation = (get("cutoff"), get("truncation_error")) if "cutoff" in names else None
        of_truncation = None
        if truncation is not None and "truncation_slope" in names:
            cutoffs = truncation[0]
            of_truncation = (get("truncation_slope"), get("truncation_intercept"), cutoffs[0], cutoffs[-1])
        label = ", ".join(f"{key.partition('.')[2]} = {in_words(swept_value(v))}" for key, v in values.items())
        found.append(
            Decay(label, get("dimension"), get("distance"), get("derivative"),
                  (get("envelope_distance"), get("envelope")), line, truncation, of_truncation)
        )  # fmt: skip
    return found


def locality_panels(left: Axes, right: Axes | None, decays: list[Decay]) -> None:
    """Derivatives against the distance with their envelopes, and errors of truncation against the cutoff."""
    d = decays[0].dimension
    for number, one in enumerate(decays):
        colour, size = COLOURS[number % len(COLOURS)], max(9.0 - 2.5 * number, 4.0)  # they may lie on one another
        keep = (one.distance_a > 0.0) & (one.derivative_a > 0.0)
        thin = slice(None, None, 1 + int(keep.sum()) // 3000)
        left.plot(one.distance_a[keep][thin], one.derivative_a[keep][thin], ".", color=colour, markersize=2.5,
                  alpha=0.25, markeredgewidth=0.0, rasterized=True)  # fmt: skip
        left.plot(*one.envelope, "o", color=colour, markersize=size, markeredgecolor="white",
                  label=_label(one.label, one.line))  # fmt: skip
        _draw_line(left, one.line, colour)
        if right is not None and one.truncation is not None:
            right.plot(*one.truncation, "o", color=colour, markersize=size, markeredgecolor="white",
                       label=_label(one.label, one.truncation_line))  # fmt: skip
            _draw_line(right, one.truncation_line, colour)
    _guide(left, decays[0].line, -2 * d, f"theory: bound $r^{{-{2 * d}}}$")
    top = max(float(one.envelope[1].max()) for one in decays)
    left.set_ylim(top * 1e-12 if d > 1 else top * 1e-7, top * 5.0)
    left.set_xlabel(r"distance $r_{\ell n}$ ($\mathrm{\AA}$)")
    left.set_ylabel(r"$|\partial S_\ell / \partial u_n|$  ($k_B/\mathrm{\AA}$)")
    left.set_title("Derivatives of a site entropy: all sites, and the largest of each bin")
    if right is not None:
        _guide(right, decays[0].truncation_line, -d, f"theory: bound $r^{{-{d}}}$")
        right.set_xlabel(r"cutoff ($\mathrm{\AA}$)")
        right.set_ylabel(r"$|S_\ell(u) - S_\ell(Tu)|$  ($k_B$)")
        right.set_title("Error of the truncated site entropy")
    for axes in (left, right):
        if axes is not None:
            axes.set_xscale("log")
            axes.set_yscale("log")
            plain_ticks(axes.xaxis)
            axes.legend(loc="lower left")


def _label(label: str, line: Line | None) -> str:
    parts = [label] if label else []
    return ": ".join([*parts, f"slope {line[0]:.2f}"] if line is not None else parts or ["found"])


def _draw_line(axes: Axes, line: Line | None, colour: str) -> None:
    if line is not None:
        slope, intercept, low, high = line
        ends = np.array([low, high])
        axes.plot(ends, np.exp(intercept) * ends**slope, color=colour)


def _guide(axes: Axes, line: Line | None, power: int, label: str) -> None:
    """The theory's power beside the first fit."""
    if line is not None:
        slope, intercept, low, high = line
        ends = np.array([low, high])
        level = 4.0 * np.exp(intercept) * low**slope
        axes.plot(ends, level * (ends / low) ** power, "--", color=GREY, label=label)
