"""Columns of the table of a sweep, and swept values in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

# Heading, key and format of the columns of a sweep.
COLUMNS: Final = (
    ("L", "train.domain_size", "{:.4g}"),
    ("L_D", "build.defect_distance", "{:.4g}"),
    ("functions", "train.n_basis", "{:d}"),
    ("rank", "train.rank", "{:d}"),
    ("rows", "train.n_observations", "{:d}"),
    ("fit time", "train.fit_seconds", "{:.2f}"),
    ("energy RMSE", "train.test_rmse_energy", "{:.3e}"),
    ("force RMSE", "train.test_rmse_force", "{:.3e}"),
    ("S_f RMSE", "train.test_rmse_entropy", "{:.3e}"),
    ("dS/du RMSE", "train.test_rmse_gradient", "{:.3e}"),
    ("in 2 sigma", "train.test_force_coverage_2sigma", "{:.3f}"),
    ("eps^E", "match.energy_error", "{:.2e}"),
    ("eps^F", "match.force_error", "{:.2e}"),
    ("eps^FC", "match.force_constants_error", "{:.2e}"),
    ("eps^FC_hom", "match.force_constants_hom_error", "{:.2e}"),
    ("geometry error", "compare.geometry_error", "{:.3e}"),
    ("+-", "relax_surrogate.geometry_std", "{:.1e}"),
    ("far error", "compare.geometry_error_far", "{:.3e}"),
    ("core shift", "compare.max_core_shift", "{:.3e}"),
    ("energy error", "compare.energy_error", "{:.3e}"),
    ("E_f error", "compare.formation_energy_error", "{:.3e}"),
    ("+- E_f", "relax_surrogate.formation_energy_std", "{:.1e}"),
    ("QM sites", "qmmm.n_qm", "{:d}"),
    ("QM/MM error", "qmmm.geometry_error", "{:.3e}"),
    ("estimated", "qmmm.geometry_error_estimate", "{:.3e}"),
    ("QM/MM energy error", "qmmm.energy_error", "{:.3e}"),
    ("energy excess", "qmmm.energy_excess", "{:.3e}"),
    ("ghost force", "qmmm.ghost_force", "{:.1e}"),
    ("buffer force", "qmmm.buffer_force", "{:.1e}"),
    ("steps", "qmmm.iterations", "{:d}"),
    ("QM time", "qmmm.seconds_qm", "{:.2f}"),
    ("same QM/MM basin", "qmmm.same_basin", "{}"),
    ("lowest mode", "qmmm.lowest_eigenvalue", "{:.4f}"),
    ("S_f, infinite", "entropy.formation_infinite", "{:.5f}"),
    ("+- S_f, infinite", "entropy.formation_infinite_error", "{:.1e}"),
    ("S_f", "entropy.formation", "{:.5f}"),
    ("+- S_f", "entropy.formation_error", "{:.1e}"),
    ("barrier", "rates.barrier", "{:.5f}"),
    ("nu*", "rates.attempt_frequency", "{:.5f}"),
    ("barrier, surr.", "rates_surrogate.barrier", "{:.5f}"),
    ("nu*, surr.", "rates_surrogate.attempt_frequency", "{:.5f}"),
    ("nu* RMSE", "train.rmse_attempt_frequency", "{:.4f}"),
    ("slope of dS/du", "locality.slope", "{:.2f}"),
    ("of truncation", "locality.truncation_slope", "{:.2f}"),
    ("same basin", "compare.same_basin", "{}"),
)
UNITS: Final = {
    "S_f, infinite": "k_B",
    "+- S_f, infinite": "k_B",
    "S_f": "k_B, cell",
    "+- S_f": "k_B, numerical",
    "QM/MM error": "A",
    "QM/MM energy error": "eV",
    "energy excess": "eV",
    "ghost force": "eV/A",
    "QM time": "s",
    "lowest mode": "of bulk's",
    "L": "distances",
    "L_D": "distances",
    "fit time": "s",
    "energy RMSE": "eV/cell",
    "force RMSE": "eV/A",
    "eps^E": "eV",
    "eps^F": "eV/A, dual",
    "eps^FC": "eV/A^2",
    "eps^FC_hom": "eV/A^2",
    "geometry error": "A",
    "far error": "A",
    "core shift": "A",
    "energy error": "eV",
    "E_f error": "eV",
    "+- E_f": "eV",
    "+-": "A",
    "in 2 sigma": "forces",
    "barrier": "eV",
    "nu*": "THz",
    "nu* RMSE": "THz",
    "barrier, surr.": "eV",
    "nu*, surr.": "THz",
}
# Told only where they differ from point to point.
IF_SWEPT: Final = ("L", "L_D")
# Told only of dislocations.
OF_LINES: Final = ("far error", "core shift")


def column_of(key: str) -> tuple[str, str, str]:
    """Heading, unit and format of a result: of its column if it has one, else of errors of observations, else plain."""
    for heading, name, form in COLUMNS:
        if name == key:
            return heading, UNITS.get(heading, ""), form
    if key == "train.test_rmse_energy_per_atom":
        return "energy RMSE", "eV/atom", "{:.2e}"
    if key.startswith("train.matching.") and key.endswith(".relative"):
        return _symbol(key.split(".")[2]), "relative", "{:.2e}"
    return key, "", "{:.6g}"


def _symbol(observation: str) -> str:
    """The paper's name of the error of derivatives on the perfect crystal, eps^E_j, eps^F_j or eps^V_j."""
    what, _, order = observation.rpartition("_")
    if what == "cauchy_born":
        return f"eps^V_{int(order) - 1}"
    letter = {"site_energy": "E", "force_derivative": "F"}.get(what)
    return observation if letter is None else f"eps^{letter}_{order}"


def symbols_line(headings: Iterable[str]) -> list[str]:
    """What the symbols among some headings stand for; nothing without them."""
    found = {heading[:5] for heading in headings if heading[:6] in ("eps^E_", "eps^F_", "eps^V_")}
    of = {"eps^E": "site_energy_j", "eps^F": "force_derivative_j", "eps^V": "cauchy_born_(j + 1)"}
    told = ", ".join(f"{symbol}_j: {name}" for symbol, name in of.items() if symbol in found)
    return [f"relative errors of {told}"] if told else []


def key_headings(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """Two lines of headings of swept keys, below each other: narrower than dotted."""
    parts = [key.rpartition(".") for key in keys]
    return [name for _, _, name in parts], [f"[{table}]" if table else "" for table, _, _ in parts]


def matching_keys(keys: Iterable[str]) -> list[str]:
    """The relative errors of observations other than energies and forces, which have columns of their own."""
    found = (key.partition("train.matching.")[2].split(".") for key in keys if key.endswith(".relative"))
    names = dict.fromkeys(parts[0] for parts in found if len(parts) == 2 and parts[0] not in ("energy", "force"))
    return [f"train.matching.{name}.relative" for name in names]


def swept_value(value: Any) -> Any:
    """A swept value as the input had it: lists and tables are JSON in the result file."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def in_words(value: Any) -> str:
    """A swept value in a table; defects by their number: what tells them apart, their distance, has its own column.

    Of a table of numbers (weights) those that are not zero.
    """
    found = swept_value(value)
    if isinstance(found, dict) and all(isinstance(x, (int, float)) for x in found.values()):
        return ", ".join(f"{key} {x:g}" for key, x in found.items() if x)
    if isinstance(found, list) and found and all(isinstance(d, dict) and "kind" in d for d in found):
        return ", ".join(f"{n} {_plural(kind, n)}" for kind, n in Counter(d["kind"] for d in found).items())
    return str(value)


def _plural(kind: str, n: int) -> str:
    if n == 1:
        return kind
    return kind[:-1] + "ies" if kind.endswith("y") else kind + "s"
