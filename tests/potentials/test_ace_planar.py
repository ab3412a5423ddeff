"""The basis in two dimensions, and degrees by correlation order: number, symmetries, independence, specification."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from parmlip.errors import ConfigError
from parmlip.io.pace import read_yace, write_yace
from parmlip.io.pace_reader import read_document, site_energies_and_gradients
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.ace_coupling import build_couplings, slot_tuples
from parmlip.potentials.base import Environments
from tests.potentials.ace_environments import random_environments
from tests.potentials.ace_specification import number_of_invariants, radial

ONE = ACEBasis(("W",), 3, 10, cutoff=5.5, r0=2.72, dimension=2)
ALLOY = ACEBasis(("Ni", "Al"), 3, (9, 8, 7), cutoff=5.0, r0=2.5, one_body=True, dimension=2)
FOURTH = ACEBasis(("W",), 4, 11, cutoff=5.5, r0=2.72, p_in=0, dimension=2)
BASES = [ONE, ALLOY, FOURTH]


def flat(basis: ACEBasis, n: int, n_neighbours: int, seed: int, inner: float = 2.0) -> Environments:
    """Random environments in the plane z = 0."""
    e = random_environments(n, n_neighbours, len(basis.species), basis.cutoff, seed, inner)
    r_pc = e.r_pc * [1.0, 1.0, 0.0]
    return e.with_vectors(r_pc * (np.linalg.norm(e.r_pc, axis=1) / np.linalg.norm(r_pc, axis=1))[:, None])


def number_of_planar_invariants(pattern) -> int:
    """Invariants of O(2) in a product of symmetric powers, by its character's mean over the group."""
    angle = np.arange(4096) * 2 * np.pi / 4096
    turns, mirrors = np.ones_like(angle), 1.0
    for ell, k in pattern:
        if ell:
            # Sym^k of e^(+-i l theta) has the weights k, k - 2, ..., -k; a mirror exchanges them in pairs
            turns = turns * sum(np.cos((k - 2 * i) * ell * angle) for i in range(k + 1))
            mirrors *= (k + 1) % 2
    return round(0.5 * (float(np.mean(turns)) + mirrors))


def count(n_species: int, degrees, weight_l: float, number) -> int:
    total = 0
    for order, degree in enumerate(degrees, start=1):
        # every multiset of slots, found anew by trying all
        slots = [(n, ell, z) for n in range(1, 20) for ell in range(14) for z in range(n_species)]
        slots = [s for s in slots if s[0] + weight_l * s[1] + order - 1 <= degree]
        for chosen in combinations_with_replacement(slots, order):
            if sum(n + weight_l * ell for n, ell, _ in chosen) <= degree and sum(ell for _, ell, _ in chosen) % 2 == 0:
                total += number(tuple((s[1], chosen.count(s)) for s in dict.fromkeys(chosen)))
    return total


@pytest.mark.parametrize("n_species", [1, 2])
@pytest.mark.parametrize("degrees", [(10, 10), (9, 8, 7), (6, 6, 6, 7)])
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_basis_is_as_long_as_the_characters_of_the_group_say(dimension, degrees, n_species):
    number = number_of_planar_invariants if dimension == 2 else number_of_invariants
    built = build_couplings(n_species, len(degrees), degrees, 1.5, dimension)
    assert len(built.slots_k) == count(n_species, degrees, 1.5, number)


def test_degrees_by_order_give_for_every_order_the_functions_of_that_degree():
    orders = ACEBasis(("W",), 3, (16, 14, 12), 5.5, 2.72).order_k
    for order, degree in enumerate((16, 14, 12), start=1):
        alone = ACEBasis(("W",), 3, degree, 5.5, 2.72).order_k
        assert np.sum(orders == order) == np.sum(alone == order)
    assert ACEBasis(("W",), 3, (16, 16, 16), 5.5, 2.72).n_basis == 668


@pytest.mark.parametrize("basis", BASES)
def test_in_the_plane_the_functions_are_products_of_cosines_and_sines(basis):
    e = flat(basis, 4, 9, seed=1)
    values = basis.site_values(e)
    for n, kind in enumerate(e.species_n):
        pairs = slice(e.first_n[n], e.first_n[n + 1])
        a: dict[tuple[int, int, int], complex] = {}
        for r, z in zip(e.r_pc[pairs], e.species_p[pairs]):
            p = radial_of(basis, float(np.linalg.norm(r)))
            phase = np.exp(1j * np.arctan2(r[1], r[0]))
            for m in range(-9, 10):
                for i, value in enumerate(p, start=1):
                    a[i, m, z] = a.get((i, m, z), 0.0) + value * phase**m
        spanned: list[list[float]] = []  # by tuple of slots: the real parts of all products whose m sum to zero
        names = []
        for order, degree in enumerate(basis.degrees, start=1):
            for slots in slot_tuples(len(basis.species), order, degree, basis.weight_l):
                found = {}
                for signs in np.ndindex(*(2,) * order):
                    m = [(1 - 2 * s) * ell for s, (_, ell, _) in zip(signs, slots)]
                    if sum(m) == 0:
                        key = tuple(sorted((nn, mm, z) for (nn, _, z), mm in zip(slots, m)))
                        back = tuple(sorted((nn, -mm, z) for nn, mm, z in key))
                        found[min(key, back)] = float(np.prod([a[k] for k in key]).real)
                if found:
                    names.append(slots)
                    spanned.append(sorted(np.abs(list(found.values()))))
        block = values[n, kind * basis.n_block + int(basis.one_body) : (kind + 1) * basis.n_block]
        got: dict = {}
        for slots, value in zip(basis.couplings.slots_k, block):
            # Y_l,l on the equator, and the norm that the coupling gives a product
            got.setdefault(slots, []).append(abs(value))
        assert list(got) == names
        scale = np.abs(block).max()
        for slots, wanted in zip(names, spanned):
            assert len(got[slots]) == len(wanted)
            if len(wanted) == 1:  # one function: fixed up to a factor that the next environments must share
                ratio = RATIOS.setdefault((basis.species, basis.degrees, slots), got[slots][0] / wanted[0])
                assert abs(got[slots][0] - ratio * wanted[0]) < 1e-10 * scale


RATIOS: dict = {}


def radial_of(basis: ACEBasis, r: float) -> np.ndarray:
    """P_n of the specification (which knows one degree)."""
    whole = ACEBasis(
        basis.species,
        1,
        max(basis.degrees),
        basis.cutoff,
        basis.r0,
        basis.r_in,
        p_in=basis.p_in,
        one_body=basis.one_body,
    )
    return radial(whole, r)


@pytest.mark.parametrize("basis", BASES)
def test_values_are_invariant_in_the_plane_and_not_under_rotations_out_of_it(basis):
    e = random_environments(20, 15, len(basis.species), basis.cutoff, seed=2)
    values = basis.site_values(e)
    scale = np.abs(values).max()
    turn = Rotation.from_rotvec([0.0, 0.0, 0.7]).as_matrix()
    for change in (turn, turn @ np.diag([1.0, -1.0, 1.0]), np.diag([1.0, 1.0, -1.0])):
        moved = basis.site_values(e.with_vectors(e.r_pc @ change.T))
        assert np.abs(moved - values).max() < 1e-12 * scale
    tilted = basis.site_values(e.with_vectors(e.r_pc @ Rotation.from_rotvec([0.5, 0.0, 0.0]).as_matrix()))
    assert np.abs(tilted - values).max() > 1e-3 * scale
    order = np.random.default_rng(3).permuted(np.arange(300).reshape(20, 15), axis=1).ravel()
    shuffled = Environments(e.first_n, e.r_pc[order], e.species_n, e.species_p[order])
    assert np.abs(basis.site_values(shuffled) - values).max() < 1e-12 * scale


@pytest.mark.parametrize("basis", BASES)
def test_the_functions_are_independent_on_planar_environments(basis):
    e = flat(basis, 4 * basis.n_basis, 6, seed=4, inner=basis.r_in)
    values = basis.site_values(e)
    singular = np.linalg.svd(values / np.linalg.norm(values, axis=0), compute_uv=False)
    assert singular[-1] > 1e-9 * singular[0]


@pytest.mark.parametrize("basis", BASES)
def test_gradients_in_two_dimensions_are_derivatives_and_stay_in_the_plane(basis):
    law = ACE(basis, np.random.default_rng(5).normal(size=basis.n_basis))
    e = flat(basis, 3, 10, seed=6)
    g_pc = law.site_gradients(e)[1]
    assert np.abs(g_pc[:, 2]).max() < 1e-13 * np.abs(g_pc).max()
    direction = np.random.default_rng(7).normal(size=e.r_pc.shape)
    slope = law.site_energies(e.with_vectors(e.r_pc + 1e-20j * direction)).imag.sum() / 1e-20
    assert np.sum(g_pc * direction) == pytest.approx(slope, rel=1e-11)


@pytest.mark.parametrize("basis", BASES)
def test_potential_files_hold_planar_laws_exactly(basis, tmp_path):
    law = ACE(basis, np.random.default_rng(8).normal(size=basis.n_basis))
    write_yace(tmp_path / "x.yace", law)
    e = random_environments(4, 12, len(basis.species), basis.cutoff, seed=9)
    found = site_energies_and_gradients(read_document(tmp_path / "x.yace"), e)
    for mine, theirs in zip(law.site_gradients(e), found, strict=True):
        assert np.abs(theirs - mine).max() < 1e-12 * np.abs(mine).max()
    back = read_yace(tmp_path / "x.yace")
    assert back.basis == basis
    assert np.abs(back.coefficients - law.coefficients).max() < 1e-12


def test_parameters_go_through_text_and_those_of_older_files_mean_three_dimensions():
    assert ACEBasis.from_parameters(json.loads(json.dumps(ALLOY.parameters()))) == ALLOY
    older = ACEBasis(("W",), 2, 8, 5.0, 2.7).parameters()
    del older["dimension"]
    assert ACEBasis.from_parameters(older).dimension == 3


def test_wrong_degrees_and_dimensions_are_refused_with_their_value():
    with pytest.raises(ConfigError, match=r"total_degree = \[8, 6\] must have one number for each of the 3"):
        ACEBasis(("W",), 3, (8, 6), 5.5, 2.7)
    with pytest.raises(ConfigError, match="dimension = 4"):
        ACEBasis(("W",), 2, 8, 5.5, 2.7, dimension=4)
