"""The stencil norm with its dual and operator norms, against dense matrices made bond by bond."""

import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.norms import stencil_norm
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics import hessian
from parmlip.mechanics.domain import partitioned
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.stability import Product
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.potentials.eam import builtin

CASES = [("triangular", 2.7, (5, 5, 1)), ("bcc", 3.16, (3, 3, 3)), ("bcc", 3.16, (1, 2, 3))]
ZHOU = builtin("W-Zhou", (4.6, 5.6))


def crystal(name="triangular", a=2.7, repeats=(5, 5, 1)):
    """With a vacancy."""
    return apply_defects(build_supercell(LATTICES[name], a, repeats, ("W",)), [Vacancy(at=(0, 0, 0))])


def space_of(cell, comm, kind="voronoi"):
    return StencilSpace(cell, partitioned(cell, comm=comm), kind)


def dense(cell, kind="voronoi"):
    """K of one component, bond by bond."""
    pairs = nearest_neighbours(cell, kind, np.arange(cell.n_sites))
    K = np.zeros((cell.n_sites, cell.n_sites))
    for n in range(cell.n_sites):
        for m in pairs.site_p[pairs.first_n[n] : pairs.first_n[n + 1]]:
            e = np.zeros(cell.n_sites)
            e[m] += 1.0
            e[n] -= 1.0
            K += np.outer(e, e)
    return K


def field(cell, seed=0):
    """Of all sites, the same on every rank."""
    return np.random.default_rng(seed).standard_normal((cell.n_sites, cell.dimension))


@pytest.mark.parametrize("kind", ["voronoi", "nearest"])
@pytest.mark.parametrize("case", CASES)
def test_the_norm_is_that_of_the_differences_over_all_bonds(case, kind):
    cell = crystal(*case)
    with space_of(cell, MPI.COMM_SELF, kind) as space:
        u = field(cell)
        K = dense(cell, kind)
        assert space.norm(u) == pytest.approx(np.sqrt(np.einsum("nc,nm,mc->", u, K, u)), rel=1e-12)
        pairs = nearest_neighbours(cell, kind, np.arange(cell.n_sites))
        assert space.norm(u) == pytest.approx(stencil_norm(pairs, u), rel=1e-12)
        assert space.norm(np.ones_like(u)) < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_the_dual_norm_is_that_of_the_dense_pseudo_inverse(case):
    cell = crystal(*case)
    f = field(cell)
    f -= f.mean(axis=0)
    inverse = np.linalg.pinv(dense(cell), rcond=1e-10, hermitian=True)
    with space_of(cell, MPI.COMM_SELF) as space:
        assert space.dual_norm(f) == pytest.approx(np.sqrt(np.einsum("nc,nm,mc->", f, inverse, f)), rel=1e-9)
        np.testing.assert_allclose(space.inverse(f), inverse @ f, atol=1e-9)


def test_the_dual_norm_is_the_least_upper_bound_of_work_over_norm():
    cell = crystal()
    f = field(cell)
    f -= f.mean(axis=0)
    with space_of(cell, MPI.COMM_SELF) as space:
        bound = space.dual_norm(f)
        for seed in range(1, 20):
            v = field(cell, seed)
            assert np.vdot(f, v) / space.norm(v) < bound
        v = space.inverse(f)
        assert np.vdot(f, v) / space.norm(v) == pytest.approx(bound, rel=1e-9)


def test_a_force_that_moves_nothing_but_the_whole_has_no_dual_norm():
    cell = crystal()
    with space_of(cell, MPI.COMM_SELF) as space:
        assert space.dual_norm(np.ones((cell.n_sites, 2))) < 1e-12


def test_the_norm_of_a_hessian_is_the_largest_dense_generalised_eigenvalue():
    cell = crystal()
    energy = Energy(ZHOU, cell, comm=MPI.COMM_SELF)
    u = 0.02 * field(cell)
    H = hessian.assembled(energy, u).convert("dense").getDenseArray()
    # on the complement of the translations both are what they are in any basis of it
    basis = scipy.linalg.null_space(np.kron(np.ones((1, cell.n_sites)), np.eye(2)))
    K = basis.T @ np.kron(dense(cell), np.eye(2)) @ basis
    for shift in (0.0, -3.0):  # the second has its largest eigenvalue below zero
        values = scipy.linalg.eigh(basis.T @ H @ basis + shift * K, K, eigvals_only=True)
        with space_of(cell, MPI.COMM_SELF) as space, Product(energy, u) as product:
            k = np.kron(dense(cell), np.eye(2))

            def shifted(v, product=product, shift=shift, k=k):
                return product(v) + shift * (k @ v.reshape(-1)).reshape(v.shape)

            assert space.operator_norm(shifted, tolerance=1e-8) == pytest.approx(np.abs(values).max(), rel=1e-8)
            loose = space.operator_norm(shifted)
            assert (1 - 2e-3) * np.abs(values).max() <= loose <= np.abs(values).max() * (1 + 1e-9)


def test_the_norm_of_nothing_is_zero_and_that_of_the_norm_itself_is_one():
    cell = crystal()
    k = np.kron(dense(cell), np.eye(2))
    with space_of(cell, MPI.COMM_SELF) as space:
        assert space.operator_norm(np.zeros_like) == 0.0
        itself = space.operator_norm(lambda v: (k @ v.reshape(-1)).reshape(v.shape))
        assert itself == pytest.approx(1.0, rel=1e-9)


def test_too_few_steps_are_told():
    cell = crystal()
    energy = Energy(ZHOU, cell, comm=MPI.COMM_SELF)
    zero, told = np.zeros((cell.n_sites, 2)), pytest.raises(ConvergenceError, match="after 3 steps")
    with space_of(cell, MPI.COMM_SELF) as space, Product(energy, zero) as product, told:
        space.operator_norm(product, tolerance=1e-6, max_steps=3)


@pytest.mark.mpi
@pytest.mark.parametrize("case", CASES)
def test_nothing_depends_on_the_number_of_ranks(comm, case):
    cell, found = crystal(*case), []
    for each in (MPI.COMM_SELF, comm):
        energy = Energy(ZHOU, cell, comm=each)
        u = energy.sites.restrict(0.02 * field(cell))
        f = energy.sites.restrict(field(cell, 1))
        with StencilSpace(cell, energy.sites) as space, Product(energy, u) as product:
            values = [space.norm(u), space.dual_norm(f), space.operator_norm(product)]
            found.append((values, energy.sites.gather_to_all(space.inverse(f))))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-8)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-9)


@pytest.mark.mpi
def test_large_cells_have_the_same_dual_norm_by_multigrid(comm):
    # beyond 2000 sites K is inverted with multigrid; a force K u has the dual norm ||Du||
    cell = crystal("triangular", 2.7, (50, 50, 1))
    pairs = nearest_neighbours(cell, "voronoi", np.arange(cell.n_sites))
    u = field(cell)
    centre_p = np.repeat(np.arange(cell.n_sites), np.diff(pairs.first_n))
    f = np.zeros_like(u)
    np.add.at(f, centre_p, 2.0 * (u[centre_p] - u[pairs.site_p]))
    with space_of(cell, comm) as space:
        assert space.dual_norm(space.sites.restrict(f)) == pytest.approx(stencil_norm(pairs, u), rel=1e-8)
