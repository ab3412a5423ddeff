"""A committee through a relaxation: first order against relaxing with every member anew; the same on all ranks."""

from functools import cache

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.analysis.error_bars import error_bars
from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.norms import stencil_norm
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConvergenceError
from parmlip.fit.dataset import labelled
from parmlip.fit.design import build_factors, fit
from parmlip.fit.posterior import draws
from parmlip.fit.sampling import sample
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.response import Response
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.committee import Committee
from parmlip.potentials.eam import builtin

A0 = 3.165
SETTINGS = Relax(force_tolerance=1e-11)
BASIS = ACEBasis(("W",), correlation_order=2, total_degree=6, cutoff=5.0, r0=2.74, r_in=1.9)


@cache
def fitted() -> tuple[ACE, np.ndarray]:
    """A small law of tungsten, and deviations of four members."""
    law = builtin("W-Zhou", (3.8, 5.0))
    cell = apply_defects(build_supercell(LATTICES["bcc"], A0, (3, 3, 3), ("W",)), [Vacancy(at=(0, 0, 0))])
    states = sample(cell, cell.positions_ac, 6, 0.1, "uniform", name="vacancy", seed=1, index=(0,))
    self = MPI.COMM_SELF
    factors = build_factors(BASIS, labelled(law, states, comm=self), comm=self)
    found = fit(factors, {"energy": 100.0, "force": 1.0}, solver="blr", tolerance=0.0,
                prior_k=BASIS.smoothness(), comm=self)  # fmt: skip
    assert found.covariance_factor is not None
    return ACE(BASIS, found.coefficients), draws(np.zeros(BASIS.n_basis), found.covariance_factor, 4, seed=2)


def vacancy(repeats=(4, 4, 4)):
    return apply_defects(build_supercell(LATTICES["bcc"], A0, repeats, ("W",)), [Vacancy(at=(1, 1, 1))])


def equilibrium(law, comm):
    energy = Energy(law, vacancy(), comm=comm)
    found = relax(energy, np.zeros((energy.sites.n_owned, 3)), SETTINGS)
    return energy, found


def formation(law, energy, found):
    unit = UnitCell(law, LATTICES["bcc"], A0, ("W",))
    return energy.total(found.u_nd) - energy.sites.n_sites * unit.energy / unit.n_basis


def bars_of(deviation_ik, comm, green=True):
    law, _ = fitted()
    energy, found = equilibrium(law, comm)
    cell = energy.supercell
    pairs = nearest_neighbours(cell, "voronoi", np.arange(comm.rank, cell.n_sites, comm.size))
    committee = Committee(tuple(ACE(BASIS, d) for d in deviation_ik), energy_scale=1.0, force_scale=1.0)
    perfect = UnitCell(law, LATTICES["bcc"], A0, ("W",))
    return error_bars(
        energy, found.u_nd, committee, bulk_green(energy) if green else None, pairs, perfect, tolerance=1e-11
    )


def test_what_members_relaxed_anew_differ_by_is_met_up_to_second_order():
    law, deviation_ik = fitted()
    deviation_k = deviation_ik[0]
    energy, found = equilibrium(law, MPI.COMM_SELF)
    steps = np.array([2.0, 1.0, 0.5])
    wrong, moved, lowered = [], [], []
    for t in steps:
        bars = bars_of(t * deviation_k[None], MPI.COMM_SELF)
        other = ACE(BASIS, law.coefficients + t * deviation_k)
        again, at = equilibrium(other, MPI.COMM_SELF)
        change = formation(other, again, at) - formation(law, energy, found)
        wrong.append(abs(change - bars.formation_i[0]))
        pairs = nearest_neighbours(energy.supercell, "voronoi", np.arange(energy.supercell.n_sites))
        moved.append(abs(stencil_norm(pairs, at.u_nd - found.u_nd) - bars.geometry))
        lowered.append(abs(at.energy - found.energy - bars.energy_i[0]))
        assert moved[-1] < 0.1 * bars.geometry
        assert np.allclose(
            np.linalg.norm(at.u_nd - found.u_nd, axis=1), bars.displacement_a, atol=0.1 * bars.displacement_a.max()
        )
    for error in (wrong, moved, lowered):
        order = np.polyfit(np.log(steps), np.log(error), 1)[0]
        assert order == pytest.approx(2.0, abs=0.1)


def test_bars_are_root_mean_squares_of_the_members():
    _, deviation_ik = fitted()
    together = bars_of(deviation_ik, MPI.COMM_SELF)
    alone = [bars_of(d[None], MPI.COMM_SELF) for d in deviation_ik]
    assert together.formation == pytest.approx(np.sqrt(np.mean([b.formation**2 for b in alone])), rel=1e-9)
    assert together.geometry == pytest.approx(np.sqrt(np.mean([b.geometry**2 for b in alone])), rel=1e-7)
    assert together.energy == pytest.approx(np.sqrt(np.mean([b.energy**2 for b in alone])), rel=1e-9)


def test_algebraic_multigrid_gives_what_the_green_function_gives():
    _, deviation_ik = fitted()
    with_green, without = (
        bars_of(deviation_ik[:1], MPI.COMM_SELF),
        bars_of(deviation_ik[:1], MPI.COMM_SELF, green=False),
    )
    assert with_green.geometry == pytest.approx(without.geometry, rel=1e-7)


@pytest.mark.mpi(2, 3)
def test_any_number_of_ranks_finds_the_same_bars(comm):
    _, deviation_ik = fitted()
    here, serial = bars_of(deviation_ik[:2], comm), bars_of(deviation_ik[:2], MPI.COMM_SELF)
    assert here.formation == pytest.approx(serial.formation, rel=1e-8)
    assert here.geometry == pytest.approx(serial.geometry, rel=1e-6)
    assert np.allclose(here.displacement_a, serial.displacement_a, atol=1e-6 * serial.displacement_a.max())


@pytest.mark.mpi
def test_a_state_that_is_no_minimum_has_no_response(comm):
    law, _ = fitted()
    energy = Energy(ACE(BASIS, -law.coefficients), vacancy(), comm=comm)
    u_nd = np.zeros((energy.sites.n_owned, 3))
    f_nd = np.random.default_rng(0).standard_normal((energy.sites.n_sites, 3))[energy.sites.global_n]
    with Response(energy, u_nd, None) as response, pytest.raises(ConvergenceError, match="no minimum"):
        response(f_nd)
