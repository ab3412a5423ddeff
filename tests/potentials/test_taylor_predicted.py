"""Taylor laws in a disc with a dislocation: the state of a pair is the crystal's vector next to its predicted one."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.dislocation_disc import build_disc
from parmlip.crystal.lattices import lattice_named
from parmlip.errors import GeometryError
from parmlip.mechanics.bulk import UnitCell, relaxed_lattice
from parmlip.mechanics.domain import Domain, partitioned
from parmlip.potentials.eam import builtin
from parmlip.potentials.taylor import LatticeState, lattice_vectors
from parmlip.potentials.taylor_predicted import PredictedState

LAW = builtin("W-Zhou", (3.2, 4.2))
BCC = lattice_named("bcc", None)
A = relaxed_lattice(LAW, BCC, ("W",))[1]
EDGE = {"line": (0, 0, 1), "plane": (0, 1, 0), "burgers": (1.0, 0.0, 0.0)}


@pytest.fixture(scope="module")
def disc():
    return build_disc(BCC, A, ("W",), radius=16.0, rim=9.0, **EDGE)


def state(disc, predictor_ac):
    vectors = lattice_vectors(disc.orientation.lattice, A, 2.0 * LAW.cutoff + A + 5.0)
    return PredictedState(LatticeState(vectors), disc.supercell, predictor_ac)


def environments(disc, u_ac, chosen):
    cell = disc.supercell
    domain = Domain(cell, partitioned(cell, comm=MPI.COMM_SELF), LAW.cutoff + 0.5, ("W",), u_ac)
    found = domain.environments(domain.with_ghosts(u_ac))
    centre_p = np.repeat(np.arange(cell.n_sites), np.diff(found.first_n))
    return found, chosen[centre_p]


def test_without_a_predictor_the_state_is_the_reference_configuration(disc):
    none_ac = np.zeros_like(disc.supercell.positions_ac)
    found, _ = environments(disc, none_ac, np.ones(len(none_ac), dtype=bool))
    np.testing.assert_allclose(state(disc, none_ac).vectors(found), found.origin.bond_pc, atol=1e-9)


def test_far_from_the_core_strains_are_small_also_across_the_cut_where_the_slip_is_taken_off(disc):
    u0_ac = disc.predictor(UnitCell(LAW, BCC, A, ("W",)).stiffness()[1])
    far_a = disc.distances() > 10.0
    found, far_p = environments(disc, u0_ac, far_a)
    held = state(disc, u0_ac)
    with pytest.raises(GeometryError, match="from all vectors of the crystal"):
        held.vectors(found)  # of the core too
    count_n = np.where(far_a, np.diff(found.first_n), 0)
    origin = type(found.origin)(found.origin.bond_pc[far_p], found.origin.global_n)
    first_n = np.concatenate([[0], np.cumsum(count_n)])
    part = type(found)(first_n, found.r_pc[far_p], found.species_n, found.species_p[far_p], origin)
    strain_p = np.linalg.norm(part.r_pc - held.vectors(part), axis=1)
    assert strain_p.max() < 0.25 * A
    against_reference_p = np.linalg.norm(part.r_pc - origin.bond_pc, axis=1)
    assert against_reference_p.max() > 0.7 * A  # across the cut sites have slipped by a Burgers vector


def test_sites_of_another_disc_are_refused(disc):
    none_ac = np.zeros_like(disc.supercell.positions_ac)
    found, _ = environments(disc, none_ac, np.ones(len(none_ac), dtype=bool))
    shifted = type(found.origin)(found.origin.bond_pc + 0.1, found.origin.global_n)
    moved = type(found)(found.first_n, found.r_pc, found.species_n, found.species_p, shifted)
    with pytest.raises(GeometryError, match="not those of the disc that it was made for"):
        state(disc, none_ac).vectors(moved)
