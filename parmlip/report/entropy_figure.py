"""Figures of surrogates of the entropy: predictions against labels, and learning curves over a sweep.

References
----------
Torabi, Wang, Ortner (2024), figures 5 to 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile
from parmlip.report.labels import plain_ticks

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

RealArray = NDArray[np.float64]

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
MARKERS: Final = "os^Dv<>"
# RMSEs of section 4.2 on rattled bulk and on cells with a vacancy: fits to totals, fits to site entropies.
PAPER: Final = {
    "entropy": {"bulk": 1.68e-4, "vacancy": 3.81e-4},
    "gradient": {"bulk": 1.46e-3, "vacancy": 2.56e-3},
    "site_entropy": {"bulk": 2.58e-4, "vacancy": 6.71e-4},
}
_PAPER_TYPES: Final = {"bulk", "bulk_test", "filled", "vacancy"}
LABELS: Final = {
    "entropy": r"entropy RMSE ($k_B$)",
    "gradient": r"gradient RMSE ($k_B/\mathrm{\AA}$)",
    "site_entropy": r"site entropy RMSE ($k_B$)",
}


@dataclass(frozen=True)
class EntropyFit:
    """One fit: at a point of a sweep, or the only one."""

    swept: dict[str, Any]
    n_training: int
    n_basis: int
    of_sites: bool  # fitted to site entropies
    errors: dict[str, dict[str, tuple[float, int]]]  # of the test set: type, quantity: RMSE and number
    types: tuple[str, ...]  # (n,) of the test cells
    entropy: tuple[RealArray, RealArray]  # (n,) labels and predictions, k_B
    gradient: dict[str, tuple[RealArray, RealArray]]  # by type, k_B / angstrom

    def rmse(self, quantity: str) -> float:
        """Over all types of the test set; NaN where it is not known."""
        parts = [of[quantity] for of in self.errors.values() if quantity in of]
        n = sum(count for _, count in parts)
        return float(np.sqrt(sum(e**2 * count for e, count in parts) / n)) if n else np.nan


def read_entropy_fits(path: Path) -> list[EntropyFit]:
    """All fits of entropies of a result file that have a test set; empty without any. With `report`'s rights only."""
    file = ResultFile(path)
    points: list[tuple[int | None, dict[str, Any]]] = list(enumerate(file.points())) or [(None, {})]
    found = []
    for i, swept in points:
        if not file.complete("train", i) or "test_types" not in file.names("train", i):
            continue
        # what a sweep does not touch stands outside of its points
        labels_at = i if file.complete("label", i) else None
        n_sites = np.asarray(file.read("label", "test/n_sites", labels_at))
        dimension = np.asarray(file.read("label", "test/dimension", labels_at))
        types = tuple(file.read("train", "test_types", i))
        given, surrogate = (
            np.asarray(file.read("train", f"test_gradient_{of}", i)) for of in ("reference", "surrogate")
        )
        kind_o = np.repeat(np.array(types), n_sites * dimension)
        errors = file.read("train", "entropy_errors", i).get("test", {})
        fitted = file.read("train", "fitted", i)
        found.append(
            EntropyFit(
                swept=dict(swept),
                n_training=int(file.read("label", "n_training", labels_at)),
                n_basis=int(file.read("train", "n_basis", i)),
                of_sites="energy" not in fitted and "force" not in fitted,
                errors={k: {q: (float(x["rmse"]), int(x["n"])) for q, x in of.items()} for k, of in errors.items()},
                types=types,
                entropy=(
                    np.asarray(file.read("train", "test_entropy_reference", i)),
                    np.asarray(file.read("train", "test_entropy_surrogate", i)),
                ),
                gradient={t: (given[kind_o == t], surrogate[kind_o == t]) for t in dict.fromkeys(types)},
            )
        )
    return found


def entropy_lines(file: ResultFile, point: int | None) -> list[str]:
    """Errors of a surrogate of the entropy by set and configuration type as lines of text; none if there is no such."""
    if not file.complete("train", point) or "entropy_errors" not in file.names("train", point):
        return []
    lines = ["", "errors of entropies by configuration type" + ("" if point is None else f", point {point}")]
    lines.append(f"{'set':<11} {'type':<16} {'quantity':<22} {'number':>8} {'RMSE':>11}  unit")
    for of, by_type in file.read("train", "entropy_errors", point).items():
        for kind, found in by_type.items():
            for quantity, x in found.items():
                unit = "k_B/A" if "gradient" in quantity else "k_B"
                lines.append(f"{of:<11} {kind:<16} {quantity:<22} {int(x['n']):>8d} {float(x['rmse']):>11.3e}  {unit}")
    return lines


def parity_panels(left: Axes, right: Axes, fit: EntropyFit) -> None:
    """Predictions against labels of one fit by type, beside the paper's errors (figures 5 and 6)."""
    types = np.array(fit.types)
    for number, kind in enumerate(dict.fromkeys(fit.types)):
        colour = COLOURS[number % len(COLOURS)]
        own = types == kind
        panels = (
            (left, "entropy", fit.entropy[0][own], fit.entropy[1][own]),
            (right, "gradient", *fit.gradient[kind]),
        )
        for axes, quantity, given, predicted in panels:
            rmse = float(np.sqrt(np.mean((predicted - given) ** 2)))
            name = f"{kind}: RMSE {rmse:.2e}"
            published = next((v for word, v in PAPER[quantity].items() if word in kind), None)
            if published is not None and not fit.of_sites:
                name += f" (paper {published:.2e})"
            axes.plot(
                given, predicted, MARKERS[number % len(MARKERS)], color=colour, markersize=4, label=name, alpha=0.7
            )
    for axes, what, unit in ((left, "formation entropy", r"$k_B$"), (right, "gradient", r"$k_B/\mathrm{\AA}$")):
        ends = np.array([min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])])
        axes.plot(ends, ends, color="#7F7F7F", linewidth=0.8, zorder=0)
        axes.set_xlabel(f"{what}, reference ({unit})")
        axes.set_ylabel(f"{what}, surrogate ({unit})")
        axes.legend(loc="upper left")
    left.set_title("Formation entropy of the test cells")
    right.set_title("Its derivatives by the positions")


def learning_panels(left: Axes, right: Axes, fits: list[EntropyFit]) -> None:
    """Errors on the test set against what varies: training configurations, else basis functions (figures 7 to 10)."""
    counts = {fit.n_training for fit in fits}
    sizes = {fit.n_basis for fit in fits}
    by_count = len(counts) > 1
    key = "training configurations" if by_count else "basis functions"
    x = [fit.n_training if by_count else fit.n_basis for fit in fits]
    if not by_count and len(sizes) == 1:
        key, x = "point of the sweep", list(range(len(fits)))
    series: dict[str, list[int]] = {}
    for i, fit in enumerate(fits):
        series.setdefault(_series_name(fit, fits, by_count), []).append(i)
    of_sites = any(fit.of_sites for fit in fits) and all("site_entropy" in e for f in fits for e in f.errors.values())
    quantities = ("entropy", "site_entropy") if of_sites else ("entropy", "gradient")
    for axes, quantity in zip((left, right), quantities, strict=True):
        for number, (name, members) in enumerate(series.items()):
            order = sorted(members, key=lambda i: x[i])
            axes.plot(
                [x[i] for i in order], [fits[i].rmse(quantity) for i in order], "-" + MARKERS[number % len(MARKERS)],
                color=COLOURS[number % len(COLOURS)], label=name or None,
            )  # fmt: skip
        told = PAPER[quantity].items() if set(fits[0].errors) <= _PAPER_TYPES else ()
        for kind, published in told:
            axes.axhline(published, color="#7F7F7F", linewidth=0.8, linestyle=":" if kind == "bulk" else "--",
                         label=f"paper, 70 configurations, {kind}")  # fmt: skip
        axes.set_xscale("log" if key != "point of the sweep" else "linear")
        axes.set_yscale("log")
        axes.set_xlabel(key)
        axes.set_ylabel(LABELS[quantity])
        if len(series) > 1 or told:
            axes.legend()
        plain_ticks(axes.xaxis)
    left.set_title("Totals of the test cells")
    right.set_title("Site entropies" if of_sites else "Derivatives")


def _series_name(fit: EntropyFit, fits: list[EntropyFit], by_count: bool) -> str:
    """Swept values that tell the curve; those that the abscissa shows are left out."""
    words = []
    for name, value in fit.swept.items():
        on_axis = "samples" in name if by_count else "degree" in name
        if not on_axis and len({str(other.swept.get(name)) for other in fits}) > 1:
            words.append("fit to sites" if "weights" in name and fit.of_sites else
                         "fit to totals" if "weights" in name else f"{name.rsplit('.', 1)[-1]} = {value}")  # fmt: skip
    return ", ".join(words)
