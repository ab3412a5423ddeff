"""Third derivatives and what entropies make of them: finite differences, an independent program, several laws."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import DataError
from parmlip.fit.observations import Configuration, environments
from parmlip.mechanics.dense_entropy import dense_hessian, log_modes
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.third_derivatives import HessianTraces, ThirdDerivative, tangent_change
from parmlip.numerics.divided_differences import log_divided_differences
from parmlip.potentials import bond_order, eam
from parmlip.potentials.ace import ACE, ACEBasis
from tests.mechanics.entropy_cells import ORACLE, SI, configuration

ACE_LAW = ACE(ACEBasis(("Si",), 2, 6, cutoff=4.2, r0=2.35), np.random.default_rng(5).normal(size=17))


def entropy_parts(law, state):
    """Modes of the Hessian and the traces of a configuration."""
    around, site_p = environments(state, law.species, law.cutoff)
    return log_modes(dense_hessian(law, around, site_p, 3), 3, 3), HessianTraces(law, around, site_p, 3)


def moved(state, change_ac):
    return Configuration(state.cell_cc, state.periodic, state.positions_ac + change_ac, state.species)


@pytest.mark.parametrize("key", ["bulk32", "vac31"])
def test_total_entropy_and_its_gradient_of_rattled_silicon(key):
    given = ORACLE["gradients"][key]
    modes, traces = entropy_parts(SI, configuration(key))
    assert modes.total == pytest.approx(given["S_-half_sum_log"], abs=1e-10)
    gradient = traces(modes.total_trace)
    np.testing.assert_allclose(gradient, given["grad"], rtol=0, atol=1e-11)
    parts = sum(traces(modes.site_trace(site)) for site in range(len(gradient)))
    np.testing.assert_allclose(parts, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["Si-SW", "Si-PPM2017"])
def test_gradients_are_the_differences_of_entropies_to_1e_8(name):
    law = SI if name == "Si-SW" else bond_order.builtin(name)
    state = configuration("vac31")
    modes, traces = entropy_parts(law, state)
    along = np.random.default_rng(2).standard_normal(state.positions_ac.shape)

    def values(h):
        modes, _ = entropy_parts(law, moved(state, h * along))
        return np.array([modes.total, modes.site_values[7]])

    def differences(h):
        return (values(h) - values(-h)) / (2.0 * h)

    fine, coarse = differences(2e-4), differences(4e-4)
    exact = [np.sum(traces(m) * along) for m in (modes.total_trace, modes.site_trace(7))]
    np.testing.assert_allclose((4.0 * fine - coarse) / 3.0, exact, rtol=1e-8)
    rate = np.log2(np.abs((coarse - exact) / (fine - exact)))
    np.testing.assert_allclose(rate, 2.0, atol=0.1)


@pytest.mark.parametrize(
    ("law", "lattice", "a", "accuracy"),
    [
        pytest.param(SI, "diamond", 5.43, 1e-12, id="pairs and angles"),
        pytest.param(eam.builtin("Cu-Mishin2001"), "fcc", 3.615, 1e-12, id="embedded atom"),
        pytest.param(ACE_LAW, "diamond", 5.43, 1e-8, id="cluster expansion, by differences"),
    ],
)
def test_third_derivatives_of_laws_are_symmetric_and_those_of_the_hessian(law, lattice, a, accuracy):
    cell = build_supercell(LATTICES[lattice], a, (2, 2, 2), law.species[:1])
    rng = np.random.default_rng(3)
    energy = Energy(law, cell, comm=MPI.COMM_SELF)
    e = energy.environments(rng.uniform(-0.05, 0.05, (cell.n_sites, 3)))
    a_pc, b_pc, c_pc = rng.standard_normal((3, *e.r_pc.shape))
    abc = np.sum(tangent_change(law, e, a_pc)(b_pc) * c_pc)
    scale = np.linalg.norm(tangent_change(law, e, a_pc)(b_pc)) * np.linalg.norm(c_pc)
    assert abs(np.sum(tangent_change(law, e, c_pc)(a_pc) * b_pc) - abc) < accuracy * scale
    assert abs(np.sum(tangent_change(law, e, b_pc)(c_pc) * a_pc) - abc) < accuracy * scale

    def tangent(h):
        return law.linearised(e.with_vectors(e.r_pc + h * a_pc))(b_pc)

    fine, coarse = ((tangent(h) - tangent(-h)) / (2.0 * h) for h in (1e-4, 2e-4))
    difference = (4.0 * fine - coarse) / 3.0
    got = tangent_change(law, e, a_pc)(b_pc)
    np.testing.assert_allclose(got, difference, rtol=0, atol=1e-7 * np.abs(got).max())


@pytest.mark.mpi
def test_the_three_ways_to_traces_agree_on_any_number_of_ranks(comm):
    cell = build_supercell(LATTICES["fcc"], 3.615, (2, 2, 2), ("Cu",))
    law = eam.builtin("Cu-Mishin2001")
    energy = Energy(law, cell, comm=comm)
    rng = np.random.default_rng(4)
    u_ad = rng.uniform(-0.05, 0.05, (32, 3))
    x_xk = rng.standard_normal((96, 2))
    weight_k = np.array([0.7, -1.3])
    matrix_xx = (x_xk * weight_k) @ x_xk.T
    third = ThirdDerivative(energy, energy.sites.restrict(u_ad))
    by_vectors = third.quadratic(energy.sites.restrict(x_xk.reshape(32, 3, 2)), weight_k)
    columns = third.columns()
    for first in range(0, 32, 5):
        site_b = np.arange(first, min(first + 5, 32))
        rows = matrix_xx.reshape(32, 3, 32, 3)[:, :, site_b].transpose(0, 1, 3, 2)
        columns.add(site_b, energy.sites.restrict(np.ascontiguousarray(rows)))
    state = Configuration(cell.cell_cc, (True,) * 3, cell.positions_ac + u_ad, ("Cu",) * 32)
    around, site_p = environments(state, law.species, law.cutoff + 0.4)
    dense_ad = HessianTraces(law, around, site_p, 3)(matrix_xx)
    scale = np.abs(dense_ad).max()
    for found in (by_vectors, columns.result()):
        np.testing.assert_allclose(energy.sites.gather_to_all(found), dense_ad, rtol=0, atol=1e-12 * scale)


def test_divided_differences_of_close_and_of_far_values():
    x = np.array([1.0, 1.0 + 1e-13, 1.0 + 1e-5, 1.3, 1e-6, 40.0])
    found = log_divided_differences(x)
    np.testing.assert_allclose(np.diag(found), 1.0 / x, rtol=1e-15)
    assert found[0, 1] == pytest.approx(1.0 - 0.5e-13, rel=1e-15)
    assert found[0, 2] == pytest.approx(1.0 - 0.5e-5 + 1e-10 / 3.0, rel=1e-14)
    assert found[4, 5] == pytest.approx(np.log(40.0 / 1e-6) / (40.0 - 1e-6), rel=1e-14)
    assert found[0, 3] == pytest.approx(np.log(1.3) / 0.3, rel=1e-14)


def test_a_state_that_is_no_minimum_or_falls_apart_has_no_entropy():
    law, state = SI, configuration("bulk32")
    squeezed = state.positions_ac.copy()
    squeezed[0] += 0.9
    with pytest.raises(DataError, match=r"\d+ negative mode\(s\).*no minimum"):
        entropy_parts(law, moved(state, squeezed - state.positions_ac))
    far = build_supercell(LATTICES["diamond"], 9.0, (1, 1, 1), ("Si",))
    loose = Configuration(far.cell_cc, (True,) * 3, far.positions_ac, ("Si",) * 8)
    with pytest.raises(DataError, match="zero modes instead of 3"):
        entropy_parts(law, loose)
