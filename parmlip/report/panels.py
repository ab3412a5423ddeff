"""Empty figures and panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#7F7F7F"


def panels_of(n: int, width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of n panels in some rows of that height."""
    columns = -(-n // rows)
    figure = empty_figure(width * columns, height * rows)
    panels = list(np.ravel(figure.subplots(rows, columns)))
    for empty in panels[n:]:
        empty.set_axis_off()
    return figure, panels[:n]


def empty_figure(width: float, height: float) -> Figure:
    """A figure of that size, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def nothing(axes: Axes) -> None:
    """Say why a panel is empty: zero has no place on a logarithmic axis."""
    axes.text(0.5, 0.5, "all errors are zero", ha="center", va="center", color=GREY, transform=axes.transAxes)
