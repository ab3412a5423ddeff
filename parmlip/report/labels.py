"""Texts in figures: at points, where they hide neither points nor each other, and at the ticks of short axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis

RealArray = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, bottom, right, top

SIZE: Final = 9.5  # of the font, points
_MANY: Final = 7  # ticks of an axis that have no room
MARKER: Final = 4.0  # half the width of a marker, points
# Centre of a text from its point, in points and in the order of preference; the width of the text is added sideways.
PLACES: Final = ((0, -12), (0, 12), (1, 0), (-1, 0), (1, -10), (-1, -10), (1, 10), (-1, 10), (0, -24), (0, 24))


def place_labels(axes: Axes, texts: Sequence[str], x: RealArray, y: RealArray, markers: Sequence[RealArray]) -> None:
    """Write each text beside its point (x, y); points that are not finite get none.

    The limits of the axes must be final. `markers`: y of all that is drawn at x, which is not to be hidden.
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # places the axes
    points = 72.0 / figure.dpi

    def place(x_data: float, y_data: float) -> RealArray:
        return np.asarray(axes.transData.transform((x_data, y_data)), dtype=float) * points

    drawn = [place(a, b) for row in markers for a, b in zip(x, row, strict=True) if np.isfinite(b) and b > 0.0]
    taken: list[Box] = [(c[0] - MARKER, c[1] - MARKER, c[0] + MARKER, c[1] + MARKER) for c in drawn]
    for text, a, b in zip(texts, x, y, strict=True):
        if not (np.isfinite(b) and b > 0.0):
            continue
        half = 0.5 * np.array([0.6 * SIZE * len(text), SIZE])
        offsets = [np.array([side * (half[0] + 7.0), up]) for side, up in PLACES]
        boxes = [_box(place(a, b) + offset, half) for offset in offsets]
        covers = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = int(np.argmin(covers))  # the first of those that cover least
        taken.append(boxes[best])
        axes.annotate(text, (a, b), tuple(offsets[best]), textcoords="offset points", ha="center", va="center",
                      fontsize=SIZE, path_effects=[withStroke(linewidth=2.0, foreground="white")])  # fmt: skip


def plain_ticks(axis: XAxis | YAxis) -> None:
    """Ticks at 1, 2, 5 of every decade, as plain numbers; a few others on an axis that is too short for these."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    class Ticks(LogLocator):
        def tick_values(self, vmin: float, vmax: float) -> Any:
            ticks = np.asarray(super().tick_values(vmin, vmax))
            inside = np.count_nonzero((ticks >= vmin) & (ticks <= vmax))
            # with fewer than two of its own it takes those of linear axes, whose numbers run into each other
            return ticks if inside < _MANY else MaxNLocator(nbins=3).tick_values(vmin, vmax)

    axis.set_major_locator(Ticks(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _box(centre: RealArray, half: RealArray) -> Box:
    return centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]


def _overlap(a: Box, b: Box) -> float:
    """Area that two boxes share."""
    sides = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    width, height = (max(side, 0.0) for side in sides)
    return float(width * height)
