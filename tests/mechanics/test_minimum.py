"""Relaxations that leave saddles."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.minimum import relax_to_minimum
from parmlip.mechanics.relax import relax
from parmlip.mechanics.saddle import find_saddle
from parmlip.potentials.eam import builtin

ROUGH = Relax(force_tolerance=1e-3)  # of 1e-9 rounding would lead away from saddles, sooner or later


def half_hop(comm) -> tuple[Energy, np.ndarray, np.ndarray]:
    """The saddle of a hop of a vacancy in copper, and the hop: (n_owned, 3)."""
    law = builtin("Cu-Mishin2001")
    _, a0 = relaxed_lattice(law, LATTICES["fcc"], law.species[:1])
    perfect = build_supercell(LATTICES["fcc"], a0, (3, 3, 3), law.species[:1])
    energy = Energy(law, apply_defects(perfect, [Vacancy(at=(0, 0, 0))]), comm=comm)
    hop = 0.5 * a0 * np.array([0.0, 1.0, 1.0])
    site = np.argmin(np.linalg.norm(energy.supercell.positions_ac - hop, axis=1))
    hop_ad = np.zeros((energy.supercell.n_sites, 3))
    hop_ad[site] = -hop
    hop_nd, green = energy.sites.restrict(hop_ad), BulkGreen(law, energy.supercell, energy.sites)
    return energy, find_saddle(energy, 0.5 * hop_nd, hop_nd, green, force_tolerance=1e-8).u_nd, hop_nd


def test_a_saddle_that_the_start_is_held_on_by_symmetry_is_left_to_the_side_that_is_wanted():
    energy, start_nd, beyond_nd = half_hop(MPI.COMM_SELF)
    held = relax(energy, start_nd, ROUGH)
    assert held.iterations == 0
    free = relax(energy, np.zeros_like(start_nd), ROUGH)  # the vacancy where it was
    for aim_nd in (beyond_nd, np.zeros_like(start_nd)):
        found = relax_to_minimum(energy, start_nd, ROUGH, toward_nd=aim_nd, what="hop")
        assert found.energy < held.energy - 0.1
        assert abs(found.energy - free.energy) < 1e-4  # both sides are the same vacancy
        assert np.abs(found.u_nd - aim_nd).max() < 0.5  # angstrom, of a hop of 2.6


@pytest.mark.mpi
def test_the_side_hangs_on_no_number_of_ranks(comm):
    energy, start_nd, _ = half_hop(comm)
    found = energy.sites.gather_to_all(relax_to_minimum(energy, start_nd, ROUGH, what="hop").u_nd)
    alone, start_nd, _ = half_hop(MPI.COMM_SELF)
    np.testing.assert_allclose(
        found, alone.sites.gather_to_all(relax_to_minimum(alone, start_nd, ROUGH, what="hop").u_nd), atol=1e-6
    )


def test_a_minimum_is_that_of_the_plain_relaxation_and_failures_are_the_same():
    energy, start_nd, _ = half_hop(MPI.COMM_SELF)
    settings = Relax(force_tolerance=1e-9)
    plain = relax(energy, np.zeros_like(start_nd), settings)
    found = relax_to_minimum(energy, np.zeros_like(start_nd), settings, what="vacancy")
    np.testing.assert_array_equal(found.u_nd, plain.u_nd)
    with pytest.raises(ConvergenceError, match="hop: not converged after 1 iterations"):
        relax_to_minimum(energy, start_nd, Relax(force_tolerance=1e-9, max_iterations=1), what="hop")
