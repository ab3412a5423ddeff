"""The law of a cluster expansion: derivatives of every order, design rows, ends of its range."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.base import Environments, complex_step
from tests.potentials.ace_environments import block_pattern, dense, environments, random_environments, rattled


def law_of(name: str) -> ACE:
    basis = {
        "W": lambda: ACEBasis(("W",), 3, 12, cutoff=5.0, r0=2.72),
        "NiAl": lambda: ACEBasis(("Ni", "Al"), 3, 8, cutoff=4.5, r0=2.48, one_body=True),
        "fourth": lambda: ACEBasis(("W",), 4, 12, cutoff=5.0, r0=2.72, p_cut=3, p_in=1),
    }[name]()
    decay = np.exp(-0.3 * np.arange(basis.n_basis) / len(basis.species))
    return ACE(basis, np.random.default_rng(7).normal(size=basis.n_basis) * decay)


@pytest.fixture(scope="module", params=["W", "NiAl", "fourth"])
def law(request):
    return law_of(request.param)


def crystal(law: ACE, repeats=(3, 2, 2), amplitude=0.08):
    """A rattled crystal, its smallest direction shorter than the cutoff's sphere: several images of one neighbour."""
    atoms = rattled(repeats, amplitude, 1, law.species)
    e, centre, site = environments(atoms, law.species, law.cutoff + 0.3)
    return e, centre, site, len(atoms)


def site_forces(g_pc, centre, site, n):
    forces = np.zeros((n, 3), g_pc.dtype)
    np.add.at(forces, centre, g_pc)
    np.add.at(forces, site, -g_pc)
    return forces


def fitted_order(steps, errors) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def test_gradients_are_the_derivative_of_the_energy_to_second_order(law):
    e = random_environments(3, 14, len(law.species), law.cutoff - 0.2, seed=8, inner=2.2)
    direction = np.random.default_rng(9).normal(size=e.r_pc.shape)
    exact = np.sum(law.site_gradients(e)[1] * direction)
    steps = np.array([4e-2, 2e-2, 1e-2, 5e-3]) / 2
    at = lambda t: law.site_energies(e.with_vectors(e.r_pc + t * direction)).sum()  # noqa: E731
    errors = [abs((at(t) - at(-t)) / (2 * t) - exact) for t in steps]
    assert fitted_order(steps, errors) == pytest.approx(2.0, abs=0.1)


def test_the_linearised_gradients_are_the_derivative_of_the_gradients_to_second_order(law):
    e = random_environments(3, 14, len(law.species), law.cutoff - 0.2, seed=10, inner=2.2)
    direction = np.random.default_rng(11).normal(size=e.r_pc.shape)
    exact = law.linearised(e)(direction)
    steps = np.array([2e-2, 1e-2, 5e-3, 2.5e-3]) / 2
    at = lambda t: law.site_gradients(e.with_vectors(e.r_pc + t * direction))[1]  # noqa: E731
    errors = [np.linalg.norm((at(t) - at(-t)) / (2 * t) - exact) for t in steps]
    assert fitted_order(steps, errors) == pytest.approx(2.0, abs=0.1)


def test_third_derivatives_by_complex_hessians_are_the_derivative_of_the_hessian_to_second_order():
    law = law_of("W")
    e, centre, site, n = crystal(law, (2, 2, 2), amplitude=0.03)  # no pair crosses the cutoff, where f'' jumps
    pattern = block_pattern(centre, site, n)
    u = np.random.default_rng(12).normal(size=(n, 3))
    du = u[site] - u[centre]
    exact = law.hessian_blocks(e.with_vectors(e.r_pc + 1e-20j * du), site, pattern).imag / 1e-20
    steps = np.array([8e-3, 4e-3, 2e-3, 1e-3])
    at = lambda t: law.hessian_blocks(e.with_vectors(e.r_pc + t * du), site, pattern)  # noqa: E731
    errors = [np.linalg.norm((at(t) - at(-t)) / (2 * t) - exact) for t in steps]
    assert fitted_order(steps, errors) == pytest.approx(2.0, abs=0.1)


def test_the_hessian_is_symmetric_invariant_under_translation_and_the_complex_step_of_the_forces(law):
    e, centre, site, n = crystal(law)
    pattern = block_pattern(centre, site, n)
    hessian = dense(law.hessian_blocks(e, site, pattern), pattern)
    scale = np.abs(hessian).max()
    assert np.abs(hessian - hessian.T).max() < 1e-12 * scale
    assert np.abs(hessian.reshape(3 * n, n, 3).sum(axis=1)).max() < 1e-11 * scale
    tangent = complex_step(law, e)
    for seed in range(3):
        u = np.random.default_rng(seed).normal(size=(n, 3))
        product = -site_forces(tangent(u[site] - u[centre]), centre, site, n)
        assert np.abs(hessian @ u.ravel() - product.ravel()).max() < 1e-11 * np.abs(product).max()


def test_design_rows_times_coefficients_are_energy_forces_and_virial(law):
    e, centre, site, n = crystal(law)
    energy_k, force_nck, virial_vk = law.basis.design(e, site, n)
    assert force_nck.shape == (n, 3, law.basis.n_basis)
    value_n, g_pc = law.site_gradients(e)
    forces = site_forces(g_pc, centre, site, n)
    virial = -np.einsum("pc,pd->cd", e.r_pc, g_pc)
    c = law.coefficients
    assert energy_k @ c == pytest.approx(value_n.sum(), rel=1e-12)
    assert np.abs(force_nck @ c - forces).max() < 1e-12 * np.abs(force_nck).max() * np.abs(c).sum()
    assert np.abs(force_nck @ c - forces).max() < 1e-10 * np.abs(forces).max()
    voigt = virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    assert np.abs(virial_vk @ c - voigt).max() < 1e-11 * np.abs(virial).max()
    assert np.abs(virial - virial.T).max() < 1e-11 * np.abs(virial).max()
    assert np.abs(law.basis.site_values(e) @ c - value_n).max() < 1e-12 * np.abs(value_n).max() * len(c)
    assert np.abs(law.site_energies(e) - value_n).max() <= 1e-14 * np.abs(value_n).max()


def test_the_virial_is_minus_the_derivative_by_strain():
    law = law_of("W")
    e, _, _, _ = crystal(law)
    g_pc = law.site_gradients(e)[1]
    for c in range(3):
        for d in range(3):
            strain = np.eye(3, dtype=complex)
            strain[c, d] += 1e-20j
            slope = law.site_energies(e.with_vectors(e.r_pc @ strain)).imag.sum() / 1e-20
            assert -np.sum(e.r_pc[:, c] * g_pc[:, d]) == pytest.approx(-slope, abs=1e-9 * np.abs(g_pc).max())


def test_forces_of_a_crystal_sum_to_zero(law):
    e, centre, site, n = crystal(law)
    forces = site_forces(law.site_gradients(e)[1], centre, site, n)
    assert np.abs(forces.sum(axis=0)).max() < 1e-11 * np.abs(forces).max()


def test_an_atom_without_neighbours_has_its_one_body_energy_and_no_nan():
    law = law_of("NiAl")
    e = random_environments(2, 8, 2, law.cutoff, seed=13)
    lonely = Environments(np.array([0, 8, 8, 16, 16]), e.r_pc, np.array([0, 0, 1, 1]), e.species_p)
    value_n, g_pc = law.site_gradients(lonely)
    half = law.basis.n_block
    assert value_n[1] == law.coefficients[0]
    assert value_n[3] == law.coefficients[half]
    assert np.all(np.isfinite(g_pc))
    energy_k, force_nck, virial_vk = law.basis.design(lonely, np.zeros(16, np.int64), 4)
    assert np.all(np.isfinite(energy_k))
    assert np.all(np.isfinite(force_nck))
    assert np.all(np.isfinite(virial_vk))
    nothing = Environments(np.zeros(1, np.int64), np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert law.site_energies(nothing).shape == (0,)
    assert law.basis.site_values(nothing).shape == (0, law.basis.n_basis)


def test_pairs_beyond_the_cutoff_and_below_r_in_are_ignored():
    law = law_of("W")
    e = random_environments(1, 10, 1, law.cutoff, seed=14)
    far = np.array([[0.0, 0.0, law.cutoff], [30.0, 1.0, 0.0], [0.3, 0.2, 0.1]])
    more = Environments(np.array([0, 13]), np.concatenate([e.r_pc, far]), e.species_n, np.zeros(13, np.int64))
    value, g_pc = law.site_gradients(e)
    same, longer = law.site_gradients(more)
    assert same[0] == value[0]
    assert np.array_equal(longer[:10], g_pc)
    assert np.all(longer[10:] == 0.0)


@pytest.mark.parametrize("name", ["W", "fourth"])
def test_energy_and_gradient_vanish_at_the_cutoff_with_the_envelopes_powers(name):
    law = law_of(name)
    e = random_environments(1, 10, 1, law.cutoff, seed=15)
    base = law.site_energies(e)[0]
    gaps, change, slope = np.array([4e-2, 2e-2, 1e-2, 5e-3]) / 10, [], []
    for gap in gaps:
        near = np.array([[0.6, 0.0, 0.8]]) * (law.cutoff - gap)
        more = Environments(np.array([0, 11]), np.concatenate([e.r_pc, near]), e.species_n, np.zeros(11, np.int64))
        value, g_pc = law.site_gradients(more)
        change.append(abs(value[0] - base))
        slope.append(np.linalg.norm(g_pc[10]))
    power = law.basis.p_cut
    assert fitted_order(gaps, change) == pytest.approx(power, abs=0.1)
    assert fitted_order(gaps, slope) == pytest.approx(power - 1, abs=0.1)


def test_neighbours_on_the_poles_have_finite_derivatives():
    law = law_of("W")
    r_pc = np.concatenate([2.7 * np.eye(3), -2.7 * np.eye(3)])
    e = Environments(np.array([0, 6]), r_pc, np.zeros(1, np.int64), np.zeros(6, np.int64))
    value, g_pc = law.site_gradients(e)
    assert np.all(np.isfinite(g_pc))
    assert np.abs(g_pc - (g_pc[0, 0] / 2.7) * r_pc).max() < 1e-11 * np.abs(g_pc).max()


def test_species_are_told_apart_and_exchanging_all_of_them_exchanges_the_blocks():
    law = law_of("NiAl")
    e = random_environments(6, 9, 2, law.cutoff, seed=16)
    swapped = Environments(e.first_n, e.r_pc, 1 - e.species_n, 1 - e.species_p)
    values, other = law.basis.site_values(e), law.basis.site_values(swapped)
    assert not np.allclose(law.site_energies(e), law.site_energies(swapped))
    half = law.basis.n_block
    for n, kind in enumerate(e.species_n):
        mine = np.sort(np.abs(values[n, kind * half : (kind + 1) * half]))
        theirs = np.sort(np.abs(other[n, (1 - kind) * half : (2 - kind) * half]))
        assert np.linalg.norm(mine) == pytest.approx(np.linalg.norm(theirs), rel=1e-12)


def test_another_process_loads_the_compiled_kernels():
    script = (
        "import numpy as np; from parmlip.potentials.ace import ACE, ACEBasis;"
        "from parmlip.potentials.base import Environments as E;"
        "from parmlip.potentials.kernels.ace_sites import energies_and_gradients as k;"
        "law = ACE(ACEBasis(('W',), 2, 6, 5.0, 2.7), np.ones(ACEBasis(('W',), 2, 6, 5.0, 2.7).n_basis));"
        "i = np.array([0, 1]); z = np.zeros(1, np.int64);"
        "law.site_gradients(E(i, np.array([[2.7, 0.0, 0.0]]), z, z));"
        "assert not k.stats.cache_misses, k.stats"
    )
    law_of("W").site_gradients(random_environments(1, 4, 1, 5.0, seed=17))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, env=dict(os.environ))
