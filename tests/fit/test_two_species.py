"""Fits of two species: B2 NiAl by a published embedded-atom law, from the data to the potential file."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.fit.dataset import labelled
from parmlip.fit.design import build_factors, fit
from parmlip.fit.observations import environments
from parmlip.fit.sampling import sample
from parmlip.io.pace import read_yace, write_yace
from parmlip.io.pace_reader import read_document, site_energies_and_gradients
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam_files import read_setfl
from tests.potentials.eam_cells import potential_file

COMM = MPI.COMM_SELF
WEIGHTS = {"energy": 100.0, "force": 1.0}
PERFECT = build_supercell(LATTICES["b2"], 2.88, (2, 2, 2), ("Ni", "Al"))
VACANCY = apply_defects(PERFECT, [Vacancy((0.0, 0.0, 0.0))])
BASES = {
    "small": ACEBasis(("Al", "Ni"), 2, 4, cutoff=5.6, r0=2.49),
    "middle": ACEBasis(("Al", "Ni"), 2, (8, 7), cutoff=5.6, r0=2.49),
    "large": ACEBasis(("Al", "Ni"), 3, (10, 9, 8), cutoff=5.6, r0=2.49),
    "small and pairs": ACEBasis(("Al", "Ni"), 2, 4, cutoff=5.6, r0=2.49, pair_degree=8),
}


def states(n: int, seed: int):
    return [
        configuration
        for i, cell in enumerate((PERFECT, VACANCY))
        for configuration in sample(cell, cell.positions_ac, n, 0.08, "julip", name=f"type {i}", seed=seed, index=(i,))
    ]


def forces_of(data) -> np.ndarray:
    return np.concatenate([labels.forces_ac.ravel() for labels in data.labels])


@pytest.fixture(scope="module")
def test_set():
    """States that no fit has seen, with the reference's labels."""
    return labelled(read_setfl(potential_file("NiAlH_jea.eam.alloy")), states(3, 2), comm=COMM)


@pytest.fixture(scope="module")
def laws(test_set):
    """The fit of every basis."""
    training = labelled(read_setfl(potential_file("NiAlH_jea.eam.alloy")), states(12, 1), comm=COMM)
    found = {}
    for name, basis in BASES.items():
        factors = build_factors(basis, training, WEIGHTS, comm=COMM)
        found[name] = ACE(basis, fit(factors, WEIGHTS, tolerance=1e-8, comm=COMM).coefficients)
    return found


def error(law: ACE, data) -> float:
    """RMSE of forces relative to their root mean square."""
    wanted = forces_of(data)
    found = forces_of(labelled(law, data.configurations, comm=COMM))
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


def test_unseen_forces_are_fitted_better_by_larger_bases(laws, test_set):
    small, middle, large = (error(laws[name], test_set) for name in ("small", "middle", "large"))
    assert small > 5.0 * middle
    assert middle > 2.0 * large
    assert large < 5e-4


def test_pair_functions_lower_the_error_of_a_small_basis(laws, test_set):
    assert error(laws["small and pairs"], test_set) < 0.3 * error(laws["small"], test_set)


def test_both_species_have_a_part_in_the_fit_and_exchanging_them_is_seen(laws, test_set):
    law = laws["large"]
    assert np.all(np.abs(law.coefficients.reshape(2, -1)).max(axis=1) > 0.0)
    exchanged = ACE(law.basis, law.coefficients.reshape(2, -1)[::-1].ravel())
    assert error(exchanged, test_set) > 100.0 * error(law, test_set)


def test_the_potential_file_of_the_fit_gives_its_energies_and_forces(laws, test_set, tmp_path):
    law = laws["large"]
    write_yace(tmp_path / "NiAl.yace", law)
    around, _ = environments(test_set.configurations[0], law.species, law.cutoff)
    wanted = law.site_gradients(around)
    read_alone = site_energies_and_gradients(read_document(tmp_path / "NiAl.yace"), around)
    read_back = read_yace(tmp_path / "NiAl.yace").site_gradients(around)
    for found in (read_alone, read_back):
        for mine, theirs in zip(wanted, found, strict=True):
            assert np.abs(theirs - mine).max() < 1e-11 * np.abs(mine).max()
