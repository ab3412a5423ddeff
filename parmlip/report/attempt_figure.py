"""Errors of attempt frequencies by surrogates of the entropy: figure 11 of Torabi, Wang & Ortner (2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.labels import plain_ticks

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

RealArray = NDArray[np.float64]

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#7F7F7F"
KEY: Final = "train.rmse_attempt_frequency"


@dataclass(frozen=True)
class Attempts:
    """RMSE of attempt frequencies, THz, over a sweep of the number of states about the saddle."""

    number_i: RealArray  # of rattled ones
    rmse_i: RealArray
    without: float | None  # with equilibria alone
    saddle: float | None  # with these and the saddle itself
    mean: float  # of the frequencies themselves


def read_attempts(path: Path) -> Attempts | None:
    """From a sweep of one `training.<i>.samples`, or None."""
    values = scalars(path)
    points = ResultFile(path).points()
    swept = [key for key in (points[0] if points else {}) if key.startswith("training.") and key.endswith(".samples")]
    if len(swept) != 1 or not any(key.endswith(KEY) for key in values):
        return None
    amplitude = swept[0].replace(".samples", ".rattle.amplitude")
    rattled: dict[int, float] = {}
    without = saddle = None
    mean = 0.0
    for i, point in enumerate(points):
        error = values.get(f"sweep.{i}.{KEY}")
        if error is None:
            continue
        mean = float(np.mean(ResultFile(path).read("train", "test_attempt_frequency_reference", i)))
        if point[swept[0]] == 0:
            without = float(error)
        elif point.get(amplitude) == 0.0:
            saddle = float(error)
        else:
            rattled[int(point[swept[0]])] = float(error)
    number = np.array(sorted(rattled), dtype=float)
    return Attempts(number, np.array([rattled[int(n)] for n in number]), without, saddle, mean) if rattled else None


def attempt_panel(axes: Axes, found: Attempts) -> None:
    """RMSE against the number of rattled saddles; lines for none of them and for the saddle itself."""
    axes.plot(found.number_i, found.rmse_i, "o-", color=BLUE, markersize=6.5, markeredgecolor="white",
              label="rattled saddles")  # fmt: skip
    if found.saddle is not None:
        axes.axhline(found.saddle, color=VERMILLION, linestyle="--", label=f"the saddle itself: {found.saddle:.3g} THz")
    if found.without is not None:
        axes.axhline(found.without, color=GREY, linestyle=":", label=f"equilibria alone: {found.without:.3g} THz")
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_ticks(axes.xaxis)
    axes.set_xlabel("rattled saddles in the training set")
    axes.set_ylabel("RMSE of the attempt frequency (THz)")
    axes.set_title(f"Attempt frequencies by a surrogate of the entropy (mean {found.mean:.3f} THz)")
    axes.legend(loc="center right")
