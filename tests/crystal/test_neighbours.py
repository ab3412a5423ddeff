"""Neighbour search: against the sum over all images, and by its invariances."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.neighbours import Pairs, find_pairs, pair_vectors
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import GeometryError

ALL = (True, True, True)


def as_tuples(pairs: Pairs) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.column_stack([pairs.centre_p, pairs.site_p, pairs.shift_pc]).tolist()]


def all_images(cell_cc, periodic, x_ac, cutoff):
    """Every pair by trying every image, sorted by centre, site, shift."""
    inverse = np.linalg.inv(cell_cc)
    reach = cutoff * np.linalg.norm(inverse, axis=0) + np.ptp(x_ac @ inverse, axis=0)
    m = np.where(periodic, np.ceil(reach).astype(int) + 1, 0)
    found = []
    for shift in np.ndindex(*(2 * m + 1)):
        shift = np.array(shift) - m
        distance = np.linalg.norm(x_ac[None] - x_ac[:, None] + shift @ cell_cc, axis=2)
        if not shift.any():
            np.fill_diagonal(distance, np.inf)
        found += [(i, j, *shift.tolist()) for i, j in np.argwhere(distance < cutoff).tolist()]
    return sorted(found)


def random_cell(rng, skew):
    return np.diag(rng.uniform(1.5, 8.0, 3)) + skew * rng.normal(size=(3, 3))


@pytest.mark.parametrize("seed", range(24))
def test_pairs_in_any_cell_are_those_found_by_trying_every_image(seed):
    rng = np.random.default_rng(seed)
    cell_cc = random_cell(rng, 0.0 if seed % 3 == 0 else 0.6)
    periodic = tuple(bool(b) for b in rng.random(3) < 0.6)
    x_ac = rng.uniform(-1.5, 2.5, (rng.integers(1, 30), 3)) @ cell_cc  # far outside the cell too
    cutoff = rng.uniform(0.5, 5.0)
    pairs = find_pairs(cell_cc, periodic, x_ac, cutoff, closest=0.0)
    assert as_tuples(pairs) == all_images(cell_cc, periodic, x_ac, cutoff)


def test_cells_much_smaller_than_the_cutoff_give_every_image():
    cell_cc = np.array([[1.1, 0.0, 0.0], [0.4, 1.3, 0.0], [-0.3, 0.5, 1.2]])
    x_ac = np.array([[0.1, 0.2, 0.3]])
    pairs = find_pairs(cell_cc, ALL, x_ac, 7.0)
    assert as_tuples(pairs) == all_images(cell_cc, ALL, x_ac, 7.0)
    assert pairs.n_pairs > 500
    assert pairs.n_pairs % 2 == 0


def test_pair_vectors_are_shorter_than_the_cutoff_and_are_those_of_the_stated_shift():
    rng = np.random.default_rng(3)
    cell_cc = random_cell(rng, 0.5)
    x_ac = rng.uniform(-1.0, 2.0, (20, 3)) @ cell_cc
    pairs = find_pairs(cell_cc, ALL, x_ac, 4.0, closest=0.0)
    r_pc = pair_vectors(pairs, cell_cc, x_ac)
    assert np.allclose(r_pc, x_ac[pairs.site_p] + pairs.shift_pc @ cell_cc - x_ac[pairs.centre_p], atol=1e-12)
    assert np.linalg.norm(r_pc, axis=1).max() < 4.0
    assert np.array_equal(pair_vectors(pairs, cell_cc, x_ac + 1e-3j).real, r_pc)


def test_a_cutoff_exactly_on_a_lattice_shell_keeps_pairs_symmetric():
    supercell = build_supercell(LATTICES["fcc"], 3.6, (3, 3, 3), ["Cu"])
    x_ac = supercell.positions_ac + np.array([0.1, 0.3, -0.7])
    for shell in (np.sqrt(0.5), 1.0, np.sqrt(1.5), np.sqrt(2.0)):
        found = set(as_tuples(find_pairs(supercell.cell_cc, ALL, x_ac, 3.6 * shell)))
        assert found == {(j, i, -sx, -sy, -sz) for i, j, sx, sy, sz in found}


def test_a_subset_of_centres_gets_its_own_pairs_in_the_order_asked_for():
    rng = np.random.default_rng(5)
    cell_cc = random_cell(rng, 0.5)
    x_ac = rng.random((40, 3)) @ cell_cc
    whole = find_pairs(cell_cc, ALL, x_ac, 3.0, closest=0.0)
    some = find_pairs(cell_cc, ALL, x_ac, 3.0, np.array([17, 3, 39]), closest=0.0)
    parts = [whole.site_p[whole.first_n[i] : whole.first_n[i + 1]] for i in (17, 3, 39)]
    assert np.array_equal(some.site_p, np.concatenate(parts))
    assert some.centre_n.tolist() == [17, 3, 39]
    assert some.count_n.tolist() == [len(part) for part in parts]


def test_counts_do_not_change_under_rotation_and_relabelling():
    rng = np.random.default_rng(6)
    cell_cc = random_cell(rng, 0.5)
    x_ac = rng.random((60, 3)) @ cell_cc
    count_a = find_pairs(cell_cc, ALL, x_ac, 3.5, closest=0.0).count_n
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(60)
    turned = find_pairs(cell_cc @ rotation.T, ALL, (x_ac @ rotation.T)[order], 3.5, closest=0.0)
    assert np.array_equal(turned.count_n, count_a[order])


def test_more_than_160_neighbours_are_sorted_too():
    supercell = build_supercell(LATTICES["bcc"], 3.165, (3, 3, 3), ["W"])
    pairs = find_pairs(supercell.cell_cc, ALL, supercell.positions_ac, 9.0)
    assert pairs.count_n.min() > 160
    assert as_tuples(pairs) == sorted(as_tuples(pairs))


def test_nothing_is_found_without_sites_or_centres():
    assert find_pairs(np.eye(3), ALL, np.zeros((0, 3)), 1.0).n_pairs == 0
    none = find_pairs(np.eye(3), ALL, np.zeros((1, 3)), 1.5, np.zeros(0, dtype=np.int64))
    assert none.n_pairs == 0
    assert none.first_n.tolist() == [0]


def test_mostly_empty_cells_do_not_cost_memory():
    x_ac = np.array([[0.0, 0.0, 0.0], [1e4, 1e4, 1e4], [1e4 + 1.0, 1e4, 1e4]])
    assert find_pairs(2e4 * np.eye(3), ALL, x_ac, 2.0).count_n.tolist() == [0, 1, 1]
    assert find_pairs(np.eye(3), (False,) * 3, x_ac, 2.0).count_n.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("x_ac", "message"),
    [
        ([[0, 0, 0], [1, 1, 1], [1, 1, 1 + 1e-9]], "sites 1 and 2 are 1e-09 angstrom apart"),
        ([[0, 0, 0], [1, 1, 1], [5, 1, 1]], r"sites 1 and 2 \(its periodic image \[-1, 0, 0\]\) are 0 angstrom apart"),
        ([[0, 0, 0], [np.nan, 1, 1]], "position of site 1 is not finite"),
        ([[0, 0, 0], [1e9, 1, 1]], "wrap the positions"),
    ],
)
def test_bad_positions_are_named(x_ac, message):
    with pytest.raises(GeometryError, match=message):
        find_pairs(4.0 * np.eye(3), ALL, np.array(x_ac, dtype=float), 2.5)


def test_a_cell_without_volume_or_a_bad_cutoff_is_an_error():
    x_ac = np.zeros((1, 3))
    with pytest.raises(GeometryError, match="has no volume"):
        find_pairs(np.array([[1.0, 0, 0], [2.0, 0, 0], [0, 0, 1.0]]), ALL, x_ac, 1.0)
    with pytest.raises(GeometryError, match="cutoff nan must be positive"):
        find_pairs(np.eye(3), ALL, x_ac, np.nan)
    with pytest.raises(GeometryError, match="not among the 1 sites"):
        find_pairs(np.eye(3), ALL, x_ac, 1.0, np.array([1]))


def test_the_closest_allowed_distance_can_be_set():
    with pytest.raises(GeometryError, match="sites 0 and 1 are 1.8 angstrom apart, closer than 2 "):
        find_pairs(9.0 * np.eye(3), ALL, np.array([[0.0, 0, 0], [1.8, 0, 0]]), 3.0, closest=2.0)


def test_pairs_agree_with_an_independent_program():
    neighbours = pytest.importorskip("matscipy.neighbours")
    from ase import Atoms

    rng = np.random.default_rng(8)
    cell_cc = random_cell(rng, 0.8)
    x_ac = rng.random((50, 3)) @ cell_cc
    i, j, shift = neighbours.neighbour_list("ijS", Atoms("W50", positions=x_ac, cell=cell_cc, pbc=True), 5.0)
    theirs = sorted(map(tuple, np.column_stack([i, j, shift]).tolist()))
    assert as_tuples(find_pairs(cell_cc, ALL, x_ac, 5.0, closest=0.0)) == theirs
