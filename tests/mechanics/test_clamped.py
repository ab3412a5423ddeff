"""Energies and relaxations of which some sites are clamped."""

import numpy as np
import pytest
from mpi4py import MPI
from scipy.sparse import csr_matrix

from parmlip.config import Relax
from parmlip.crystal.clamped_domain import build_domain
from parmlip.crystal.defects import Interstitial, Vacancy
from parmlip.crystal.dislocation_disc import build_disc
from parmlip.crystal.lattices import lattice_named
from parmlip.mechanics import hessian
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.stability import stability
from parmlip.potentials.eam import builtin

A = 3.1652
BCC = lattice_named("bcc", None)
LAW = builtin("W-FS84", None)
RIM = 2.0 * LAW.cutoff + 1.0
STIFFNESS = UnitCell(LAW, BCC, A, ("W",)).stiffness()[1]
OCTAHEDRAL = Interstitial("W", position=(0.5, 0.5, 0.0))


def vacancy(radius=14.0, rim=RIM, kind="disc"):
    return build_domain(BCC, A, ("W",), [Vacancy((0.0, 0.0, 0.0))], kind=kind, radius=radius, rim=rim)


def edge(radius=14.0, rim=RIM + A):
    made = build_disc(BCC, A, ("W",), line=(0, 0, 1), plane=(0, 1, 0), burgers=(1.0, 0.0, 0.0), radius=radius, rim=rim)
    return made, made.predictor(STIFFNESS)


def relaxed(made, comm, u0_ad=None, *, green=True, **settings):
    energy = ClampedEnergy(LAW, made.supercell, made.free_a, u0_ad, comm=comm)
    wanted = Relax(force_tolerance=1e-8, max_iterations=500, **settings)
    precondition = bulk_green(energy) if green else None
    return energy, relax(energy, energy.zero_nd.copy(), wanted, green=precondition)


@pytest.mark.mpi(3)
def test_newton_and_lbfgs_with_each_preconditioner_end_at_one_equilibrium(comm):
    made, u0_ad = edge()
    energy, first = relaxed(made, comm, u0_ad)
    u_ad = energy.sites.gather_to_all(first.u_nd)
    assert first.converged
    assert np.abs(u_ad - u0_ad)[made.free_a].max() > 0.1
    np.testing.assert_array_equal(u_ad[~made.free_a], u0_ad[~made.free_a])
    for settings in ({"hessian": "assembled"}, {"method": "lbfgs"}):
        energy, found = relaxed(made, comm, u0_ad, **settings)
        assert found.energy == pytest.approx(first.energy, abs=1e-9)
        np.testing.assert_allclose(energy.sites.gather_to_all(found.u_nd), u_ad, atol=1e-6)


@pytest.mark.mpi
def test_multigrid_on_the_clamped_hessian_gives_the_same(comm, monkeypatch):
    made = vacancy()
    _, first = relaxed(made, comm)
    monkeypatch.setattr("parmlip.mechanics.relax.bulk_green", lambda _energy: None)
    _, found = relaxed(made, comm, green=False)
    assert found.energy == pytest.approx(first.energy, abs=1e-10)
    assert sum(found.inner_iterations) < 60


def test_inner_iterations_with_the_bulks_green_function_grow_more_slowly_than_the_radius():
    found = [relaxed(vacancy(radius=radius), MPI.COMM_SELF)[1].inner_iterations for radius in (24.0, 96.0)]
    assert len(found[0]) == len(found[1]) <= 5
    assert sum(found[1]) < 2.5 * sum(found[0])
    assert max(found[1]) < 25


@pytest.mark.mpi
def test_results_do_not_depend_on_the_number_of_ranks(comm):
    made = build_domain(BCC, A, ("W",), [OCTAHEDRAL], kind="ball", radius=9.0, rim=RIM)
    energy, found = relaxed(made, comm)
    alone, serial = relaxed(made, MPI.COMM_SELF)
    assert found.energy == pytest.approx(serial.energy, rel=1e-10)
    np.testing.assert_allclose(
        energy.sites.gather_to_all(found.u_nd), alone.sites.gather_to_all(serial.u_nd), atol=1e-8
    )


@pytest.mark.mpi
def test_assembled_and_matrix_free_hessians_agree_and_are_the_identity_on_clamped_sites(comm):
    made = vacancy()
    energy = ClampedEnergy(LAW, made.supercell, made.free_a, comm=comm)
    rng = np.random.default_rng(1)
    u_nd = energy.sites.restrict(0.02 * rng.standard_normal((made.supercell.n_sites, 3)) * made.free_a[:, None])
    v_nd = energy.sites.restrict(rng.standard_normal((made.supercell.n_sites, 3)))
    products = []
    for matrix in (hessian.assembled(energy, u_nd), hessian.operator(energy, u_nd)):
        x, y = matrix.createVecs()
        x.getArray()[:] = v_nd.reshape(-1)
        matrix.mult(x, y)
        products.append(energy.sites.gather_to_all(y.getArray().reshape(-1, 3).copy()))
        for held in (x, y, matrix):
            held.destroy()
    np.testing.assert_allclose(products[0], products[1], atol=1e-9)
    v_ad = energy.sites.gather_to_all(v_nd)
    np.testing.assert_array_equal(products[1][~made.free_a], v_ad[~made.free_a])


def test_the_hessian_is_the_derivative_of_the_forces_on_free_sites():
    made = vacancy()
    energy = ClampedEnergy(LAW, made.supercell, made.free_a, comm=MPI.COMM_SELF)
    v_nd = np.random.default_rng(2).standard_normal((made.supercell.n_sites, 3)) * made.free_a[:, None]
    matrix = hessian.operator(energy, np.zeros_like(v_nd))
    x, y = matrix.createVecs()
    x.getArray()[:] = v_nd.reshape(-1)
    matrix.mult(x, y)
    product_nd = y.getArray().reshape(-1, 3).copy()
    steps, errors = np.array([4e-3, 2e-3, 1e-3]), []
    for h in steps:
        plus, minus = (energy.difference_and_forces(sign * h * v_nd)[1] for sign in (1.0, -1.0))
        errors.append(np.abs((minus - plus) / (2.0 * h) - product_nd).max())
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(2.0, abs=0.1)


def test_a_wider_rim_changes_nothing_and_one_below_two_cutoffs_does():
    energies = [relaxed(vacancy(rim=rim), MPI.COMM_SELF)[1].energy for rim in (RIM, RIM + 5.0, 0.7 * LAW.cutoff)]
    assert energies[1] == pytest.approx(energies[0], abs=1e-12)
    assert abs(energies[2] - energies[0]) > 1e-6


def test_energies_are_differences_to_the_predictor_and_its_forces_those_of_the_whole_energy():
    made, u0_ad = edge()
    energy = ClampedEnergy(LAW, made.supercell, made.free_a, u0_ad, comm=MPI.COMM_SELF)
    value, f_nd = energy.difference_and_forces(u0_ad)
    assert value == 0.0
    v_nd = np.random.default_rng(3).standard_normal(u0_ad.shape) * made.free_a[:, None]
    slopes = [
        (energy.difference_and_forces(u0_ad + h * v_nd)[0] - energy.difference_and_forces(u0_ad - h * v_nd)[0])
        / (2 * h)
        for h in (2e-4, 1e-4)
    ]
    assert (4.0 * slopes[1] - slopes[0]) / 3.0 == pytest.approx(-np.vdot(f_nd, v_nd), rel=1e-6)


def test_energies_against_the_crystal_leave_the_surface_of_the_rim_out():
    made, u0_ad = edge()
    wide, _ = edge(rim=RIM + A + 6.0)
    energies = []
    for domain in (made, wide):
        counted_a = domain.inner(0.5 * made.rim)
        energy = ClampedEnergy(LAW, domain.supercell, domain.free_a, counted_a=counted_a, comm=MPI.COMM_SELF)
        u_ad = domain.predictor(STIFFNESS)
        energies.append(energy.difference(u_ad))
        free_only = ClampedEnergy(LAW, domain.supercell, domain.free_a, u_ad, comm=MPI.COMM_SELF)
        moved_ad = u_ad + 0.05 * np.random.default_rng(5).standard_normal(u_ad.shape) * domain.free_a[:, None]
        assert energy.difference(moved_ad) - energies[-1] == pytest.approx(free_only.difference(moved_ad), abs=1e-9)
    assert energies[1] == pytest.approx(energies[0], abs=1e-9)
    whole = ClampedEnergy(LAW, made.supercell, made.free_a, comm=MPI.COMM_SELF).difference(u0_ad)
    assert abs(whole - energies[0]) > 0.1


def test_the_energy_of_a_ball_tends_to_its_limit_as_radii_grow():
    energies = [relaxed(vacancy(radius=r, kind="ball"), MPI.COMM_SELF)[1].energy for r in (9.5, 13.5, 19.0)]
    first, second = (e - energies[2] for e in energies[:2])
    assert first > second > 0.0
    assert second < 0.5 * first


@pytest.mark.mpi
@pytest.mark.parametrize("amplitude", [0.0, 0.25])
def test_the_sign_of_the_lowest_eigenvalue_is_that_of_the_free_sites_hessian(comm, amplitude):
    made = vacancy(radius=9.0)
    energy = ClampedEnergy(LAW, made.supercell, made.free_a, comm=comm)
    noise_ad = np.random.default_rng(4).uniform(-amplitude, amplitude, (made.supercell.n_sites, 3))
    u_nd = energy.sites.restrict(noise_ad * made.free_a[:, None])
    modes = stability(energy, u_nd, bulk_green(energy))
    alone = ClampedEnergy(LAW, made.supercell, made.free_a, comm=MPI.COMM_SELF)
    matrix = hessian.assembled(alone, noise_ad * made.free_a[:, None])
    first, column, value = matrix.getValuesCSR()
    dense = csr_matrix((value, column, first)).toarray()
    free = np.flatnonzero(np.repeat(made.free_a, 3))
    lowest = np.linalg.eigvalsh(dense[np.ix_(free, free)])[0]
    assert modes.stable == (lowest > 0.0) == (amplitude == 0.0)
    assert np.sign(modes.lowest[0]) == np.sign(lowest)
