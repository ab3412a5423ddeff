"""Error budget of a surrogate in a large simulation, and what to change: Theorem 3.1 with its constants measured.

The theorem, (3.7) and (3.8) of Ortner and Wang (2022), bounds the errors by C (eps^F + L^-d/2 eps^FC_hom + L^-3d/2).
Here its terms are told one by one with what stands in for C in the proof: the stability constant gamma of the training
cell, the reference's norm, and the far field |Du| beyond L/2 of the defects, of which L^-d/2 and L^-3d/2 are the decay.
All hold within the ball of training states only; whether the simulation's equilibrium lies in it is told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Final

from parmlip.errors import DataError

# Beyond this factor of test over training force error more functions would only fit the training set better.
_OVERFITTED: Final = 1.5
_MORE_DEGREES: Final = 2
_SPARE: Final = 1.5  # by which a wider ball is to exceed what was seen
_LARGEST_RATTLE: Final = 0.2  # angstrom; beyond it sites are displaced by a tenth of their distance


@dataclass(frozen=True)
class Measured:
    """What is known of a surrogate, its training and the simulation."""

    dimension: int
    n_defects: int  # of the simulation
    length: float  # L, shortest edge of the training cell, angstrom
    n_sites: int  # of the training cell
    energy: float  # eps^E, eV
    force: float  # eps^F, dual norm, eV / angstrom
    force_constants_hom: float  # eps^FC_hom, eV / angstrom^2
    cubic: float  # error of the perfect crystal's third derivative in the stencil norm, eV / angstrom^3
    stability: float  # gamma, least <H v, v> / ||Dv||^2, eV / angstrom^2
    stiffness: float  # largest <H v, v> / ||Dv||^2, eV / angstrom^2
    far_square: float  # sum of |Du|^2 over sites farther than L/2 from every defect, angstrom^2
    far_fourth: float  # sum of |Du|^4 over them, angstrom^4
    bulk_energy: float  # error of the energy per site of the perfect crystal, eV
    # How far the surrogate's equilibrium is from the training cell's near the defects, largest component of D(u - u_L)
    # over that of the training states: beyond 1 it is outside the ball in which errors were measured.
    excursion: float = 0.0


@dataclass(frozen=True)
class Training:
    """Keys of the input that advice is about."""

    energy_weight: float
    homogeneous: int
    force_constants: bool  # whether they are observed
    total_degree: int | None  # None: one for each order, or no ACE
    samples: int
    overfit: float  # test force RMSE over training force RMSE; 1 where unknown
    rattle: tuple[float, str] = (0.0, "uniform")  # amplitude, angstrom, and kind


@dataclass(frozen=True)
class Term:
    """One contribution to an error bound."""

    name: str
    value: float  # angstrom, or eV
    cause: str  # of the field's words


@dataclass(frozen=True)
class Budget:
    """Terms of the geometry error ||D(u - u~)|| (angstrom), the relaxation energy and the formation energy (eV)."""

    geometry: tuple[Term, ...]
    energy: tuple[Term, ...]
    formation: tuple[Term, ...]

    @staticmethod
    def total(terms: tuple[Term, ...]) -> float:
        """Sum of the terms."""
        return sum(term.value for term in terms)

    @staticmethod
    def largest(terms: tuple[Term, ...]) -> Term:
        """The dominating term."""
        return max(terms, key=lambda term: term.value)


@dataclass(frozen=True)
class Change:
    """Something to do, and the keys of the input that do it."""

    reason: str
    keys: dict[str, object]  # dotted keys and new values; "training.scale": factor of the training cells' edges


def budget(m: Measured) -> Budget:
    """The terms of (3.7) and (3.8).

    To first order the surrogate's equilibrium is off by H^-1 times its error of the force at the reference's, hence
    1 / gamma. That error is eps^F in the core of each defect; beyond L/2 the perfect crystal's force constants meet
    |Du|, its third derivatives |Du|^2 / 2. The energy, at an equilibrium, has the square of the geometry error times
    half the stiffness, the far field's own energy, and eps^E for each defect.

    Raises
    ------
    DataError
        The surrogate's equilibrium is not stable: gamma <= 0.
    """
    if not m.stability > 0.0:
        raise DataError(f"stability constant {m.stability:.3g} eV/A^2: no bound for a state that is not stable")
    force = sqrt(m.n_defects) * m.force / m.stability
    linear = m.force_constants_hom * sqrt(m.far_square) / m.stability
    cubic = 0.5 * m.cubic * sqrt(m.far_fourth) / m.stability
    geometry = (
        Term("forces", force, "eps^F: forces near the defects"),
        Term("force constants", linear, "L^-d/2 eps^FC_hom: force constants of the perfect crystal in the far field"),
        Term("cell size", cubic, "L^-3d/2: nonlinear far field outside the training cell"),
    )
    square = 0.5 * m.stiffness * sum(term.value for term in geometry) ** 2
    # |Du|^3 summed is at most the geometric mean of the sums of |Du|^2 and |Du|^4
    far = 0.5 * m.force_constants_hom * m.far_square + m.cubic / 6.0 * sqrt(m.far_square * m.far_fourth)
    energy = (
        Term("energies", m.n_defects * m.energy, "eps^E: energies of the training cells"),
        Term("geometry", square, "square of the geometry error"),
        Term("far field", far, "L^-d: energy of the far field outside the training cell"),
    )
    # A fit to defective cells alone fixes the sum of their site energies: the bulk's error comes back for each site.
    formation = (*energy, Term("bulk", m.n_defects * m.n_sites * abs(m.bulk_energy), "energy of the perfect crystal"))
    return Budget(geometry, energy, formation)


def advice(m: Measured, training: Training, *, geometry: float, energy: float) -> list[Change]:
    """What to change so that the bounds fall below the wanted errors `geometry` (angstrom) and `energy` (eV).

    The dominating term first; nothing if the bounds are met. The energy's is that of the formation energy. Before all:
    if the simulation's equilibrium is outside the training ball, the bounds do not hold whatever their values.
    """
    changes = [_wider(m, training)] if m.excursion > 1.0 else []
    found = budget(m)
    excess = [
        (Budget.total(terms) / wanted, Budget.largest(terms), wanted)
        for terms, wanted in ((found.geometry, geometry), (found.formation, energy))
        if Budget.total(terms) > wanted
    ]
    for _, term, wanted in sorted(excess, key=lambda e: -e[0]):
        worst = Budget.largest(found.geometry) if term.name == "geometry" else term
        for change in _remedies(m, training, worst, wanted if worst is term else geometry):
            if change not in changes:
                changes.append(change)
    return changes


def _wider(m: Measured, training: Training) -> Change:
    """Larger displacements as long as they are small, then larger cells."""
    amplitude, kind = training.rattle
    reason = "the equilibrium of the simulation is outside the training ball, where no error was measured: "
    wanted = _SPARE * m.excursion * amplitude
    if 0.0 < wanted <= _LARGEST_RATTLE:
        return Change(f"{reason}rattle more", {"training.rattle": {"amplitude": float(f"{wanted:.2g}"), "kind": kind}})
    return Change(f"{reason}enlarge the training cells, whose equilibrium is then nearer", {"training.scale": 1.5})


def _remedies(m: Measured, training: Training, term: Term, wanted: float) -> list[Change]:
    """Changes against one term that is to fall to `wanted`."""
    factor = term.value / wanted
    if term.name in ("energies", "bulk") and training.energy_weight == 0.0:
        return [Change("energies were not fitted at all: give them a weight", _energies(training))]
    if term.name == "bulk":
        if training.homogeneous == 0:
            reason = "no perfect cells were fitted, so that formation energies are not determined: add them"
            return [Change(reason, {"fit.homogeneous": 6})]
        return [Change("the energy of the perfect crystal is off: weigh energies more", _energies(training))]
    if term.name == "energies":
        reason = "energies weigh too little: the theory wants eps^E of the order of (eps^F)^2"
        return [Change(reason, _energies(training))]
    if term.name == "forces":
        if training.overfit > _OVERFITTED:
            more = ceil(training.samples * min(training.overfit, 4.0))
            return [Change("the test set's forces are worse than the training set's: add configurations",
                           {"training.samples": more})]  # fmt: skip
        keys: dict[str, object] = {}
        if training.total_degree is not None:
            keys["surrogate.total_degree"] = training.total_degree + _MORE_DEGREES
        return [Change("the basis is too small for the forces near the defects: raise its degree", keys)]
    if term.name == "force constants" and not training.force_constants:
        reason = "the perfect crystal's force constants are off: observe them"
        return [Change(reason, {"fit.weights.force_derivative_1": 1.0})]
    power = {"force constants": 0.5, "cell size": 1.5, "far field": 1.0}[term.name] * m.dimension
    scale = min(factor ** (1.0 / power), 2.0) if factor < inf else 2.0
    return [Change("the training cell is too small: enlarge it", {"training.scale": max(scale, 1.1)})]


def _energies(training: Training) -> dict[str, object]:
    """A larger weight of energies."""
    return {"fit.weights.energy": 100.0 if training.energy_weight < 1.0 else 100.0 * training.energy_weight}
