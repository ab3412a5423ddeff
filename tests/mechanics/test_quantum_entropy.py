"""Quantum corrections of harmonic free energies."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.defects import Interstitial, Vacancy
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_dense import dense
from parmlip.mechanics.quantum_entropy import quantum_correction, quantum_phi, quantum_slope, reduced
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.potentials.eam import builtin
from tests.mechanics.test_total_entropy import SI, Case

CU = builtin("Cu-Mishin2001")
MASS = {"Cu": 63.546, "Si": 28.085}


def correction(case, temperature, n_near, n_probes, **options):
    matrix = hessian.operator(case.energy, case.u_nd)
    with RelativeHessian(matrix, case.law, case.cell, case.energy.sites) as relative:
        found = quantum_correction(
            relative, case.energy, case.u_nd, MASS, temperature, n_near=n_near, n_probes=n_probes, **options
        )
    matrix.destroy()
    return found


def by_eigenvalues(case, temperature):
    """sum phi over the modes of the defective cell minus N_def / N_hom times the perfect one's."""
    factor = reduced(temperature) / MASS[case.cell.species[0]]
    perfect = Energy(case.law, case.perfect, comm=case.energy.comm)
    values = [
        quantum_phi(factor * np.linalg.eigvalsh(dense(energy, u_nd))).sum()
        for energy, u_nd in ((case.energy, case.u_nd), (perfect, np.zeros((perfect.sites.n_owned, 3))))
    ]
    return values[0] - case.cell.n_sites / case.perfect.n_sites * values[1]


def test_phi_is_the_difference_of_quantum_and_classical_oscillators():
    x = np.array([0.05, 0.3, 2.0, 40.0])
    np.testing.assert_allclose(quantum_phi(x**2), np.log(2.0 * np.sinh(x)) - np.log(2.0 * x), rtol=1e-12, atol=1e-15)
    s = np.array([1e-14, 9.99e-3, 1.001e-2, 3.0])
    step = 1e-6 * s
    np.testing.assert_allclose(
        quantum_slope(s), (quantum_phi(s + step) - quantum_phi(s - step)) / (2.0 * step), rtol=1e-7
    )
    # hbar omega = 0.0646541 eV sqrt(lambda), with lambda in eV / (angstrom^2 amu) (CODATA 2018)
    assert np.sqrt(reduced(300.0)) * 2.0 * 8.617333262e-5 * 300.0 == pytest.approx(0.06465415, rel=1e-6)


@pytest.mark.parametrize(
    ("law", "lattice", "a", "defects"),
    [
        (CU, "fcc", 3.615, [Vacancy((0, 0, 0))]),
        (CU, "fcc", 3.615, [Interstitial("Cu", site="dumbbell_100", at=(1, 1, 1))]),
        (SI, "diamond", 5.43, [Vacancy((0, 0, 0)), Vacancy((1, 1, 1))]),
    ],
)
@pytest.mark.parametrize("temperature", [300.0, 50.0])
def test_krylov_spaces_agree_with_all_eigenvalues(law, lattice, a, defects, temperature, comm):
    case = Case(law, lattice, a, (2, 2, 2), defects, comm)
    found = correction(case, temperature, 10**6, 0, tolerance=1e-11)
    assert found.error == 0.0
    assert found.value == pytest.approx(by_eigenvalues(case, temperature), abs=1e-8)


@pytest.mark.mpi(2)
def test_probes_tell_the_far_sites_on_any_number_of_ranks(comm):
    case = Case(CU, "fcc", 3.615, (4, 4, 4), [Vacancy((0, 0, 0))], comm)
    found = correction(case, 100.0, 43, 12)
    assert 0.0 < found.error < 0.01
    assert found.steps < 20
    everywhere = case.energy.sites.gather_to_all(case.u_nd)
    alone = Case(CU, "fcc", 3.615, (4, 4, 4), [Vacancy((0, 0, 0))], MPI.COMM_SELF, everywhere)
    assert correction(alone, 100.0, 43, 12).value == pytest.approx(found.value, abs=1e-9)
    if comm.size == 2:
        assert abs(correction(case, 100.0, 10**6, 0).value - found.value) < 4.0 * found.error + 1e-6
