"""Energy and force mixing: identities, ghost forces, derivatives, rates, and agreement of ranks."""

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
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.mechanics import hessian
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.energy_mixing import MixedEnergy, ghost_gradient, on_same_places
from parmlip.mechanics.force_balance import balance_forces
from parmlip.mechanics.force_mixing import HybridForces, SiteLawForces
from parmlip.mechanics.relax import relax
from parmlip.potentials.eam import builtin
from parmlip.potentials.taylor import LatticeState, TaylorLaw, lattice_vectors
from parmlip.potentials.taylor_state import CellState

TRIANGULAR = lattice_named("triangular", None)
LAW = builtin("W-Zhou", (3.8, 5.0))
# Another law of the same element, which at this lattice constant is neither at rest nor as stiff.
OTHER = builtin("W-EAM4", None)
TIGHT = Relax(method="newton", force_tolerance=1e-10, max_iterations=60)
VACANCY = (Vacancy((0, 0, 0)),)


@functools.cache
def constant():
    return relaxed_lattice(LAW, TRIANGULAR, ("W",))[1]


@functools.cache
def domain(radius=14.0, defects=VACANCY):
    """A vacancy in a disc of the triangular lattice, radius in lattice constants, about the origin."""
    return build_domain(
        TRIANGULAR, constant(), ("W",), list(defects), kind="disc", radius=radius * constant(), rim=12.0
    )


def regions(made, radius, buffer):
    return build_regions(made.supercell, made.centre_c[None], radius * constant(), buffer, made.free_a, in_plane=True)


def taylor(made, order=2):
    lattice = LatticeState(lattice_vectors(TRIANGULAR, constant(), LAW.cutoff + 3.0))
    return TaylorLaw(LAW, CellState(lattice, made.supercell), order)


def relaxed(energy, settings=TIGHT):
    found = relax(energy, energy.zero_nd.copy(), settings)
    return energy.sites.gather_to_all(found.u_nd)


def balanced(made, qm, mm, radius, comm, start_nd=None, settings=TIGHT):
    of = regions(made, radius, 2.0 * LAW.cutoff)
    energy = ClampedEnergy(mm, made.supercell, made.free_a, comm=comm)
    forces = SiteLawForces(qm, made.supercell, energy.sites, of.qm_a, of.cluster_a)
    hybrid = HybridForces(energy, forces, of.qm_a)
    found = balance_forces(hybrid, energy.zero_nd if start_nd is None else start_nd, settings, what="test")
    return energy.sites.gather_to_all(found.u_nd), found


@functools.cache
def pure(radius=14.0):
    """The equilibrium with the QM law everywhere."""
    made = domain(radius)
    return relaxed(ClampedEnergy(LAW, made.supercell, made.free_a, comm=MPI.COMM_SELF))


def wavy(energy, size=0.02, seed=3):
    """A displacement of the free sites, the same on any number of ranks."""
    rng = np.random.default_rng(seed)
    u_ad = size * rng.standard_normal((energy.sites.n_sites, energy.dimension))
    return np.where(energy.clamped_n[:, None], 0.0, energy.sites.restrict(u_ad))


# -- identities --------------------------------------------------------------------------------------------------------


@pytest.mark.mpi
def test_energy_mixing_with_qm_everywhere_is_the_qm_law(comm):
    made = domain()
    qm_a = np.ones(made.supercell.n_sites, dtype=bool)
    mixed = MixedEnergy(LAW, OTHER, made.supercell, qm_a, made.free_a, comm=comm)
    alone = ClampedEnergy(LAW, made.supercell, made.free_a, comm=comm)
    u_nd = wavy(mixed)
    (e, f_nd), (e0, f0_nd) = mixed.difference_and_forces(u_nd), alone.difference_and_forces(u_nd)
    assert abs(e - e0) < 1e-12 * abs(e0)
    assert comm.allreduce(np.abs(f_nd - f0_nd).max(initial=0.0), op=MPI.MAX) < 1e-12


@pytest.mark.mpi
def test_force_mixing_with_qm_everywhere_is_the_qm_law(comm):
    made = domain()
    everywhere = np.ones(made.supercell.n_sites, dtype=bool)
    energy = ClampedEnergy(OTHER, made.supercell, made.free_a, comm=comm)
    hybrid = HybridForces(energy, SiteLawForces(LAW, made.supercell, energy.sites, everywhere, everywhere), everywhere)
    alone = ClampedEnergy(LAW, made.supercell, made.free_a, comm=comm)
    u_nd = wavy(energy)
    difference_nd = hybrid.forces(u_nd) - alone.difference_and_forces(u_nd)[1]
    assert comm.allreduce(np.abs(difference_nd).max(initial=0.0), op=MPI.MAX) < 1e-12


@pytest.mark.mpi(3)
def test_with_one_law_in_both_regions_there_is_no_ghost_force_and_both_mixings_give_its_equilibrium(comm):
    made, of = domain(), regions(domain(), 6.0, LAW.cutoff)
    perfect = domain(defects=())
    of_perfect = regions(perfect, 6.0, LAW.cutoff)
    ghost_ad = ghost_gradient(LAW, LAW, perfect.supercell, of_perfect.qm_a, perfect.free_a, comm=comm)
    assert np.abs(ghost_ad).max() < 1e-12
    u_ad = relaxed(MixedEnergy(LAW, LAW, made.supercell, of.qm_a, made.free_a, comm=comm))
    np.testing.assert_allclose(u_ad, pure(), atol=1e-9)
    u_ad, found = balanced(made, LAW, LAW, 6.0, comm)
    assert found.converged
    np.testing.assert_allclose(u_ad, pure(), atol=1e-9)


def test_a_buffer_of_the_cutoff_is_too_small_for_forces_and_one_of_twice_the_cutoff_is_exact():
    made, comm = domain(), MPI.COMM_SELF
    alone = ClampedEnergy(LAW, made.supercell, made.free_a, comm=comm)
    u_nd = wavy(alone)
    exact_nd = alone.difference_and_forces(u_nd)[1]
    worst = []
    for buffer in (LAW.cutoff, 2.0 * LAW.cutoff):
        of = regions(made, 5.0, buffer)
        f_nd = SiteLawForces(LAW, made.supercell, alone.sites, of.qm_a, of.cluster_a).forces(u_nd)
        worst.append(np.abs(f_nd - exact_nd)[of.qm_a].max())
        assert not f_nd[~of.qm_a].any()
    assert worst[0] > 1e-4
    assert worst[1] < 1e-12


# -- the ghost force ---------------------------------------------------------------------------------------------------


@pytest.mark.mpi
def test_uncorrected_energy_mixing_has_forces_at_the_interface_of_the_perfect_crystal_and_corrected_has_none(comm):
    made = domain(defects=())
    of = regions(made, 6.0, LAW.cutoff)
    args = LAW, OTHER, made.supercell, of.qm_a, made.free_a
    load_ad = ghost_gradient(*args, comm=comm)
    size_a = np.linalg.norm(load_ad, axis=1)
    assert size_a.max() > 0.1
    reach = max(LAW.cutoff, OTHER.cutoff)
    away_a = np.abs(of.distance_a - of.radius_a)[made.free_a] > reach + 0.01
    assert size_a[made.free_a][away_a & (of.distance_a[made.free_a] < 6.0 * constant())].max() < 1e-12
    corrected = MixedEnergy(*args, load_ad=load_ad, comm=comm)
    e, f_nd = corrected.difference_and_forces(corrected.zero_nd)
    assert e == 0.0
    assert comm.allreduce(np.abs(f_nd).max(initial=0.0), op=MPI.MAX) < 1e-12


def test_in_the_patch_test_uncorrected_energy_mixing_drifts_and_corrected_stays():
    made = domain(defects=())
    of = regions(made, 6.0, LAW.cutoff)
    args = LAW, OTHER, made.supercell, of.qm_a, made.free_a
    load_ad = ghost_gradient(*args, comm=MPI.COMM_SELF)
    drift = np.abs(relaxed(MixedEnergy(*args, comm=MPI.COMM_SELF))).max()
    stays = np.abs(relaxed(MixedEnergy(*args, load_ad=load_ad, comm=MPI.COMM_SELF))).max()
    assert drift > 0.1
    assert stays < 1e-9


def test_a_taylor_law_and_force_mixing_pass_the_patch_test():
    made, comm = domain(defects=()), MPI.COMM_SELF
    of = regions(made, 6.0, 2.0 * LAW.cutoff)
    load_ad = ghost_gradient(LAW, taylor(made), made.supercell, of.qm_a, made.free_a, comm=comm)
    assert np.abs(load_ad).max() < 1e-12
    energy = ClampedEnergy(OTHER, made.supercell, made.free_a, comm=comm)
    hybrid = HybridForces(energy, SiteLawForces(LAW, made.supercell, energy.sites, of.qm_a, of.cluster_a), of.qm_a)
    assert np.abs(hybrid.forces(energy.zero_nd)).max() < 1e-12


def test_the_load_of_the_perfect_crystal_comes_to_the_same_places_of_the_defective_one():
    made, perfect = domain(), domain(defects=())
    value_ad = np.arange(2.0 * perfect.supercell.n_sites).reshape(-1, 2)
    found_ad = on_same_places(perfect.supercell, made.supercell, value_ad)
    gone = np.argmin(np.linalg.norm(perfect.supercell.positions_ac - perfect.centre_c, axis=1))
    np.testing.assert_array_equal(found_ad, np.delete(value_ad, gone, axis=0))


# -- derivatives -------------------------------------------------------------------------------------------------------


def orders(value, slope, steps=(4e-2, 2e-2, 1e-2)):
    """Order of the error of central differences of `value(t)` against `slope`."""
    errors = [np.linalg.norm((value(t) - value(-t)) / (2.0 * t) - slope) for t in steps]
    return -np.diff(np.log(errors)) / np.log(2.0)


def test_forces_are_the_gradient_and_hessian_products_the_derivative_of_the_mixed_energy():
    made = domain()
    of = regions(made, 5.0, LAW.cutoff)
    load_ad = 0.01 * np.random.default_rng(1).standard_normal((made.supercell.n_sites, 2))
    energy = MixedEnergy(
        LAW, taylor(made, 3), made.supercell, of.qm_a, made.free_a, load_ad=load_ad, comm=MPI.COMM_SELF
    )
    u_nd, v_nd = wavy(energy), wavy(energy, 1.0, seed=5)
    _, f_nd = energy.difference_and_forces(u_nd)
    along = orders(lambda t: energy.difference_and_forces(u_nd + t * v_nd)[0], -np.vdot(f_nd, v_nd))
    assert np.abs(along - 2.0).max() < 0.1
    for form in (hessian.assembled, hessian.operator):
        matrix = form(energy, u_nd)
        x, y = matrix.createVecs()
        x.getArray()[:] = v_nd.reshape(-1)
        matrix.mult(x, y)
        h_nd = -y.getArray().reshape(-1, 2)
        h_nd[energy.clamped_n] = 0.0
        along = orders(lambda t: energy.difference_and_forces(u_nd + t * v_nd)[1], h_nd)
        assert np.abs(along - 2.0).max() < 0.1


@pytest.mark.mpi
def test_the_jacobian_of_the_hybrid_forces_is_their_derivative(comm):
    made, of = domain(), regions(domain(), 5.0, 2.0 * LAW.cutoff)
    energy = ClampedEnergy(taylor(made, 3), made.supercell, made.free_a, comm=comm)
    hybrid = HybridForces(energy, SiteLawForces(LAW, made.supercell, energy.sites, of.qm_a, of.cluster_a), of.qm_a)
    u_nd, v_nd = wavy(energy), wavy(energy, 1.0, seed=5)
    mm = hybrid.mm_hessian(u_nd)
    jacobian = hybrid.jacobian(u_nd, mm)
    x, y = mm.createVecs()
    x.getArray()[:] = v_nd.reshape(-1)
    jacobian.mult(x, y)
    slope_ad = -energy.sites.gather_to_all(y.getArray().reshape(-1, 2))
    slope_ad[~made.free_a] = 0.0
    along = orders(lambda t: energy.sites.gather_to_all(hybrid.forces(u_nd + t * v_nd)), slope_ad)
    assert np.abs(along - 2.0).max() < 0.1


# -- solutions ---------------------------------------------------------------------------------------------------------


class WithoutDerivatives:
    """QM forces as a program gives them."""

    def __init__(self, forces):
        self._forces = forces

    def forces(self, u_nd):
        return self._forces.forces(u_nd)


@pytest.mark.mpi(2)
def test_without_derivatives_of_the_qm_forces_the_same_state_is_found(comm):
    made, of = domain(), regions(domain(), 5.0, 2.0 * LAW.cutoff)
    mm = taylor(made)
    expected_ad, newton = balanced(made, LAW, mm, 5.0, comm)
    energy = ClampedEnergy(mm, made.supercell, made.free_a, comm=comm)
    forces = SiteLawForces(LAW, made.supercell, energy.sites, of.qm_a, of.cluster_a)
    hybrid = HybridForces(energy, WithoutDerivatives(forces), of.qm_a)
    found = balance_forces(hybrid, energy.zero_nd, TIGHT, what="test")
    assert (newton.method, found.method) == ("newton", "quasi-newton")
    assert hybrid.evaluations < 40
    np.testing.assert_allclose(energy.sites.gather_to_all(found.u_nd), expected_ad, atol=1e-8)


def test_without_derivatives_forces_lead_to_the_equilibrium_where_a_falling_residual_leads_to_a_saddle():
    """From where a neighbour of the vacancy has hopped a third of the way into it."""
    made, of = domain(), regions(domain(), 5.0, 2.0 * LAW.cutoff)
    mm = taylor(made)
    energy = ClampedEnergy(mm, made.supercell, made.free_a, comm=MPI.COMM_SELF)
    place_ac = made.supercell.positions_ac[:, :2] - made.centre_c[:2]
    hopper = int(np.argmin(np.linalg.norm(place_ac - [constant(), 0.0], axis=1)))
    start_ad = np.zeros((made.supercell.n_sites, 2))
    start_ad[hopper, 0] = -0.3 * constant()
    hops = {}
    for derivatives in (True, False):
        forces = SiteLawForces(LAW, made.supercell, energy.sites, of.qm_a, of.cluster_a)
        hybrid = HybridForces(energy, forces if derivatives else WithoutDerivatives(forces), of.qm_a)
        found = balance_forces(hybrid, energy.sites.restrict(start_ad), TIGHT, what="test")
        hops[found.method] = energy.sites.gather_to_all(found.u_nd)[hopper, 0]
    expected = balanced(made, LAW, mm, 5.0, MPI.COMM_SELF)[0][hopper, 0]
    assert hops["newton"] < -0.4 * constant()
    assert hops["quasi-newton"] == pytest.approx(expected, abs=1e-8)


@pytest.mark.mpi
def test_ranks_agree_also_where_one_owns_nothing_of_the_qm_region(comm):
    made, of = domain(), regions(domain(), 5.0, 2.0 * LAW.cutoff)
    u_ad, found = balanced(made, LAW, taylor(made), 5.0, comm)
    alone_ad, alone = balanced(made, LAW, taylor(made), 5.0, MPI.COMM_SELF)
    assert found.max_force <= 1e-10
    np.testing.assert_allclose(u_ad, alone_ad, atol=1e-8)
    mixed, one = (MixedEnergy(LAW, OTHER, made.supercell, of.qm_a, made.free_a, comm=c) for c in (comm, MPI.COMM_SELF))
    (e, f_nd), (e1, f1_ad) = (m.difference_and_forces(wavy(m)) for m in (mixed, one))
    assert abs(e - e1) <= 1e-10 * abs(e1)
    f_ad, f1_ad = mixed.sites.gather_to_all(f_nd), one.sites.gather_to_all(f1_ad)
    np.testing.assert_allclose(f_ad, f1_ad, atol=1e-10 * np.abs(f1_ad).max())


@pytest.mark.mpi
def test_a_rank_without_any_site_takes_part(comm):
    """Four sites at most are QM, and the cluster of a buffer near zero has no site for some ranks."""
    made = domain()
    of = regions(made, 1.1, 0.1)
    energy = ClampedEnergy(taylor(made), made.supercell, made.free_a, comm=comm)
    few_a = of.qm_a & (np.cumsum(of.qm_a) <= 2)
    forces = SiteLawForces(LAW, made.supercell, energy.sites, few_a, few_a)
    assert comm.size < 3 or comm.allreduce(forces.energy.sites.n_owned, op=MPI.MIN) == 0
    u_nd = wavy(energy)
    f_ad = energy.sites.gather_to_all(forces.forces(u_nd))
    df_ad = energy.sites.gather_to_all(forces.linearised(u_nd)(wavy(energy, 1.0, seed=5)))
    np.testing.assert_allclose(f_ad[few_a].sum(axis=0), 0.0, atol=1e-12)  # the two sites alone
    assert np.abs(f_ad[few_a]).max() > 1e-3
    np.testing.assert_allclose(df_ad[few_a].sum(axis=0), 0.0, atol=1e-12)
    assert not df_ad[~few_a].any()


def test_a_search_that_may_take_no_further_step_says_what_is_left():
    with pytest.raises(ConvergenceError, match=r"test: forces not balanced after 1 iterations .*largest force is"):
        balanced(
            domain(), LAW, taylor(domain()), 5.0, MPI.COMM_SELF,
            settings=Relax(force_tolerance=1e-10, max_iterations=1),
        )  # fmt: skip


def test_an_mm_law_without_a_species_of_the_reference_is_refused():
    made = domain()
    copper = builtin("Cu-Mishin2001", None)
    with pytest.raises(ConfigError, match="the MM law has no parameters for species 'W'"):
        MixedEnergy(LAW, copper, made.supercell, made.free_a, made.free_a, comm=MPI.COMM_SELF)
