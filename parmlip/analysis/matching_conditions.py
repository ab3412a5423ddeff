"""The matching conditions of a surrogate as one table: each error of the theory with its scale and its RMSE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

# What each is, and its unit in d dimensions ("{d}").
MEANING: Final = {
    "energy": ("eps^E, energies over the training ball", "eV"),
    "force_dual": ("eps^F, forces over the training ball, dual norm", "eV/A"),
    "force_constants": ("eps^FC, Hessian of the training cell's equilibrium, operator norm", "eV/A^2"),
    "force_constants_hom": ("eps^FC_hom, Hessian of the perfect crystal, operator norm", "eV/A^2"),
    "virial_0": ("eps^V_0, first derivatives of the energy density", "eV/A^{d}"),
    "virial_1": ("eps^V_1, second derivatives of the energy density", "eV/A^{d}"),
    "virial_2": ("eps^V_2, third derivatives of the energy density", "eV/A^{d}"),
}


@dataclass(frozen=True)
class Condition:
    """One matching condition; all of one unit but for the RMSE of forces, which is per component."""

    error: float  # in the theory's norm, the largest that was found
    rmse: float
    reference: float  # the same norm of the reference's own quantity
    random: float | None = None  # `error` without the states that ascent found; None where there is no ball

    def worst(self, other: Condition) -> Condition:
        """The one whose error is larger: of several training cells the theory asks for the worst."""
        return other if other.error > self.error else self


@dataclass(frozen=True)
class MatchingConditions:
    """All conditions; None where a crystal has no lattice or no training cell was looked at.

    In the result file `energy` is `match/energy_error`, `match/energy_rmse`, `match/energy_reference` and (ball only)
    `match/energy_random`; the others likewise, `force_dual` under the name `force`.

    References
    ----------
    Ortner and Wang (2022), (3.3)-(3.6); Wang, Patel and Ortner (2023), (4.15), (4.16).
    """

    energy: Condition | None = None
    force_dual: Condition | None = None
    force_constants: Condition | None = None
    force_constants_hom: Condition | None = None
    virial_0: Condition | None = None
    virial_1: Condition | None = None
    virial_2: Condition | None = None

    def items(self) -> Iterable[tuple[str, Condition]]:
        """Names and conditions that were measured."""
        return [(f.name, c) for f in fields(self) if (c := getattr(self, f.name)) is not None]

    def worst(self, other: MatchingConditions) -> MatchingConditions:
        """Condition by condition the larger error."""
        mine, theirs = dict(self.items()), dict(other.items())
        shared = {name: mine[name].worst(theirs[name]) for name in mine.keys() & theirs.keys()}
        return MatchingConditions(**{**mine, **theirs, **shared})

    def lines(self, dimension: int) -> list[str]:
        """A table as text, one line for each condition."""
        head = f"{'condition':<20} {'error':>10} {'RMSE':>10} {'relative':>10}  unit"
        rows = []
        for name, c in self.items():
            # a reference at equilibrium has no stress but for rounding
            relative = f"{c.error / c.reference:10.2e}" if c.reference > 1e-9 else f"{'-':>10}"
            about, unit = MEANING[name]
            rows.append(f"{name:<20} {c.error:10.3e} {c.rmse:10.3e} {relative}  {unit.format(d=dimension)}  {about}")
        return [head, *rows]
