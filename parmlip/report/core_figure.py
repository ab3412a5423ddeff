"""Maps of dislocation cores: differential displacements of screws, Nye's density of edges, a panel for each law."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.analysis.differential_displacements import DifferentialDisplacements, differential_displacements
from parmlip.report.core_maps import CoreMap

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

RealArray = NDArray[np.float64]

_GREY: Final = "#7F7F7F"
_NYE: Final = "#D55E00"
_ELASTIC: Final = "#0072B2"
_LAYERS: Final = ("white", "#BDBDBD", "#404040", "#8DB8D8")  # fills of columns by height
_MAP: Final = "RdBu_r"
_HALF: Final = 3.6  # Burgers vectors: half the width of a map, more where the core is spread
_SPREADS: Final = 2.2
_SHORTEST: Final = 0.03  # of the longest arrow: shorter ones say nothing
_LENGTH: Final = 0.8  # of the distance of two columns: the longest arrow of an even step
_PANEL: Final = 350.0  # width of a panel, points
_CROWDED: Final = 12.0  # points between columns, below which bonds would hide all else
_TITLE: Final = 60  # letters in the width of a panel
_ROW: Final = 5.1  # height of a row, inches
_LINE: Final = 0.28  # more for each line of what its point is
_BOND: Final = 1.2  # nearest distances


def core_figure(figure: Figure, maps: Sequence[CoreMap]) -> None:
    """Draw the maps, a row for each core and a column for each law."""
    from matplotlib.ticker import MaxNLocator

    numbers, laws = (list(dict.fromkeys(values)) for values in ([m.number for m in maps], [m.law for m in maps]))
    half = min(max(max(_HALF * m.size, _SPREADS * m.spread + m.size) for m in maps), min(m.radius for m in maps))
    panels = figure.subplots(len(numbers), len(laws), squeeze=False)
    strongest = max(float(np.abs(m.nye_n).max(initial=0.0)) for m in maps) or 1.0
    legend: dict[str, Line2D] = {}
    shade: ScalarMappable | None = None
    for row, number in enumerate(numbers):
        for column, law in enumerate(laws):
            axes = panels[row][column]
            one = next((m for m in maps if (m.number, m.law) == (number, law)), None)
            if one is None:
                axes.set_axis_off()
                continue
            shade = _screw(axes, one, half, strongest) if one.is_screw else _edge(axes, one, half, strongest)
            legend |= {str(line.get_label()): line for line in _places(axes, one)}
            _frame(axes, one, half, several=len(numbers) > 1)
    if shade is not None:
        bar = figure.colorbar(shade, ax=panels, shrink=0.8, pad=0.02, ticks=MaxNLocator(7))
        bar.set_label(r"Nye's density $\alpha_{zb}$ ($1/\mathrm{\AA}$)")
        bar.outline.set_visible(False)  # type: ignore[operator]
    told = list(legend.values())
    figure.legend(handles=told, loc="outside lower center", ncols=len(told), handletextpad=0.3)
    words = _screw_words(maps[0], half) if maps[0].is_screw else _edge_words(maps[0], half)
    figure.suptitle((", " if len(laws) > 1 else "\n").join(words), fontsize=10, color=_GREY)


def _screw(axes: Axes, one: CoreMap, half: float, strongest: float) -> ScalarMappable:
    """Vitek's map over the density of the Burgers vector."""
    from matplotlib.collections import EllipseCollection

    near_n = _within(one, half)
    found = differential_displacements(one.x_nc[near_n], one.u_nc[near_n, 2], float(one.burgers_c[2]))
    apart = _distance(found.place_kc)
    shade = _background(axes, one.x_nc[near_n, :2], one.nye_n[near_n], strongest)
    place_pkc = found.place_kc[found.pair_pk]
    step_p = found.difference_p * longest_step(found)[0]
    shown_p = np.abs(step_p) > _SHORTEST
    along_pc = place_pkc[:, 1] - place_pkc[:, 0]
    arrow_pc = (_LENGTH * step_p[:, None] * along_pc)[shown_p]
    middle_pc = place_pkc.mean(axis=1)[shown_p]
    axes.quiver(*middle_pc.T, *arrow_pc.T, pivot="mid", angles="xy", scale_units="xy", scale=1.0, color="black",
                units="xy", width=0.055 * apart, headwidth=3.6, headlength=3.6, headaxislength=3.2, minlength=0.0,
                zorder=3)  # fmt: skip
    layer_k = _layers(found)
    size = np.full(len(layer_k), 0.3 * apart)
    axes.add_collection(EllipseCollection(
        size, size, np.zeros(len(layer_k)), units="xy", offsets=found.place_kc, offset_transform=axes.transData,
        facecolors=[_LAYERS[n % len(_LAYERS)] for n in layer_k], edgecolors="black", linewidths=0.8, zorder=4,
    ))  # fmt: skip
    return shade


def longest_step(found: DifferentialDisplacements) -> tuple[float, str]:
    """What differences are multiplied by for arrows, 1 for the longest even step, and that step in words.

    A core between three columns at three heights makes three steps of b/3, as round 1/2<111> of bcc; else the longest
    is b/2.
    """
    return (3.0, "b/3") if found.n_heights == 3 else (2.0, "b/2")


def _edge(axes: Axes, one: CoreMap, half: float, strongest: float) -> ScalarMappable:
    """Relaxed sites with their bonds, coloured by the density of the Burgers vector."""
    from matplotlib.collections import LineCollection

    near_n = _within(one, half)
    x_nc = one.relaxed()[near_n]
    room = _room(one, half)
    if room > _CROWDED:
        axes.add_collection(LineCollection(list(_bonds(x_nc, one)), colors=_GREY, linewidths=0.8, zorder=1))
    order = np.argsort(np.abs(one.nye_n[near_n]), kind="stable")
    place_nc, size = x_nc[order], min(46.0, (0.6 * room) ** 2)
    return axes.scatter(place_nc[:, 0], place_nc[:, 1], size, one.nye_n[near_n][order], cmap=_MAP, vmin=-strongest,
                        vmax=strongest, edgecolors="black", linewidths=min(0.7, 0.06 * room), zorder=3)  # fmt: skip


def _bonds(x_nc: RealArray, one: CoreMap) -> RealArray:
    """(n, 2, 2): pairs of sites, along the line as far as a period, that are nearest neighbours, seen along it."""
    shifts = np.array([[0.0, 0.0, k * one.period] for k in (-1, 0, 1)])
    images = (x_nc[None] + shifts[:, None]).reshape(-1, 3)
    tree, here = cKDTree(images), cKDTree(x_nc)
    perfect = (one.x_nc[None] + shifts[:, None]).reshape(-1, 3)
    nearest = float(np.median(cKDTree(perfect).query(one.x_nc, k=2)[0][:, 1]))
    pairs = here.sparse_distance_matrix(tree, _BOND * nearest, output_type="coo_matrix")
    i, j = pairs.row, pairs.col % len(x_nc)
    keep = i < j
    return np.asarray(np.stack([x_nc[i[keep], :2], x_nc[j[keep], :2]], axis=1))


def _background(axes: Axes, place_nc: RealArray, nye_n: RealArray, strongest: float) -> ScalarMappable:
    """The density between the columns, pale, so that arrows stay readable."""
    levels = np.linspace(-strongest, strongest, 22).tolist()  # one of the colours, white, lies on both sides of zero
    clipped_n = np.clip(nye_n, -strongest, strongest)
    return axes.tricontourf(place_nc[:, 0], place_nc[:, 1], clipped_n, levels=levels, cmap=_MAP, alpha=0.45, zorder=0)


def _places(axes: Axes, one: CoreMap) -> list[Any]:
    """Markers of where the core was put and of where it is."""
    told = axes.plot(0.0, 0.0, "+", color="black", markersize=11, markeredgewidth=1.6, linestyle="none", zorder=6,
                     label="where the core was put")  # fmt: skip
    told += axes.plot(*one.nye_centre(), "x", color=_NYE, markersize=9, markeredgewidth=2.2, linestyle="none", zorder=7,
                      label="centre of Nye's density")  # fmt: skip
    if one.elastic_centre is not None:
        told += axes.plot(*one.elastic_centre, "D", color=_ELASTIC, markersize=6.5, markerfacecolor="none",
                          markeredgewidth=1.8, linestyle="none", zorder=8,
                          label="centre of the elastic field")  # fmt: skip
    return told


def _frame(axes: Axes, one: CoreMap, half: float, *, several: bool) -> None:
    axes.set_aspect("equal")
    axes.set(xlim=(-half, half), ylim=(-half, half))
    axes.grid(visible=False)
    axes.set_xlabel(r"x ($\mathrm{\AA}$)")
    axes.set_ylabel(r"y ($\mathrm{\AA}$)")
    gone = "" if one.present else " (core gone)"
    polarity = f", polarity {one.polarity:+.3f} b" if one.is_screw and one.polarity is not None else ""
    title = f"{one.law}{f', core {one.number}' if several else ''}{polarity}{gone}"
    axes.set_title("\n".join([title, *_point_lines(one)]))


def core_height(maps: Sequence[CoreMap]) -> float:
    """Of a figure of these maps, inches."""
    rows = len({one.number for one in maps})
    return (_ROW + _LINE * max(len(_point_lines(one)) for one in maps)) * rows + 0.8


def _point_lines(one: CoreMap) -> list[str]:
    return textwrap.wrap(one.point, _TITLE)


def _screw_words(one: CoreMap, half: float) -> list[str]:
    near_n = _within(one, half)
    found = differential_displacements(one.x_nc[near_n], one.u_nc[near_n, 2], float(one.burgers_c[2]))
    step = longest_step(found)[1]
    return [
        "arrows: displacement along the line of a column against the next, modulo b",
        f"as long as {_LENGTH:g} of their distance for {step}; fill of columns: height",
    ]


def _edge_words(one: CoreMap, half: float) -> list[str]:
    return ["relaxed sites seen along the line", *(["near neighbours joined"] if _room(one, half) > _CROWDED else [])]


def _room(one: CoreMap, half: float) -> float:
    """Distance of columns in a panel, points."""
    return _PANEL / (2.0 * half) * _distance(np.unique(np.round(one.x_nc[_within(one, half), :2], 2), axis=0))


def _layers(found: DifferentialDisplacements) -> NDArray[np.int64]:
    """Number of the height of each column, from the lowest."""
    height_k = np.round((found.height_k + 0.01) % 1.0, 2)
    return np.unique(height_k, return_inverse=True)[1].reshape(-1)


def _within(one: CoreMap, half: float) -> NDArray[np.int64]:
    """Sites in the map, with a margin for what is drawn half."""
    return np.flatnonzero((np.abs(one.x_nc[:, :2]) < half + 1.5 * one.size).all(axis=1))


def _distance(place_kc: RealArray) -> float:
    return float(cKDTree(place_kc).query(place_kc, k=2)[0][:, 1].min())
