"""Controlled surrogates of cells with dislocations, and the errors of the far field that an input prescribes."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Simulation, Study, Training
from parmlip.construct import reference_law
from parmlip.construct_dislocations import dislocated
from parmlip.crystal.dislocations import DislocatedCell
from parmlip.crystal.elasticity import full_tensor, rotated
from parmlip.crystal.lattices import Lattice
from parmlip.errors import ConfigError
from parmlip.mechanics.bulk import nearest_distance
from parmlip.potentials.taylor import LatticeState, TaylorLaw, lattice_vectors
from parmlip.potentials.taylor_dislocated import DislocatedState
from parmlip.potentials.taylor_perturbation import HarmonicError
from parmlip.units import GPA_PER_EV_A3

Crystal = tuple[Lattice, float]
RealArray = NDArray[np.float64]

# Vectors of the crystal are known this far beyond twice the cutoff and a Burgers vector, angstrom: Hessians ask for
# pairs of sites that interact through a third, and lists have margins.
_BEYOND: Final = 5.0
_STENCIL: Final = 1.25  # of the nearest distance: sites whose displacements are taken for a deformation


def harmonic_error(study: Study, of: Crystal, axes_cc: RealArray | None = None) -> HarmonicError | None:
    """The prescribed error of the elastic constants and of short waves; None if the input asks for none.

    Parameters
    ----------
    of : (Lattice, float)
        In its conventional cell.
    axes_cc : ndarray, shape (3, 3), optional
        Rows are the axes of the frame that is wanted, in that of the conventional cell.
    """
    s = study.surrogate
    given = s.elastic_error or {"C11": 0.0, "C12": 0.0, "C44": 0.0}
    if s.short_wave_error == 0.0 and not any(given.values()):
        return None
    error_vv = np.zeros((6, 6))
    error_vv[:3, :3] = given["C12"]
    error_vv[range(6), range(6)] = [given["C11"]] * 3 + [given["C44"]] * 3
    c_ijkl = full_tensor(error_vv / GPA_PER_EV_A3)
    if axes_cc is not None:
        c_ijkl = rotated(c_ijkl, axes_cc)
    volume = float(abs(np.linalg.det(of[0].cell(of[1])))) / of[0].n_basis
    return HarmonicError(c_ijkl, volume, _STENCIL * nearest_distance(of[0]) * of[1], s.short_wave_error)


def dislocated_law(
    study: Study, of: Crystal, table: Simulation | Training, displacement_ac: RealArray | None, stiffness_vv: RealArray
) -> TaylorLaw:
    """The law of [surrogate] kind = "taylor" for the sites of a table with dislocations.

    Parameters
    ----------
    displacement_ac : ndarray, shape (n_sites, 3), optional
        Equilibrium of the first training cell, angstrom; None with states = "lattice".
    stiffness_vv : ndarray, shape (6, 6)
        Of the predictor, eV / angstrom^3.

    Raises
    ------
    ConfigError
        The cores of the training cell are not arranged as those of the cell.
    """
    cell = dislocated(study, table, of)
    assert cell is not None
    grid = cell.supercell.grid
    assert grid is not None
    law, s = reference_law(study), study.surrogate
    longest = max(float(np.linalg.norm(core.burgers)) for core in cell.cores)
    vectors = lattice_vectors(grid.lattice, grid.lattice_constant, 2.0 * law.cutoff + longest + _BEYOND)
    predictor_ac = cell.array(stiffness_vv).displacement(cell.lattice_positions_ac)
    small, near = None, 0.0
    if displacement_ac is not None:
        small = dislocated(study, study.training[0], of)
        assert small is not None
        check_alike(small, cell)
        near = s.near * small.separation
    state = DislocatedState(LatticeState(vectors), cell, predictor_ac, small, displacement_ac, near)
    return replace(
        about_lattice(study, law_state=state), harmonic_error=harmonic_error(study, of, cell.orientation.axes_cc)
    )


def about_lattice(study: Study, law_state: DislocatedState | LatticeState) -> TaylorLaw:
    """The expansion of the reference about a state, without the harmonic error, which has a frame."""
    s = study.surrogate
    return TaylorLaw(reference_law(study), law_state, s.order, s.force_constant_error, s.third_order_error)


def check_alike(small: DislocatedCell, cell: DislocatedCell) -> None:
    """Raise `ConfigError` unless the cores of both cells have the same frame, places in it and cuts."""
    a, b = small.asked, cell.asked
    for name in ("line", "plane", "burgers", "core", "core_minus"):
        if getattr(a, name) != getattr(b, name):
            raise ConfigError(
                f"[[training]] 1 dislocations {name} = {getattr(a, name)}: must be that of [simulation], "
                f'{getattr(b, name)}, with [surrogate] kind = "taylor"'
            )
