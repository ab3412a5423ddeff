"""Lowest eigenvalues relative to the bulk."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics import hessian
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.relax import relax
from parmlip.mechanics.stability import stability
from parmlip.potentials.eam import builtin


def case(name: str, lattice: str, repeats: tuple, defects: list, *, comm: MPI.Comm, taper=None) -> tuple:
    """Energy and Green's function."""
    law = builtin(name, taper=taper)
    _, a0 = relaxed_lattice(law, LATTICES[lattice], law.species[:1])
    supercell = apply_defects(build_supercell(LATTICES[lattice], a0, repeats, law.species[:1]), defects)
    energy = Energy(law, supercell, comm=comm)
    return energy, BulkGreen(law, supercell, energy.sites)


def equilibrium(energy: Energy, green: BulkGreen) -> np.ndarray:
    u0 = np.zeros((energy.sites.n_owned, energy.dimension))
    return relax(energy, u0, Relax(force_tolerance=1e-9), green=green).u_nd


def half_hop(energy: Energy, lattice_constant: float) -> np.ndarray:
    """A neighbour of the vacancy at the origin half way to it."""
    u_ad = np.zeros((energy.supercell.n_sites, 3))
    hop = 0.5 * lattice_constant * np.array([0.0, 1.0, 1.0])
    site = np.flatnonzero(np.linalg.norm(energy.supercell.positions_ac - hop, axis=1) < 1e-6)[0]
    u_ad[site] = -0.5 * hop
    return energy.sites.restrict(u_ad)


@pytest.mark.mpi
def test_the_perfect_crystal_is_one_everywhere(comm):
    energy, green = case("W-EAM4", "bcc", (3, 3, 3), [], comm=comm)
    found = stability(energy, np.zeros((energy.sites.n_owned, 3)), green)
    assert found.stable
    assert found.steps == 1
    assert found.lowest == pytest.approx((1.0,), abs=1e-12)


@pytest.mark.parametrize(("name", "lattice", "lowest"), [("Cu-Mishin2001", "fcc", 0.47), ("W-Zhou", "bcc", 0.60)])
def test_vacancies_have_the_published_lowest_eigenvalue(name, lattice, lowest):
    # The spectrum of F H F of the entropy prototype: .47 - 1.17 (Cu Mishin), .60 - 1.09 (W Zhou).
    energy, green = case(name, lattice, (4, 4, 4), [Vacancy(at=(0, 0, 0))], comm=MPI.COMM_SELF)
    found = stability(energy, equilibrium(energy, green), green)
    assert found.stable
    assert found.lowest[0] == pytest.approx(lowest, abs=6e-3)


def test_ritz_values_agree_with_the_dense_generalised_eigenvalues():
    defects = [Vacancy(at=(0, 0, 0))]
    energy, green = case("W-Zhou", "triangular", (8, 8, 1), defects, comm=MPI.COMM_SELF, taper=(4.6, 5.6))
    u = equilibrium(energy, green)
    n = u.size
    G = np.array([green(e.reshape(-1, 2)).reshape(-1) for e in np.eye(n)])
    matrix = hessian.assembled(energy, u)
    H = matrix.convert("dense").getDenseArray()
    dense = np.sort(np.linalg.eigvals(G @ H).real)
    np.testing.assert_allclose(dense[:2], 0.0, atol=1e-12)
    found = stability(energy, u, green, tolerance=1e-8)
    assert found.lowest[0] == pytest.approx(dense[2], rel=1e-9)


@pytest.mark.mpi
def test_an_unstable_state_is_detected_on_any_number_of_ranks(comm):
    results = []
    for each in (MPI.COMM_SELF, comm):
        energy, green = case("Cu-Mishin2001", "fcc", (3, 3, 3), [Vacancy(at=(0, 0, 0))], comm=each)
        results.append(stability(energy, half_hop(energy, energy.supercell.grid.lattice_constant), green))
    assert not results[0].stable
    assert results[0].lowest[0] < -0.1 < 0.0 < results[0].lowest[1]
    assert results[1].lowest == pytest.approx(results[0].lowest, rel=1e-9)


def test_signs_are_found_without_a_green_function_too():
    energy, _ = case("Cu-Mishin2001", "fcc", (3, 3, 3), [Vacancy(at=(0, 0, 0))], comm=MPI.COMM_SELF)
    zero = np.zeros((energy.sites.n_owned, 3))
    assert stability(energy, zero, None).stable
    found = stability(energy, half_hop(energy, energy.supercell.grid.lattice_constant), None)
    assert not found.stable
    assert not found.relative
