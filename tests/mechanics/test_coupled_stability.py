"""Stability of coupled equilibria: eigenvalues against dense ones, saddles, ranks."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.clamped_domain import build_domain
from parmlip.crystal.defects import Vacancy
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.regions import build_regions
from parmlip.mechanics.arnoldi import leftmost_values
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.coupled_stability import balance_stability
from parmlip.mechanics.energy_mixing import MixedEnergy
from parmlip.mechanics.force_balance import balance_forces
from parmlip.mechanics.force_mixing import HybridForces, SiteLawForces
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.stability import Product, stability
from parmlip.parallel.sites import Sites
from parmlip.potentials.eam import builtin
from parmlip.potentials.taylor import LatticeState, TaylorLaw, lattice_vectors
from parmlip.potentials.taylor_state import CellState

TRIANGULAR = lattice_named("triangular", None)
LAW = builtin("W-Zhou", (3.8, 5.0))
TIGHT = Relax(method="newton", force_tolerance=1e-9, max_iterations=60)
RADIUS = 9.0  # lattice constants, of the domain


@functools.cache
def constant():
    return relaxed_lattice(LAW, TRIANGULAR, ("W",))[1]


@functools.cache
def domain():
    a = constant()
    return build_domain(TRIANGULAR, a, ("W",), [Vacancy((0, 0, 0))], kind="disc", radius=RADIUS * a, rim=10.5)


def taylor(made):
    lattice = LatticeState(lattice_vectors(TRIANGULAR, constant(), LAW.cutoff + 3.0))
    return TaylorLaw(LAW, CellState(lattice, made.supercell), 2)


def regions(made, buffer):
    radius = 3.0 * constant()
    return build_regions(made.supercell, made.centre_c[None], radius, buffer, made.free_a, in_plane=True)


def hybrid(comm, mm=None):
    """A vacancy, force mixing."""
    made = domain()
    of = regions(made, 2.0 * LAW.cutoff)
    energy = ClampedEnergy(taylor(made) if mm is None else mm, made.supercell, made.free_a, comm=comm)
    return HybridForces(energy, SiteLawForces(LAW, made.supercell, energy.sites, of.qm_a, of.cluster_a), of.qm_a)


def half_hop(energy):
    """The neighbour of the vacancy at [1, 0] half way to it, which is no equilibrium."""
    made = domain()
    at_ac = made.supercell.positions_ac - made.centre_c
    u_ad = np.zeros((made.supercell.n_sites, 2))
    u_ad[np.argmin(np.linalg.norm(at_ac - np.array([constant(), 0.0, 0.0]), axis=1)), 0] = -0.5 * constant()
    return energy.sites.restrict(u_ad)


def dense(product, green, free_n):
    """Eigenvalues of G H on the free sites of one rank, by ascending real part."""
    free = np.flatnonzero(np.repeat(free_n, 2))
    n = 2 * len(free_n)
    unit = np.eye(n)[free]
    h_ij = np.array([product(e.reshape(-1, 2)).reshape(-1)[free] for e in unit]).T
    g_ij = np.array([green(e.reshape(-1, 2)).reshape(-1)[free] for e in unit]).T
    values = np.linalg.eigvals(g_ij @ h_ij)
    return values[np.argsort(values.real)]


def jacobian_product(forces, u_nd):
    mm = forces.mm_hessian(u_nd)
    matrix = forces.jacobian(u_nd, mm)
    x, y = mm.createVecs()

    def product(v_nd):
        x.getArray()[:] = v_nd.reshape(-1)
        matrix.mult(x, y)
        return y.getArray().reshape(v_nd.shape).copy()

    return product


@pytest.mark.parametrize("state", ["balance", "half a hop"])
def test_the_leftmost_eigenvalue_of_a_jacobian_is_that_of_the_dense_one(state):
    forces = hybrid(MPI.COMM_SELF)
    energy = forces.energy
    if state == "balance":
        u_nd = balance_forces(forces, energy.zero_nd, TIGHT, what="test").u_nd
    else:
        u_nd = half_hop(energy)
    green = bulk_green(energy)
    expected = dense(jacobian_product(forces, u_nd), green, ~energy.clamped_n)
    found = balance_stability(forces, u_nd, green, tolerance=1e-10)
    assert abs(found.lowest.real - expected[0].real) < 1e-8
    assert found.stable == (state == "balance") == (expected[0].real > 0.0)
    assert found.steps < 80


def test_with_the_tolerance_of_the_stage_the_error_is_within_the_residual():
    forces = hybrid(MPI.COMM_SELF)
    green = bulk_green(forces.energy)
    u_nd = half_hop(forces.energy)
    exact = balance_stability(forces, u_nd, green, tolerance=1e-10)
    found = balance_stability(forces, u_nd, green, tolerance=1e-5)
    assert 0.0 < abs(found.lowest - exact.lowest) < found.residual < 1e-3
    assert found.steps < exact.steps


@pytest.mark.parametrize("state", ["equilibrium", "half a hop"])
def test_the_lowest_eigenvalue_of_energy_mixing_is_that_of_the_dense_hessian(state):
    made = domain()
    of = regions(made, LAW.cutoff)
    energy = MixedEnergy(LAW, taylor(made), made.supercell, of.qm_a, made.free_a, comm=MPI.COMM_SELF)
    u_nd = relax(energy, energy.zero_nd, TIGHT).u_nd if state == "equilibrium" else half_hop(energy)
    green = bulk_green(energy)
    with Product(energy, u_nd) as product:
        expected = dense(product, green, ~energy.clamped_n)
    for assembled in (False, True):
        found = stability(energy, u_nd, green, tolerance=1e-5, assembled=assembled)
        assert abs(found.lowest[0] - expected[0].real) < 1e-8
        assert found.stable == (state == "equilibrium")


def test_where_one_law_is_everywhere_both_mixings_have_the_same_eigenvalue():
    forces = hybrid(MPI.COMM_SELF, LAW)
    u_nd, green = half_hop(forces.energy), bulk_green(forces.energy)
    of_force = balance_stability(forces, u_nd, green, tolerance=1e-10)
    of_energy = stability(forces.energy, u_nd, green, tolerance=1e-10)
    assert abs(of_force.lowest - of_energy.lowest[0]) < 1e-9


@pytest.mark.mpi
def test_signs_and_values_are_the_same_on_any_number_of_ranks(comm):
    alone, together = (balance_stability(f, half_hop(f.energy), bulk_green(f.energy)) for f in map(hybrid, (
        MPI.COMM_SELF, comm)))  # fmt: skip
    assert not alone.stable
    assert together.lowest == pytest.approx(alone.lowest, abs=1e-9)
    assert together.steps == alone.steps


def test_without_a_greens_function_the_sign_is_that_of_the_jacobian_itself():
    forces = hybrid(MPI.COMM_SELF)
    u_nd = half_hop(forces.energy)
    found = balance_stability(forces, u_nd, None)
    expected = dense(jacobian_product(forces, u_nd), lambda x_nd: x_nd, ~forces.energy.clamped_n)
    assert not found.relative
    assert found.lowest.real == pytest.approx(expected[0].real, abs=1e-3)
    assert found.lowest.real < 0.0


def rotating(comm, n=12):
    """A matrix with a pair of complex eigenvalues, -0.5 +- 2 i, to the left of all others, on sites of one rank."""
    sites = Sites(np.zeros(n, dtype=np.int32), comm=comm)
    a_ij = np.diag(np.linspace(0.3, 4.0, 2 * n))
    a_ij[:2, :2] = [[-0.5, 2.0], [-2.0, -0.5]]
    q_ij = np.linalg.qr(np.random.default_rng(0).standard_normal((2 * n, 2 * n)))[0]
    a_ij = q_ij @ a_ij @ q_ij.T
    return sites, lambda v_nd: (a_ij @ v_nd.reshape(-1)).reshape(v_nd.shape)


def test_of_a_complex_pair_the_value_with_the_positive_imaginary_part_comes_first():
    sites, product = rotating(MPI.COMM_SELF)
    free_n = np.zeros(sites.n_owned, dtype=bool)
    found = leftmost_values(
        product, None, lambda f: f.residual < 1e-10, sites, 2, max_steps=50, seed=1, clamped_n=free_n
    )
    assert abs(found.values[0] - (-0.5 + 2.0j)) < 1e-8
    assert found.values[1] == found.values[0].conjugate()
