"""Lattices and supercells: volumes, distances, numbering, and what cannot be built."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.lattices import LATTICES, hcp, lattice_named
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.supercell import build_supercell, lattice_positions, supercell_from_arrays
from parmlip.errors import ConfigError, GeometryError

# Coordination of the first shell, and volume per site in a^d.
KNOWN = {
    "bcc": (8, 0.5), "fcc": (12, 0.25), "sc": (6, 1.0), "diamond": (4, 0.125), "b2": (8, 0.5), "hcp": (12, sqrt(0.5)),
    "triangular": (6, sqrt(0.75)), "square": (4, 1.0), "chain": (2, 1.0),
}  # fmt: skip


def perfect(name, repeats=(2, 3, 4), lattice_constant=3.0):
    lattice = LATTICES[name]
    return build_supercell(lattice, lattice_constant, repeats[: lattice.dimension], ["A", "B"][: lattice.n_slots])


@pytest.mark.parametrize("name", LATTICES)
def test_volume_and_number_of_sites_are_those_of_the_repeated_cell(name):
    supercell = perfect(name)
    cells = np.prod((2, 3, 4)[: supercell.dimension])
    assert supercell.n_sites == cells * LATTICES[name].n_basis
    assert supercell.volume == pytest.approx(supercell.n_sites * KNOWN[name][1] * 3.0**supercell.dimension, rel=1e-14)


@pytest.mark.parametrize("name", LATTICES)
def test_every_site_has_the_known_coordination_at_the_known_distance(name):
    supercell = perfect(name)
    first = 3.0 * nearest_distance(LATTICES[name])
    pairs = find_pairs(supercell.cell_cc, supercell.periodic, supercell.positions_ac, first * 1.0001)
    assert (pairs.count_n == KNOWN[name][0]).all()
    assert np.allclose(np.linalg.norm(pair_vectors(pairs, supercell.cell_cc, supercell.positions_ac), axis=1), first)


@pytest.mark.parametrize("name", LATTICES)
def test_sites_are_numbered_by_cell_then_basis_and_lie_in_the_cell(name):
    supercell, lattice = perfect(name), LATTICES[name]
    d = supercell.dimension
    repeats = (2, 3, 4)[:d] + (1,) * (3 - d)
    assert supercell.grid is not None
    assert supercell.grid.repeats == repeats
    a = 0
    for x in range(repeats[0]):
        for y in range(repeats[1]):
            for z in range(repeats[2]):
                for b in range(lattice.n_basis):
                    at = (np.array([x, y, z]) + lattice.basis_bc[b]) @ lattice.cell(3.0)
                    assert np.allclose(supercell.positions_ac[a], at, atol=1e-12)
                    assert supercell.species[supercell.species_a[a]] == "AB"[lattice.slot_b[b]]
                    a += 1
    assert np.array_equal(lattice_positions(supercell.grid, supercell.grid.number_a), supercell.positions_ac)
    assert supercell.periodic == tuple(c < d for c in range(3))
    assert not supercell.positions_ac[:, d:].any()


def test_hcp_follows_its_axial_ratio():
    assert build_supercell(hcp(1.6), 2.0, (1, 1, 1), ["Mg"]).volume == pytest.approx(2.0**3 * sqrt(0.75) * 1.6)
    assert lattice_named("HCP", 1.6).cell_cc[2, 2] == 1.6
    assert nearest_distance(hcp(1.5)) < 1.0 == nearest_distance(hcp(1.7))


def test_equal_species_on_two_slots_are_one_species():
    supercell = build_supercell(LATTICES["b2"], 3.0, (1, 1, 1), ["Fe", "Fe"])
    assert supercell.species == ("Fe",)
    assert not supercell.species_a.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bcc", 3.0, (2, 2, 2), ["W", "W"]), "bcc needs 1 chemical symbol"),
        (("b2", 3.0, (2, 2, 2), ["Ni"]), "b2 needs 2 chemical symbol"),
        (("bcc", -1.0, (2, 2, 2), ["W"]), "lattice_constant = -1.0 must be positive"),
        (("bcc", np.nan, (2, 2, 2), ["W"]), "lattice_constant = nan"),
        (("bcc", 3.0, (2, 0, 2), ["W"]), r"cell = \[2, 0, 2\]: bcc needs 3 positive"),
        (("bcc", 3.0, (2, 2), ["W"]), "bcc needs 3 positive"),
        (("triangular", 3.0, (4, 4, 2), ["W"]), "only the first 2 may exceed 1"),
    ],
)
def test_impossible_supercells_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_supercell(LATTICES[arguments[0]], *arguments[1:])


def test_unknown_lattices_get_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'triangular'"):
        lattice_named("triangle")
    with pytest.raises(ConfigError, match="c_over_a = 1.6 is for hcp"):
        lattice_named("fcc", 1.6)
    with pytest.raises(ConfigError, match="must be positive"):
        lattice_named("hcp", -1.0)


def test_arrays_become_a_supercell_without_grid():
    supercell = supercell_from_arrays(
        np.diag([4.0, 5.0, 0.0]), (True, True, False), [[0, 0, 1.0], [1, 1, 1.0]], ["W", "Ta"], 2
    )
    assert supercell.grid is None
    assert supercell.species == ("W", "Ta")
    assert supercell.volume == pytest.approx(20.0)
    assert not supercell.positions_ac[:, 2].any()
    assert supercell.cell_cc[2].tolist() == [0.0, 0.0, 1.0]
    cluster = supercell_from_arrays(np.zeros((3, 3)), (False,) * 3, np.eye(3), ["H"] * 3)
    assert abs(np.linalg.det(cluster.cell_cc)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions_ac": [[0.0, 0.0]]}, "should be"),
        ({"positions_ac": np.zeros((0, 3)), "symbols": []}, "should be"),
        ({"symbols": ["W"]}, "1 chemical symbols for 2 sites"),
        ({"positions_ac": [[0, 0, 0], [0, np.inf, 0]]}, "position of site 1 is not finite"),
        ({"cell_cc": np.diag([1.0, 1.0, 0.0])}, "cell vector 3 is zero"),
        ({"cell_cc": np.ones((3, 3))}, "no volume"),
        ({"cell_cc": np.ones((2, 3))}, "three finite vectors"),
        ({"dimension": 2}, "must have the same z"),
        ({"dimension": 4}, "dimension 4"),
        ({"dimension": 1, "positions_ac": np.zeros((2, 3)), "cell_cc": np.eye(3) + 0.1}, "leaves its plane or line"),
    ],
)
def test_bad_arrays_are_refused(changes, message):
    given = {
        "cell_cc": 5.0 * np.eye(3), "periodic": (True, True, True), "positions_ac": np.eye(3)[1:], "symbols": ["W", "W"]
    }  # fmt: skip
    with pytest.raises(GeometryError, match=message):
        supercell_from_arrays(**(given | changes))
