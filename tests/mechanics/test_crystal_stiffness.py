"""The perfect crystal's Hessian on the sites of a domain with defects, as preconditioner of force mixing."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.clamped_domain import build_domain
from parmlip.crystal.defects import Interstitial, Vacancy
from parmlip.crystal.lattices import lattice_named
from parmlip.mechanics import hessian
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.crystal_stiffness import HybridOnCrystal, crystal_hessian, on_lattice
from parmlip.mechanics.force_balance import balance_forces
from parmlip.mechanics.force_mixing import HybridForces
from parmlip.potentials import eam

LAW = eam.builtin("Cu-Mishin2001")


def domain(*defects):
    return build_domain(lattice_named("fcc"), 3.615, ("Cu",), defects, kind="disc", radius=8.0, rim=11.1)


def dense(matrix, energy):
    """Rows and columns in the order of the sites, on every rank."""
    n, d, sites = energy.sites.n_sites, 3, energy.sites
    local = matrix.getValues(range(*matrix.getOwnershipRange()), range(n * d)).reshape(sites.n_owned, d, n * d)
    rows = sites.gather_to_all(local).reshape(n * d, n, d)
    return rows[:, sites.number_a].reshape(n * d, n * d)


def test_sites_off_the_lattice_are_found():
    perfect = domain()
    assert on_lattice(perfect, domain(Vacancy((0, 0, 0))).supercell.positions_ac) is not None
    extra = domain(Interstitial("Cu", position=(0.5, 0.5, 0.5)))
    assert on_lattice(perfect, extra.supercell.positions_ac) is None


@pytest.mark.mpi
def test_it_is_the_principal_submatrix_of_the_sites_that_are_there(comm):
    perfect, defective = domain(), domain(Vacancy((0, 0, 0)))
    whole = ClampedEnergy(LAW, perfect.supercell, perfect.free_a, comm=comm)
    energy = ClampedEnergy(LAW, defective.supercell, defective.free_a, comm=comm)
    of_whole = hessian.assembled(whole, np.zeros((whole.sites.n_owned, 3)))
    part = crystal_hessian(LAW, perfect, energy, comm=comm)
    kept = on_lattice(perfect, defective.supercell.positions_ac)
    row = (3 * kept[:, None] + np.arange(3)).ravel()
    exact, found = dense(of_whole, whole)[np.ix_(row, row)], dense(part, energy)
    assert comm.allreduce(np.abs(found - exact).max(), op=MPI.MAX) < 1e-12 * np.abs(exact).max()
    assert np.linalg.eigvalsh(found).min() > 0.0
    for matrix in (part, of_whole):
        matrix.destroy()


class Bare:
    """QM forces that are those of the energy, but without derivatives."""

    def __init__(self, energy, qm_n):
        self.energy, self.qm_n = energy, qm_n

    def forces(self, u_nd):
        return np.where(self.qm_n[:, None], self.energy.difference_and_forces(u_nd)[1], 0.0)


def test_the_force_balance_found_with_it_is_that_found_without():
    perfect, defective = domain(), domain(Vacancy((0, 0, 0)))
    energy = ClampedEnergy(LAW, defective.supercell, defective.free_a, comm=MPI.COMM_SELF)
    qm_a = defective.distances() < 5.0
    qm, start_nd = Bare(energy, energy.sites.restrict(qm_a)), np.zeros((energy.sites.n_owned, 3))
    settings = Relax(force_tolerance=1e-8)
    plain = balance_forces(HybridForces(energy, qm, qm_a), start_nd, settings, what="plain")
    other = balance_forces(HybridOnCrystal(energy, qm, qm_a, perfect), start_nd, settings, what="crystal")
    assert np.abs(plain.u_nd).max() > 0.01
    np.testing.assert_allclose(other.u_nd, plain.u_nd, rtol=0, atol=1e-7)
    assert other.iterations <= 15
