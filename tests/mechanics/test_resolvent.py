"""F H F by contour, Ritz values and shifted solves."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.defects import Interstitial, Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics import hessian
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.numerics.contour import gauss_legendre_log, slit_contour
from parmlip.potentials.eam import builtin

LAW = builtin("W-EAM4")
CU = builtin("Cu-Mishin2001")
VACANCY = [Vacancy(at=(0, 0, 0))]
EXTRA = [Interstitial(position=(0.5, 0.5, 0.5), species="Cu")]
SITES = np.array([0, 5, 32, 17])
COMPONENTS = np.array([0, 1, 2, 0])


def defective(law, lattice, repeats, defects, comm):
    shape, a0 = relaxed_lattice(law, LATTICES[lattice], law.species[:1])
    supercell = apply_defects(build_supercell(shape, a0, repeats, law.species[:1]), defects)
    energy = Energy(law, supercell, comm=comm)
    away_ad = 0.02 * np.random.default_rng(3).standard_normal((supercell.n_sites, 3)) * bool(defects)
    return energy, hessian.assembled(energy, energy.sites.restrict(away_ad))


def sites_of(n):
    """The sites asked for, the last one instead of those that do not exist."""
    return np.minimum(SITES, n - 1)


def dense_values(law, lattice, repeats, defects, f):
    """e^T f+(F H F) e and the spectrum's ends, by dense algebra on the whole grid and the extra sites."""
    energy, matrix = defective(law, lattice, repeats, defects, MPI.COMM_SELF)
    perfect, bulk = defective(law, lattice, repeats, [], MPI.COMM_SELF)
    h_perm, bulk_perm = matrix[:, :], bulk[:, :]
    number_a = energy.supercell.grid.number_a
    n_grid, n = perfect.supercell.n_sites, energy.supercell.n_sites

    def rows(sites):
        return (3 * sites[:, None] + np.arange(3)).ravel()

    bulk_xx = bulk_perm[np.ix_(rows(perfect.sites.number_a), rows(perfect.sites.number_a))]
    h_xx = h_perm[np.ix_(rows(energy.sites.number_a), rows(energy.sites.number_a))]
    off = np.flatnonzero(number_a < 0)
    place_a = number_a.copy()
    place_a[off] = n_grid + np.arange(len(off))
    total = n_grid + len(off)
    full, reference = np.zeros((3 * total, 3 * total)), np.zeros((3 * total, 3 * total))
    full[np.ix_(rows(place_a), rows(place_a))] = h_xx
    reference[: 3 * n_grid, : 3 * n_grid] = bulk_xx
    kappa = np.linalg.det(bulk_xx[:3, :3]) ** (1.0 / 3.0)
    reference[3 * n_grid :, 3 * n_grid :] = kappa * np.eye(3 * len(off))
    value, vector = np.linalg.eigh(reference)
    keep = value > 1e-8
    root = (vector[:, keep] * value[keep] ** -0.5) @ vector[:, keep].T
    theta, mode = np.linalg.eigh(root @ full @ root)
    good = theta > 1e-7
    row = 3 * place_a[sites_of(n)] + COMPONENTS
    return (mode[row][:, good] ** 2) @ f(theta[good]), theta[good].min(), theta.max()


CASES = [
    pytest.param(LAW, "bcc", (3, 3, 3), VACANCY, id="W vacancy", marks=pytest.mark.mpi(2)),
    pytest.param(
        CU,
        "fcc",
        (2, 2, 2),
        [Vacancy(at=(0, 0, 0)), Vacancy(at=(0.5, 0.5, 0))],
        id="Cu divacancy",
        marks=pytest.mark.mpi(3),
    ),
]


@pytest.mark.parametrize(("law", "lattice", "repeats", "defects"), CASES)
def test_three_methods_and_dense_algebra_have_one_answer(law, lattice, repeats, defects, comm):
    expected, low, high = dense_values(law, lattice, repeats, defects, np.log)
    energy, matrix = defective(law, lattice, repeats, defects, comm)
    with RelativeHessian(matrix, law, energy.supercell, energy.sites) as relative:
        start_xb = relative.start(sites_of(energy.supercell.n_sites), COMPONENTS)
        spaces = relative.spaces(start_xb, np.log, tolerance=1e-13)
        contour = slit_contour(low, high, 18)
        np.testing.assert_allclose(spaces.function(np.log, floor=1e-8), expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(spaces.contour(contour, np.log), expected, rtol=0, atol=1e-10)
        solves = relative.solve_shifts(start_xb[:, :2], gauss_legendre_log(low, high, 14))
        np.testing.assert_allclose(solves.value_b, expected[:2], rtol=0, atol=1e-10)
        nodes = relative.solve_nodes(start_xb[:, :1], contour, np.log)
        np.testing.assert_allclose(nodes.value_b, expected[:1], rtol=0, atol=1e-10)
        if comm.size == 1:
            inside_low, inside_high = spaces.interval(1e-8)
            assert low - 1e-9 <= inside_low
            assert inside_high <= high + 1e-9


@pytest.mark.mpi
def test_an_extra_site_has_an_einstein_reference(comm):
    expected, _, _ = dense_values(CU, "fcc", (2, 2, 2), EXTRA, np.sqrt)
    energy, matrix = defective(CU, "fcc", (2, 2, 2), EXTRA, comm)
    with RelativeHessian(matrix, CU, energy.supercell, energy.sites) as relative:
        assert energy.supercell.grid.number_a[SITES[2]] < 0  # the extra site is among those asked for
        start_xb = relative.start(sites_of(energy.supercell.n_sites), COMPONENTS)
        spaces = relative.spaces(start_xb, np.sqrt, tolerance=1e-13)
        np.testing.assert_allclose(spaces.function(np.sqrt, floor=1e-8), expected, rtol=0, atol=1e-10)


@pytest.mark.mpi
def test_what_does_not_converge_is_an_error_on_every_rank(comm):
    energy, matrix = defective(CU, "fcc", (2, 2, 2), VACANCY, comm)
    with RelativeHessian(matrix, CU, energy.supercell, energy.sites) as relative:
        start_xb = relative.start(SITES[:2], COMPONENTS[:2])
        with pytest.raises(ConvergenceError, match=r"2 of 2 vectors did not converge to 1e-13 in 4 Lanczos steps"):
            relative.spaces(start_xb, np.log, tolerance=1e-13, max_steps=4)
        assert relative.spaces(0.0 * start_xb, np.log).steps_b.tolist() == [0, 0]
