"""Figure of a fit and what came of it: forces on the test set, their errors, displacement fields."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words
from parmlip.report.labels import plain_ticks
from parmlip.report.panels import nothing, panels_of
from parmlip.report.sweep import key_at

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RealArray = NDArray[np.float64]

BLUE, VERMILLION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#7F7F7F"
MOST_POINTS: Final = 6000  # dots in a scatter; more are thinned evenly
_WIDTH: Final = 60  # letters of a heading in the width of a panel


def summary_figure(path: Path) -> Figure | None:
    """Forces on the test set, their errors, and displacements against the distance from the defects."""
    point = best_point(path)
    forces = _arrays(path, "train", ("test_forces_reference", "test_forces_surrogate"), point)
    fields = _arrays(
        path, "compare",
        ("distance", "displacement_reference", "displacement_surrogate", "displacement_difference"), point,
    )  # fmt: skip
    data_set = _data_set_figure(path, point)
    if data_set is not None and not fields:
        return data_set
    n = (2 if forces else 0) + (1 if fields else 0)
    if n == 0:
        return None
    figure, panels = panels_of(n, 4.6, 4.2)
    if forces:
        _parity_panel(panels[0], forces[0], forces[1])
        _force_error_panel(panels[1], *forces)
    if fields:
        values = scalars(path)
        dimension = int(values.get(key_at(values, point, "build.dimension"), 3))
        if values.get(key_at(values, point, "build.domain")) == "disc":
            dimension = 2  # defects repeat along z
        if key_at(values, point, "build.n_cores") in values:
            dimension = 1  # displacements of dislocations do not decay
        _displacement_panel(panels[-1], *fields, dimension=dimension)
    if point is not None:
        figure.suptitle(textwrap.fill(_shown(path, point), _WIDTH * n), fontsize=10, color=GREY)
    return figure


def _shown(path: Path, point: int) -> str:
    """Which point of a sweep a figure shows, and why that."""
    points, values = ResultFile(path).points(), scalars(path)
    told = ", ".join(f"{key.rpartition('.')[2]} = {in_words(value)}" for key, value in points[point].items())
    if len({value for key, value in values.items() if key.endswith((".rmse_force", "train.test_rmse_force"))}) > 1:
        return f"the point with the least force RMSE, of {len(points)} of the sweep: {told}"
    return f"one of {len(points)} points of the sweep: {told}"


def _data_set_figure(path: Path, point: int | None) -> Figure | None:
    """Energies by configuration type, forces and their errors, of a data set; None if there was none."""
    names = [f"parity_{what}_{of}" for what in ("energies", "forces") for of in ("reference", "surrogate")]
    arrays = _arrays(path, "train", names, point)
    if not arrays:
        return None
    file = ResultFile(path)
    place = point if point is not None and file.complete("train", point) else None
    kinds = np.array(file.read("train", "parity_types", place), dtype=str)
    of = str(file.read("train", "parity_set", place))
    n = (1 if len(arrays[0]) else 0) + (2 if len(arrays[2]) else 0)
    if n == 0:
        return None
    figure, panels = panels_of(n, 4.6, 4.2)
    if len(arrays[0]):
        _energy_parity_panel(panels[0], arrays[0], arrays[1], kinds, of)
    if len(arrays[2]):
        _parity_panel(panels[-2], arrays[2], arrays[3], of)
        _force_error_panel(panels[-1], arrays[2], arrays[3])
    return figure


def _energy_parity_panel(
    axes: Axes, reference: RealArray, surrogate: RealArray, kinds: NDArray[np.str_], of: str
) -> None:
    both = np.concatenate([reference, surrogate])
    margin = 0.05 * float(np.ptp(both)) or 1e-3
    ends = [float(both.min()) - margin, float(both.max()) + margin]
    axes.plot(ends, ends, "--", color=GREY, linewidth=1.0)
    colours = (BLUE, VERMILLION, GREEN, ORANGE)
    for i, kind in enumerate(dict.fromkeys(kinds.tolist())):
        chosen = np.flatnonzero(kinds == kind)
        chosen = chosen[_thinned(len(chosen))]
        marker = "osD^v"[i // len(colours) % 5]
        name = kind if i < 8 else None  # a longer legend would hide the points
        axes.plot(reference[chosen], surrogate[chosen], marker, color=colours[i % len(colours)], markersize=4,
                  alpha=0.7, markeredgewidth=0.0, label=name, rasterized=True)  # fmt: skip
    axes.set(xlim=ends, ylim=ends, title=f"Energies of the {of} set, less free atoms")
    axes.set_aspect("equal")
    axes.set_xlabel("reference (eV/atom)")
    axes.set_ylabel("surrogate (eV/atom)")
    axes.locator_params(nbins=6)
    axes.legend(loc="upper left", markerscale=1.4)


def best_point(path: Path) -> int | None:
    """The compared sweep point with the least force RMSE; None without a sweep."""
    values = scalars(path)
    points = range(len(ResultFile(path).points()))
    for key in ("train.test_rmse_force", "train.rmse_force"):
        found = {i: float(values[f"sweep.{i}.{key}"]) for i in points if f"sweep.{i}.{key}" in values}
        compared = {i: rmse for i, rmse in found.items() if f"sweep.{i}.compare.geometry_error" in values}
        if found:
            return min(compared or found, key=lambda i: (compared or found)[i])
    return points[0] if len(points) else None


def _arrays(path: Path, stage: str, names: Sequence[str], point: int | None) -> list[RealArray]:
    """Results of a stage at a sweep point (or once for all); empty unless all are there."""
    results = ResultFile(path)
    place = point if point is not None and results.complete(stage, point) else None
    if not set(names) <= set(results.names(stage, place)):
        return []
    return [np.asarray(results.read(stage, name, place), dtype=float) for name in names]


def _parity_panel(axes: Axes, reference: RealArray, surrogate: RealArray, of: str = "test") -> None:
    thin = _thinned(len(reference))
    limit = 1.05 * float(np.abs(np.concatenate([reference, surrogate])).max(initial=1e-12))
    axes.plot([-limit, limit], [-limit, limit], "--", color=GREY, linewidth=1.0)
    axes.plot(reference[thin], surrogate[thin], ".", color=BLUE, markersize=3, alpha=0.5, rasterized=True)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), title=f"Forces on the {of} set")
    axes.set_aspect("equal")
    axes.set_xlabel(r"reference (eV/$\mathrm{\AA}$)")
    axes.set_ylabel(r"surrogate (eV/$\mathrm{\AA}$)")
    axes.locator_params(nbins=6)


def _force_error_panel(axes: Axes, reference: RealArray, surrogate: RealArray) -> None:
    error = np.abs(surrogate - reference)
    positive = error[error > 0.0]
    rmse, largest = float(np.sqrt(np.mean(error**2))), float(error.max(initial=0.0))
    axes.set_xscale("log")
    if len(positive):
        low = max(float(np.quantile(positive, 0.005)), 1e-6 * largest)
        axes.hist(np.clip(positive, low, None), np.geomspace(low, largest * 1.001, 41).tolist(), color=BLUE, alpha=0.75)
        axes.axvline(rmse, color=VERMILLION, label=f"RMSE {rmse:.2e}")
        axes.axvline(largest, color=VERMILLION, linestyle=":", label=f"maximum {largest:.2e}")
        axes.legend(loc="upper left")
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    else:
        nothing(axes)
    axes.set_xlabel(r"|force error| (eV/$\mathrm{\AA}$)")
    axes.set_ylabel("components")
    axes.set_title("Force errors")


def _displacement_panel(
    axes: Axes,
    distance: RealArray,
    reference: RealArray,
    surrogate: RealArray,
    difference: RealArray,
    *,
    dimension: int,
) -> None:
    """|u| of both laws and |u_ref - u_sur| against distance; the guide is the decay r^(1 - d) of a point defect."""
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] > 0.0]
    order = order[_thinned(len(order))]
    r = distance[order]
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = [(reference, BLUE, "o", 4.5, "reference"), (surrogate, ORANGE, ".", 3.5, "surrogate"),
             (difference, VERMILLION, "x", 3.0, "difference")]  # fmt: skip
    # Sites that symmetry holds still move by rounding only, ten decades below the rest.
    floor = 1e-8 * float(reference.max(initial=0.0))
    for u, colour, marker, size, name in shown:
        positive = u[order] > floor
        axes.plot(r[positive], u[order][positive], marker, color=colour, markersize=size, alpha=0.55, linestyle="none",
                  markeredgewidth=0.7, label=name, rasterized=True)  # fmt: skip
    far = (r <= 0.5 * r.max(initial=0.0)) & (reference[order] > floor)
    if dimension > 1 and far.any():
        level = np.exp(np.mean(np.log(reference[order][far] * r[far] ** (dimension - 1))))
        ends = np.array([max(r.min(), 0.05 * r.max()), r.max()])
        axes.plot(ends, 3.0 * level * ends ** (1.0 - dimension), "--", color=GREY, label=f"$r^{{{1 - dimension}}}$")
    if len(r) and r.min() > 0.5:  # a decade or so
        plain_ticks(axes.xaxis)
    axes.set_xlabel(r"distance from the defects ($\mathrm{\AA}$)")
    axes.set_ylabel(r"displacement ($\mathrm{\AA}$)")
    axes.set_title("Displacement fields")
    axes.legend(loc="lower left", markerscale=1.5)


def _thinned(n: int) -> slice:
    """Every so many of n, so that a scatter stays small."""
    return slice(None, None, max(1, -(-n // MOST_POINTS)))
