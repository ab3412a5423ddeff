"""Pair functions beside those of many bodies: their number and place, specification, derivatives, storage, export."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parmlip.errors import ConfigError, DataError
from parmlip.io.pace import write_yace
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.base import Environments, complex_step
from tests.potentials.ace_environments import block_pattern, dense, environments, random_environments, rattled
from tests.potentials.ace_specification import radial

LONGER = ACEBasis(("Ni", "Al"), 3, 7, 5.2, 2.5, one_body=True, pair_degree=6, many_body_cutoff=4.2)
SHORTER = ACEBasis(("W",), 3, 9, 5.0, 2.72, pair_degree=5, pair_cutoff=3.6)
BASES = [LONGER, SHORTER]


def law_of(basis: ACEBasis) -> ACE:
    return ACE(basis, np.random.default_rng(3).normal(size=basis.n_basis))


def without_pairs(basis: ACEBasis) -> ACEBasis:
    return replace(basis, cutoff=basis.many_body_cutoff or basis.cutoff, pair_degree=0)


def is_pair(basis: ACEBasis) -> np.ndarray:
    """Which functions are pair functions, (n_basis,)."""
    return np.tile(np.arange(basis.n_block) >= basis.n_block - basis.n_pair, len(basis.species))


@pytest.mark.parametrize("basis", BASES)
def test_pair_functions_stand_last_in_place_of_those_of_order_one(basis):
    plain, n_species = without_pairs(basis), len(basis.species)
    kept = plain.order_k != 1
    assert basis.n_basis == np.sum(kept) + n_species**2 * basis.pair_degree
    assert np.all(basis.order_k[is_pair(basis)] == 1)
    np.testing.assert_array_equal(basis.order_k[~is_pair(basis)], plain.order_k[kept])
    np.testing.assert_array_equal(basis.smoothness()[~is_pair(basis)], plain.smoothness()[kept])
    e = random_environments(6, 12, n_species, basis.cutoff, 4)
    wanted = plain.site_values(e)[:, kept]
    np.testing.assert_allclose(basis.site_values(e)[:, ~is_pair(basis)], wanted, rtol=0, atol=1e-12 * wanted.max())


@pytest.mark.parametrize("basis", BASES)
def test_pair_functions_are_those_of_the_specification_up_to_small_distances(basis):
    cutoff = basis.pair_cutoff or basis.cutoff
    like = ACEBasis(("W",), 1, basis.pair_degree, cutoff, basis.r0, 0.8 * basis.r0, p_in=0)
    n_species = len(basis.species)
    for distance in (0.4 * basis.r_in, 1.1 * basis.r_in, 0.9 * cutoff, 1.01 * cutoff):
        wanted = radial(like, distance) / np.sqrt(4 * np.pi)
        for centre in range(n_species):
            for neighbour in range(n_species):
                r_pc = distance * np.array([[0.6, 0.0, 0.8]])
                e = Environments(np.array([0, 1]), r_pc, np.array([centre]), np.array([neighbour]))
                found = basis.site_values(e)[0, is_pair(basis)].reshape(n_species, -1, n_species)  # (centre, n, z)
                expected = np.zeros_like(found)
                expected[centre, :, neighbour] = wanted
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * max(np.abs(wanted).max(), 1.0))


@pytest.mark.parametrize("basis", BASES)
def test_design_rows_with_pair_functions_give_energy_forces_and_virial(basis):
    law = law_of(basis)
    atoms = rattled((2, 2, 2), 0.08, 1, basis.species)
    e, centre, site = environments(atoms, basis.species, basis.cutoff + 0.2)
    energy_k, force_nck, virial_vk = basis.design(e, site, len(atoms))
    value_n, g_pc = law.site_gradients(e)
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, centre, g_pc)
    np.add.at(forces, site, -g_pc)
    virial = -np.einsum("pc,pd->cd", e.r_pc, g_pc)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    for found, wanted in ((energy_k, value_n.sum()), (force_nck, forces), (virial_vk, virial)):
        assert np.abs(found @ law.coefficients - wanted).max() < 1e-11 * np.abs(wanted).max()
    assert np.abs(basis.site_values(e) @ law.coefficients - value_n).max() < 1e-12 * np.abs(value_n).max()


@pytest.mark.parametrize("basis", BASES)
def test_gradients_and_hessian_with_pair_functions_are_the_derivatives_by_complex_step(basis):
    law = law_of(basis)
    atoms = rattled((3, 2, 2), 0.08, 2, basis.species)
    e, centre, site = environments(atoms, basis.species, basis.cutoff + 0.2)
    n = len(atoms)
    u = np.random.default_rng(5).normal(size=(n, 3))
    du = u[site] - u[centre]
    slope = law.site_energies(e.with_vectors(e.r_pc + 1e-20j * du)).imag.sum() / 1e-20
    assert np.sum(law.site_gradients(e)[1] * du) == pytest.approx(slope, rel=1e-10)
    pattern = block_pattern(centre, site, n)
    hessian = dense(law.hessian_blocks(e, site, pattern), pattern)
    change = complex_step(law, e)(du)
    product = np.zeros((n, 3))
    np.add.at(product, site, change)
    np.add.at(product, centre, -change)
    assert np.abs(hessian - hessian.T).max() < 1e-12 * np.abs(hessian).max()
    assert np.abs(hessian @ u.ravel() - product.ravel()).max() < 1e-11 * np.abs(product).max()


def test_a_basis_comes_back_from_its_parameters_with_or_without_those_of_pairs():
    assert ACEBasis.from_parameters(LONGER.parameters()) == LONGER
    plain = without_pairs(SHORTER)
    older = {k: v for k, v in plain.parameters().items() if k[:4] not in ("pair", "many", "repu")}
    assert ACEBasis.from_parameters(older) == replace(plain, pair_cutoff=0.0)


def test_one_body_energies_are_added_beside_pair_functions():
    e = random_environments(5, 10, 2, LONGER.cutoff, 6)
    law = law_of(LONGER)
    shifted = law.with_one_body({"Ni": 1.5, "Al": -2.0})
    added = np.array([1.5, -2.0])[e.species_n]
    np.testing.assert_allclose(shifted.site_energies(e), law.site_energies(e) + added, rtol=1e-12)


def test_a_cutoff_that_is_not_the_larger_one_is_refused():
    with pytest.raises(ConfigError, match=r"cutoff = 5\.0 must be 4\.5"):
        replace(SHORTER, many_body_cutoff=4.5)
    with pytest.raises(ConfigError, match="correlation_order must be above 1"):
        replace(SHORTER, correlation_order=1)
    with pytest.raises(ConfigError, match="pair_degree = -1"):
        replace(SHORTER, pair_degree=-1)


def test_export_of_pair_functions_is_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match=r"one set of radial functions .* pair_degree = 0 to export"):
        write_yace(tmp_path / "x.yace", law_of(SHORTER))
    assert not list(tmp_path.iterdir())
