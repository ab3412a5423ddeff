"""Figures of the stage rates: paths and rates over temperature, or barriers and attempt frequencies over a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import ResultFile
from parmlip.report.columns import in_words, swept_value
from parmlip.units import BOLTZMANN_EV

if TYPE_CHECKING:  # matplotlib takes half a second
    from matplotlib.axes import Axes

RealArray = NDArray[np.float64]

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
LAWS: Final = {"rates": "reference", "rates_surrogate": "surrogate"}
SHAPES: Final = {"rates": ("o", "-"), "rates_surrogate": ("s", "--")}


@dataclass(frozen=True)
class Jumps:
    """The jumps of one law at one point of a sweep (or at all): members of `values` by jump."""

    step: str
    label: str  # what was swept
    n_sites: int
    names: tuple[str, ...]
    values: dict[str, dict[str, Any]]
    temperature_t: RealArray
    rate_jt: RealArray
    path_energy: RealArray
    path_position: RealArray


def read_rates(path: Path) -> list[Jumps]:
    """Everything that the stage rates left; empty without any."""
    file = ResultFile(path)
    found = []
    for i, swept in [(None, {}), *enumerate(file.points())]:  # what no swept key changes is done once
        for step in LAWS:
            if file.complete(step, i):
                names = ("n_sites", "names", "jumps", "temperatures", "rates", "path_energy", "path_position")
                n, jumps, values, t, k, energy, place = (file.read(step, name, i) for name in names)
                label = ", ".join(in_words(swept_value(value)) for value in swept.values())
                found.append(Jumps(step, label, n, tuple(jumps), values, t, k, energy, place))
    return found


def rates_panels(left: Axes, right: Axes, found: list[Jumps]) -> None:
    """Of several sizes of the cell barriers and attempt frequencies against it, else paths and rates."""
    if len({one.n_sites for one in found}) > 1:
        _by_size(left, found, "barrier", "barrier (eV)")
        _by_size(right, found, "attempt_frequency", "attempt frequency (THz)")
        left.set_title("Barrier")
        right.set_title("Attempt frequency (Vineyard)")
        return
    many = len({one.step for one in found}) > 1
    shown = found[: len(COLOURS)]
    for number, one in enumerate(shown):
        marker, style = SHAPES[one.step]
        for j, name in enumerate(one.names):
            colour = COLOURS[(number if len(shown) > 2 else j) % len(COLOURS)]
            label = ", ".join([name, *([LAWS[one.step]] if many else []), *([one.label] if one.label else [])])
            left.plot(one.path_position[j] / one.path_position[j][-1], one.path_energy[j], marker, color=colour,
                      linestyle=style, markersize=5.5, markeredgecolor="white", label=label)  # fmt: skip
            left.axhline(one.values[name]["barrier"], color=colour, linewidth=0.8, linestyle=":")
            if not one.values[name].get("connects", True):
                continue  # of older files: the saddle is not this jump's
            frequency = one.values[name]["attempt_frequency"]
            beta_t = 1.0 / (BOLTZMANN_EV * one.temperature_t)
            right.plot(beta_t, one.rate_jt[j], marker, color=colour, linestyle=style, markersize=5.5,
                       markeredgecolor="white", label=f"{label}: {frequency:.3f} THz")  # fmt: skip
    left.set_xlabel("way along the path")
    left.set_ylabel("energy (eV); dotted: the saddle's")
    left.set_title("Paths")
    left.legend(loc="lower center")
    right.set_yscale("log")
    right.set_xlabel("1 / $k_B T$ (1/eV)")
    right.set_ylabel("rate (1/s)")
    right.set_title("Rates, harmonic transition state theory")
    right.legend(loc="lower left")


def _by_size(axes: Axes, found: list[Jumps], quantity: str, label: str) -> None:
    from matplotlib.ticker import NullFormatter

    names = list(dict.fromkeys((one.step, name) for one in found for name in one.names))
    many = len({step for step, _ in names}) > 1
    for number, (step, name) in enumerate(names):
        marker, style = SHAPES[step]
        of = [one for one in found if one.step == step and name in one.names]
        of = [one for one in of if one.values[name].get("connects", True)]
        if not of:
            continue
        order = np.argsort([one.n_sites for one in of])
        n, value = (np.array(x)[order] for x in zip(*((one.n_sites, one.values[name][quantity]) for one in of)))
        size = max(9.0 - 3.0 * number, 4.0)  # they may lie on one another
        axes.plot(n, value, marker, color=COLOURS[number % len(COLOURS)], linestyle=style, markersize=size,
                  markeredgecolor="white", label=f"{name}, {LAWS[step]}" if many else name)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sorted({one.n_sites for one in found}), [str(n) for n in sorted({one.n_sites for one in found})])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("sites of the cell")
    axes.set_ylabel(label)
    axes.legend()
