"""Figures of a result file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import DataError
from parmlip.report.attempt_figure import attempt_panel, read_attempts
from parmlip.report.bounds import read_bounds
from parmlip.report.bounds_figure import bounds_panel
from parmlip.report.core_figure import core_figure, core_height
from parmlip.report.core_maps import read_core_maps
from parmlip.report.dislocation_figure import dislocation_panels, shown_quantities
from parmlip.report.dislocations import read_line_series
from parmlip.report.domain_figure import domain_panels
from parmlip.report.domains import read_series
from parmlip.report.entropy_figure import learning_panels, parity_panels, read_entropy_fits
from parmlip.report.formation_figure import formation_panels, n_panels, read_formations
from parmlip.report.labels import place_labels, plain_ticks
from parmlip.report.locality_figure import locality_panels, read_locality
from parmlip.report.panels import empty_figure, nothing, panels_of
from parmlip.report.qmmm_figure import coupled_figure
from parmlip.report.qmmm_patch import patch_panels, read_patches
from parmlip.report.qmmm_table import heading, read_coupled
from parmlip.report.rates_figure import rates_panels, read_rates
from parmlip.report.separation import read_separations, separation_panels
from parmlip.report.summary_figure import best_point, summary_figure
from parmlip.report.sweep import THEORY, Sweep, read_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RealArray = NDArray[np.float64]

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, VERMILLION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#7F7F7F"
RESOLUTION: Final = 150  # dots per inch
STYLE: Final[dict[Any, Any]] = {
    "font.size": 11, "axes.titlesize": 11, "axes.labelsize": 12, "legend.fontsize": 9.5, "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#E4E4E4", "grid.linewidth": 0.7, "axes.axisbelow": True, "legend.framealpha": 0.9,
    "legend.edgecolor": "none", "lines.linewidth": 1.6, "pdf.fonttype": 42, "mathtext.default": "regular",
}  # fmt: skip
DOMAIN_FIGURES: Final = {"L": "domain", "RMSE": "errors"}
MOST_POINTS: Final = 6000  # dots in a scatter; more are thinned evenly
NAMES: Final = {
    "geometry_error": r"geometry  $\|Du_{ref} - Du_{sur}\|$",
    "energy_error": r"relaxation energy  $E(u) - E(0)$",
    "formation_energy_error": r"formation energy  $E_f$",
}


def draw(path: Path, directory: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draw all figures that the results allow; the files that were written.

    `<stem>_errors`: of a sweep, errors against force RMSE with fitted slopes and the theory's; where training cells of
    several sizes L were swept, a slope for each of them. `<stem>_domain`: then also errors against L. With dislocations
    a series for every loss ([fit] elasticity), and panels for far-field errors and shifts of the cores.
    `<stem>_separation`: of a sweep over cells with dislocations, errors against the separation of the cores.
    `<stem>_bounds`: where matching conditions were measured, the geometry error against the theorem's bound.
    `<stem>_entropy`: of surrogates of the entropy, predictions against labels, or learning curves of a sweep.
    `<stem>_formation_entropy`: site entropies and free energies, or formation entropies against the size of the cell.
    `<stem>_qmmm`: of a sweep over R_QM, errors against it with fitted slopes and the theory's, a panel for each mixing.
    `<stem>_patch`: of patch tests, forces before relaxation against the distance, a panel for each R_QM.
    `<stem>_locality`, `<stem>_rates`: of these stages. `<stem>_attempt`: errors of attempt frequencies by surrogates of
    the entropy against the number of rattled saddles in their training set.
    `<stem>_cores`: of straight dislocations, for each law a map of the core: differential displacements of screws,
    Nye's density of edges (of a sweep as below).
    `<stem>_summary`: forces on the test set and the displacement fields (of a sweep the point with the least force
    RMSE).

    Parameters
    ----------
    path : Path
        Result file.
    directory : Path
        Where the figures go; made if it is not there.
    formats : endings that matplotlib writes, such as "png" and "pdf"

    Raises
    ------
    DataError
        The file cannot be read, or a figure cannot be written.
    """
    import matplotlib as mpl  # half a second that only a report needs

    written: list[Path] = []
    with mpl.rc_context(STYLE):
        sweep = read_sweep(path)
        lines = read_line_series(path)
        series = read_series(path) if not lines else []
        for against in ("L", "RMSE"):
            of_lines = [one for one in lines if one.against == against]
            if of_lines:
                quantities = shown_quantities(of_lines)
                height = 5.0 + 0.22 * (len(of_lines) + 3)
                figure, panels = panels_of(len(quantities), 5.6, height, rows=(len(quantities) + 1) // 2)
                dislocation_panels(panels, of_lines, quantities)
                written += _save(figure, directory, f"{Path(path).stem}_{DOMAIN_FIGURES[against]}", formats)
        for against in ("L", "RMSE"):
            chosen = [one for one in series if one.against == against]
            if chosen:
                figure, (left, right) = panels_of(2, 5.6, 5.4 + 0.22 * len(chosen))
                domain_panels(left, right, chosen)
                written += _save(figure, directory, f"{Path(path).stem}_{DOMAIN_FIGURES[against]}", formats)
        if sweep is not None and not series and not lines:
            written += _save(_errors_figure(sweep), directory, f"{Path(path).stem}_errors", formats)
        separations = read_separations(path)
        if separations:
            figure, (left, right) = panels_of(2, 5.6, 5.0 + 0.22 * len(separations))
            separation_panels(left, right, separations)
            written += _save(figure, directory, f"{Path(path).stem}_separation", formats)
        bounds = read_bounds(path)
        if bounds is not None:
            figure, panels = panels_of(2, 5.6, 5.4)
            for axes, kind in zip(panels, bounds.terms, strict=True):
                bounds_panel(axes, bounds, kind)
            written += _save(figure, directory, f"{Path(path).stem}_bounds", formats)
        fits = read_entropy_fits(path)
        if fits:
            figure, (left, right) = panels_of(2, 5.6, 5.0)
            (learning_panels(left, right, fits) if len(fits) > 1 else parity_panels(left, right, fits[0]))
            written += _save(figure, directory, f"{Path(path).stem}_entropy", formats)
        coupled = read_coupled(path)
        if coupled:
            kinds = list(dict.fromkeys(one.kind for one in coupled))
            figure, panels = panels_of(len(kinds), 6.4, 5.4 + 0.24 * len(coupled))
            coupled_figure(figure, panels, coupled, heading(path))
            written += _save(figure, directory, f"{Path(path).stem}_qmmm", formats)
        patches = read_patches(path)
        if patches:
            figure, panels = panels_of(len(patches), 5.0, 5.2)
            patch_panels(panels, patches)
            written += _save(figure, directory, f"{Path(path).stem}_patch", formats)
        decays = read_locality(path)
        if decays:
            figure, panels = panels_of(1 + any(one.truncation is not None for one in decays), 6.2, 5.4)
            locality_panels(panels[0], panels[1] if len(panels) > 1 else None, decays)
            written += _save(figure, directory, f"{Path(path).stem}_locality", formats)
        learning = read_attempts(path)
        if learning is not None:
            figure, (axes,) = panels_of(1, 6.2, 5.0)
            attempt_panel(axes, learning)
            written += _save(figure, directory, f"{Path(path).stem}_attempt", formats)
        formations = read_formations(path)
        if formations and n_panels(formations):
            figure, panels = panels_of(n_panels(formations), 5.6, 5.0)
            formation_panels(panels, formations)
            written += _save(figure, directory, f"{Path(path).stem}_formation_entropy", formats)
        jumps = read_rates(path)
        if jumps:
            figure, (left, right) = panels_of(2, 5.6, 5.0)
            rates_panels(left, right, jumps)
            written += _save(figure, directory, f"{Path(path).stem}_rates", formats)
        cores = read_core_maps(path, best_point(path))
        if cores:
            figure = empty_figure(5.4 * len({one.law for one in cores}) + 1.2, core_height(cores))
            core_figure(figure, cores)
            written += _save(figure, directory, f"{Path(path).stem}_cores", formats)
        summary = summary_figure(path)
        if summary is not None:
            written += _save(summary, directory, f"{Path(path).stem}_summary", formats)
    return written


def _save(figure: Figure, directory: Path, stem: str, formats: Sequence[str]) -> list[Path]:
    paths = [Path(directory) / f"{stem}.{ending}" for ending in formats]
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for path in paths:
            figure.savefig(path, dpi=RESOLUTION)
    except OSError as error:
        raise DataError(f"cannot write a figure to {directory}: {error.strerror or error}") from error
    return paths


def _errors_figure(sweep: Sweep) -> Figure:
    figure, (left, right) = panels_of(2, 5.0, 5.4)
    shown = {
        left: {"geometry_error": (BLUE, "o")},
        right: {"energy_error": (VERMILLION, "s"), "formation_energy_error": (GREEN, "^")},
    }
    for axes, quantities in shown.items():
        _error_panel(axes, sweep, quantities)
    left.set_ylabel(r"geometry error ($\mathrm{\AA}$)")
    left.set_title("Geometry")
    right.set_ylabel("energy error (eV)")
    right.set_title("Energy")
    for axes in (left, right):
        axes.set_xlabel(f"force RMSE, {'test' if sweep.test else 'training'} set (eV/$\\mathrm{{\\AA}}$)")
    figure.suptitle(f"labels at the points: {sweep.what}", fontsize=10, color=GREY)
    for axes, quantities in shown.items():
        errors = [np.where(_visible(sweep, q), sweep.errors[q], np.nan) for q in quantities]
        lowest = np.nanmin([np.full(len(sweep.x), np.inf), *errors], axis=0)
        place_labels(axes, sweep.labels, sweep.x, lowest, errors)
    return figure


def _visible(sweep: Sweep, quantity: str) -> NDArray[np.bool_]:
    """Points that are drawn: those of the reference's basin, and the others."""
    return np.asarray(sweep.usable(quantity) | (~sweep.same_basin & (sweep.errors[quantity] > 0.0)))


def _error_panel(axes: Axes, sweep: Sweep, shown: dict[str, tuple[str, str]]) -> None:
    """Points, fitted lines and theory lines of some errors; other basins are hollow and grey."""
    from matplotlib.lines import Line2D

    axes.set_xscale("log")
    axes.set_yscale("log")
    legend: list[Line2D] = []
    for quantity, (colour, marker) in shown.items():
        error, use, slope = sweep.errors[quantity], sweep.usable(quantity), sweep.slope(quantity)
        other = ~sweep.same_basin & (error > 0.0)
        name = NAMES[quantity]
        if slope is not None:
            x = np.array([sweep.x[use].min() / 1.25, sweep.x[use].max() * 1.25])
            axes.plot(x, slope.at(x), color=colour)
            low, high = slope.interval()
            name += f": slope {slope.slope:.2f} (95 %: {low:.2f} to {high:.2f})"
        if use.any():
            axes.plot(sweep.x[use], error[use], marker, color=colour, markersize=7, markeredgecolor="white")
            width = 1.6 if slope is not None else 0.0
            legend.append(Line2D([], [], color=colour, marker=marker, linewidth=width, label=name))
        if slope is not None and quantity in THEORY:
            centre = np.exp(np.log(sweep.x[use]).mean())
            theory = slope.at(centre) * (x / centre) ** THEORY[quantity]
            legend += axes.plot(x, theory, "--", color=GREY, label=f"theory: slope {THEORY[quantity]}", zorder=1.5)
        axes.plot(sweep.x[other], error[other], marker, markersize=7, markerfacecolor="none", markeredgecolor=GREY)
    if not sweep.same_basin.all():
        legend.append(
            Line2D(
                [],
                [],
                marker="o",
                markerfacecolor="none",
                markeredgecolor=GREY,
                linestyle="none",
                label="another basin",
            )
        )
    axes.margins(0.08, 0.2)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        if high < 30.0 * low:  # about a decade or less: matplotlib would label every minor tick
            plain_ticks(axis)
    if legend:
        axes.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.17))  # inside it hides points
    else:
        nothing(axes)
