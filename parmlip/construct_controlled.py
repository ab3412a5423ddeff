"""Controlled surrogates of an input: the reference's site energies, expanded about known states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Defect, Simulation, Study, Training
from parmlip.construct import cell_of, defect_centres, lattice, reference_law, supercell
from parmlip.construct_controlled_lines import harmonic_error
from parmlip.crystal.distances import closest_distance
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.oriented import oriented
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.mechanics.bulk import nearest_distance
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.taylor import LatticeState, TaylorLaw, lattice_vectors
from parmlip.potentials.taylor_state import CellState, SmallCell

__all__ = [
    "controlled_law", "controlled_law_in_training", "core_radius", "defect_distance", "domain_length", "domain_size",
    "lattice_law", "stands_for", "training_state",
]  # fmt: skip

Crystal = tuple[Lattice, float]

# Vectors of the crystal are known this far beyond the cutoff, angstrom: lists have margins, crystals are strained.
_BEYOND: Final = 3.0


def lattice_law(study: Study, of: Crystal | None = None, table: Simulation | Training | None = None) -> TaylorLaw:
    """The expansion about the perfect crystal, for any structure that is near it, in the frame of the table's cell."""
    law, s = reference_law(study), study.surrogate
    crystal = lattice(study, law) if of is None else of
    state = _lattice_state(law, crystal if table is None else cell_of(table, crystal))
    axes_cc = None
    if table is not None and table.dislocations is not None and table.dislocations.line is not None:
        axes_cc = oriented(crystal[0], table.dislocations.line, table.dislocations.plane).axes_cc
    return TaylorLaw(
        law, state, s.order, s.force_constant_error, s.third_order_error, harmonic_error(study, crystal, axes_cc)
    )


def _lattice_state(law: SiteLaw, of: Crystal) -> LatticeState:
    return LatticeState(lattice_vectors(*of, law.cutoff + _BEYOND))


def controlled_law(study: Study, of: Crystal, displacements: Sequence[NDArray[np.float64]]) -> TaylorLaw:
    """The law of [surrogate] kind = "taylor" for the sites of the simulation cell.

    Parameters
    ----------
    displacements : sequence of ndarray, shape (n_sites, d)
        Equilibria of the training cells, in the order of the input, angstrom; not used with states = "lattice".
    """
    law = lattice_law(study, of)
    if study.surrogate.states == "equilibrium":
        return law.about(training_state(study, of, displacements))
    return law.about(CellState(_lattice_state(law.law, of), supercell(study, study.simulation, of)))


def training_state(study: Study, of: Crystal, displacements: Sequence[NDArray[np.float64]]) -> CellState:
    """The simulation cell with D u_L of the training cells about its defects, closer than `near` L: see `stands_for`.

    Parameters
    ----------
    displacements : sequence of ndarray, shape (n_sites, d)
        Equilibria of the training cells, in the order of the input, angstrom.
    """
    which = stands_for(study)
    centres = defect_centres(study, study.simulation, of)
    small = {i: _small_cell(study, study.training[i], of, displacements[i]) for i in set(which)}
    defects = [(centre, small[i]) for centre, i in zip(centres, which, strict=True)]
    # unit cells are matched with vectors as far as the law's lists, which only a law of site energies has
    reach = (0.0 if study.reference.is_total else reference_law(study).cutoff) + _BEYOND
    lattice = LatticeState(lattice_vectors(*of, max(reach, 1.5 * of[1] * nearest_distance(of[0]))))
    return CellState(lattice, supercell(study, study.simulation, of), defects)


def controlled_law_in_training(
    study: Study, of: Crystal, number: int, displacement_ad: NDArray[np.float64] | None
) -> TaylorLaw:
    """The same rule for the sites of a training cell: near ones about its equilibrium, its corners about the lattice.

    Parameters
    ----------
    number : int
        Of the [[training]] table.
    displacement_ad : ndarray, shape (n_sites, d), optional
        The cell's equilibrium, angstrom; None with states = "lattice".
    """
    law, table = lattice_law(study, of), study.training[number]
    defects = []
    if displacement_ad is not None:
        (centre,) = defect_centres(study, table, of)
        defects = [(centre, _small_cell(study, table, of, displacement_ad))]
    return law.about(CellState(_lattice_state(law.law, of), supercell(study, table, of), defects))


def _small_cell(study: Study, table: Training, of: Crystal, u_ad: NDArray[np.float64]) -> SmallCell:
    (centre,) = defect_centres(study, table, of)
    near = study.surrogate.near * domain_length(table, of)
    return SmallCell(supercell(study, table, of), u_ad, centre, near)


def stands_for(study: Study) -> list[int]:
    """For each defect of [simulation] the number of the [[training]] cell that has the same one, and it alone.

    Raises
    ------
    ConfigError
        There is none.
    """
    found: list[int] = []
    for n, defect in enumerate(study.simulation.defects):
        same = [i for i, t in enumerate(study.training) if len(t.defects) == 1 and _alike(defect, t.defects[0])]
        if not same:
            raise ConfigError(
                f'[surrogate] states = "equilibrium": no [[training]] has the defect [simulation] defects[{n}] '
                f"({defect.kind}) alone"
            )
        found.append(same[0])
    return found


def _alike(a: Defect, b: Defect) -> bool:
    """Whether two defects differ by a lattice translation only."""
    if replace(a, at=None, position=None) != replace(b, at=None, position=None):
        return False
    for x, y in ((a.at, b.at), (a.position, b.position)):
        if (x is None) != (y is None):
            return False
        if x is not None and y is not None:
            difference = np.array((*x, 0.0, 0.0)[:3]) - np.array((*y, 0.0, 0.0)[:3])
            if np.abs(difference - np.rint(difference)).max() > 1e-6:
                return False
    return True


def domain_length(table: Training, of: Crystal) -> float:
    """L of a training cell: the length of its shortest cell vector that moves, angstrom."""
    named, constant = cell_of(table, of)
    cell_cc = named.cell(constant) * np.array(table.repeats)[:, None]
    straight = table.dislocations is not None and table.dislocations.line is not None
    d = 2 if straight else of[0].dimension  # along a line nothing is learnt
    return float(np.linalg.norm(cell_cc[:d], axis=1).min())


def core_radius(study: Study, of: Crystal, otherwise: float) -> float:
    """[compare] core_radius, angstrom: as given, or half of the smallest training cell's length, or `otherwise`."""
    given = study.compare.core_radius
    if not isinstance(given, str):
        return given
    if "training" not in study.tables:
        return otherwise
    return 0.5 * min(domain_length(table, of) for table in study.training)


def domain_size(study: Study, of: Crystal) -> float:
    """L of the smallest training cell in nearest-neighbour distances."""
    return min(domain_length(t, of) for t in study.training) / (of[1] * nearest_distance(of[0]))


def defect_distance(study: Study, cell: Supercell, of: Crystal) -> float:
    """L_D of the simulation cell, which has two defects or more, in nearest-neighbour distances."""
    return closest_distance(cell, defect_centres(study, study.simulation, of)) / (of[1] * nearest_distance(of[0]))
