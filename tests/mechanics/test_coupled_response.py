"""Response of a coupled equilibrium to forces."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.clamped_domain import build_domain
from parmlip.crystal.defects import Vacancy
from parmlip.crystal.lattices import lattice_named
from parmlip.mechanics import force_balance
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.coupled_response import CoupledResponse
from parmlip.potentials.eam import builtin

LAW = builtin("W-Zhou", (3.8, 5.0))
DOMAIN = build_domain(
    lattice_named("triangular"), 2.7, ("W",), [Vacancy((0.0, 0.0, 0.0))], kind="disc", radius=16.0, rim=11.0
)


def energy_and_forces(comm):
    """Forces on free sites, of one number each whatever the ranks."""
    energy = ClampedEnergy(LAW, DOMAIN.supercell, DOMAIN.free_a, comm=comm)
    f_ad = np.random.default_rng(3).normal(size=(DOMAIN.supercell.n_sites, 2))
    return energy, energy.sites.restrict(np.where(DOMAIN.free_a[:, None], f_ad, 0.0))


@pytest.mark.mpi
def test_the_response_is_what_the_forces_at_the_end_are_against_and_clamped_sites_stay(comm, caplog):
    energy, f_nd = energy_and_forces(comm)
    with CoupledResponse(energy, energy.zero_nd, None) as response:
        s_nd = response(1e-4 * f_nd)
    _, before_nd = energy.difference_and_forces(energy.zero_nd)
    _, after_nd = energy.difference_and_forces(s_nd)
    largest = max(comm.allgather(float(np.abs(after_nd - before_nd + 1e-4 * f_nd).max(initial=0.0))))
    assert largest < 5e-3 * 1e-4  # of second order, and the solver's tolerance
    assert not s_nd[energy.clamped_n].any()
    assert not caplog.records


def test_a_response_that_is_not_solved_is_told(monkeypatch, caplog):
    energy, f_nd = energy_and_forces(MPI.COMM_SELF)
    monkeypatch.setattr(force_balance, "_INNER", 1)
    with caplog.at_level(logging.WARNING), CoupledResponse(energy, energy.zero_nd, None) as response:
        response(f_nd)
    assert "the response to forces is solved to" in caplog.text


def test_no_forces_have_no_response():
    energy, f_nd = energy_and_forces(MPI.COMM_SELF)
    with CoupledResponse(energy, energy.zero_nd, None) as response:
        assert not response(0.0 * f_nd).any()
