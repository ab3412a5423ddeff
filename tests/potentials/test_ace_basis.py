"""The basis of the cluster expansion: its length, its symmetries, its independence, and its specification."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from parmlip.errors import ConfigError, DataError
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.ace_angular import Harmonics, complex_from_real
from parmlip.potentials.ace_coupling import build_couplings, complex_invariants
from parmlip.potentials.ace_radial import Radial
from parmlip.potentials.base import Environments
from tests.potentials import ace_specification
from tests.potentials.ace_environments import random_environments

ONE = ACEBasis(("W",), 3, 10, cutoff=5.5, r0=2.72)
ALLOY = ACEBasis(("Ni", "Al"), 3, 8, cutoff=5.0, r0=2.5, one_body=True)
FOURTH = ACEBasis(("W",), 4, 11, cutoff=5.5, r0=2.72, p_in=0)
BASES = [ONE, ALLOY, FOURTH]


@pytest.mark.parametrize(
    ("order", "degree", "count"),
    [
        (2, 10, 51),
        (3, 10, 110),
        (3, 12, 211),
        (3, 14, 383),
        (3, 16, 668),
        (3, 18, 1119),
        (3, 20, 1809),
        (4, 16, 1445),
        (4, 18, 2849),
        (4, 20, 5456),
    ],
)
def test_the_basis_has_the_published_length(order, degree, count):
    assert len(build_couplings(1, order, degree, 1.5).slots_k) == count


def test_every_pattern_has_as_many_invariants_as_the_character_formula_says():
    for order in range(1, 5):
        for degrees in combinations_with_replacement(range(4), order):
            if sum(degrees) % 2:
                continue
            equal = tuple((ell, degrees.count(ell)) for ell in sorted(set(degrees)))
            distinct = tuple((ell, 1) for ell in degrees)
            for pattern in (equal, distinct):
                assert len(complex_invariants(pattern)[1]) == ace_specification.number_of_invariants(pattern)


@pytest.mark.parametrize("basis", BASES)
def test_the_kernel_agrees_with_the_specification(basis):
    e = random_environments(4, 12, len(basis.species), basis.cutoff, seed=1)
    values = basis.site_values(e)
    for n, kind in enumerate(e.species_n):
        pairs = slice(e.first_n[n], e.first_n[n + 1])
        expected = np.zeros(basis.n_basis)
        block = ace_specification.site_values(basis, e.r_pc[pairs], e.species_p[pairs])
        expected[kind * basis.n_block : (kind + 1) * basis.n_block] = block
        assert np.abs(values[n] - expected).max() < 1e-11 * np.abs(expected).max()


@pytest.mark.parametrize("basis", BASES)
def test_values_are_invariant_under_rotation_reflection_and_permutation(basis):
    e = random_environments(20, 15, len(basis.species), basis.cutoff, seed=2)
    values = basis.site_values(e)
    scale = np.abs(values).max()
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    for change in (turn, -np.eye(3), turn @ np.diag([1.0, 1.0, -1.0])):
        moved = basis.site_values(e.with_vectors(e.r_pc @ change.T))
        assert np.abs(moved - values).max() < 1e-12 * scale
    order = np.random.default_rng(3).permuted(np.arange(300).reshape(20, 15), axis=1).ravel()
    shuffled = Environments(e.first_n, e.r_pc[order], e.species_n, e.species_p[order])
    assert np.abs(basis.site_values(shuffled) - values).max() < 1e-12 * scale


@pytest.mark.parametrize("basis", BASES)
def test_the_basis_is_linearly_independent(basis):
    e = random_environments(4 * basis.n_basis, 6, len(basis.species), basis.cutoff, seed=4, inner=basis.r_in)
    values = basis.site_values(e)
    singular = np.linalg.svd(values / np.linalg.norm(values, axis=0), compute_uv=False)
    assert singular[-1] > 1e-9 * singular[0]


def test_radial_functions_are_orthonormal_under_their_discrete_measure():
    radial = Radial(16, cutoff=5.5, r0=2.72, r_in=1.36)
    left, right = radial.ends
    x = left + (np.arange(1000) + 0.5) / 1000 * (right - left)
    values = np.zeros((16, 1000))
    for n, (a, b, c) in enumerate(radial.recursion_nk):
        if n == 0:
            values[0] = a * (x - left) ** 2 * (x - right) ** 2
        else:
            values[n] = (a * x + b) * values[n - 1] + (c * values[n - 2] if n > 1 else 0.0)
    assert np.abs(values @ values.T / 1000 - np.eye(16)).max() < 1e-10


def test_the_change_to_complex_harmonics_is_unitary_and_gives_those_of_scipy():
    u = np.random.default_rng(5).normal(size=3)
    u /= np.linalg.norm(u)
    harmonics = Harmonics(4)
    y = np.zeros(25)
    for ell in range(5):
        theta, phi = np.arccos(u[2]), np.arctan2(u[1], u[0])
        complex_y = np.array([sph_harm_y(ell, m, theta, phi) for m in range(-ell, ell + 1)])
        change = complex_from_real(ell)
        assert np.abs(change @ change.conj().T - np.eye(2 * ell + 1)).max() < 1e-15
        real = change.conj().T @ complex_y
        assert np.abs(real.imag).max() < 1e-15
        y[ell * ell : (ell + 1) ** 2] = real.real
    for h in range(1, 25):
        ell = int(np.sqrt(h))
        gradient = np.zeros(3)
        np.add.at(gradient, [0, 0, 1, 1, 2], harmonics.gradient[1][h] * y[harmonics.gradient[0][h]])
        assert gradient @ u == pytest.approx(ell * y[h], abs=1e-13)  # Euler: the solid harmonic has degree l


def test_parameters_go_through_text_and_back():
    assert ACEBasis.from_parameters(json.loads(json.dumps(ALLOY.parameters()))) == ALLOY


def test_wrong_parameters_are_refused_with_their_value():
    with pytest.raises(ConfigError, match="correlation_order = 5"):
        ACEBasis(("W",), 5, 10, 5.5, 2.7)
    with pytest.raises(ConfigError, match="r_in = 6.0"):
        ACEBasis(("W",), 2, 10, 5.5, 2.7, r_in=6.0)
    with pytest.raises(ConfigError, match="total_degree = 0"):
        ACEBasis(("W",), 2, 0, 5.5, 2.7)
    with pytest.raises(ConfigError, match="named, each once"):
        ACEBasis(("W", "W"), 2, 8, 5.5, 2.7)
    with pytest.raises(DataError, match="unknown or missing"):
        ACEBasis.from_parameters({"species": ["W"]})
    with pytest.raises(DataError, match="109"):
        ACE(ONE, np.zeros(109))
    with pytest.raises(DataError, match="not finite"):
        ACE(ONE, np.full(110, np.nan))
