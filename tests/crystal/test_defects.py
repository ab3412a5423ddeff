"""Point defects: what they add and take away, where they stand, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.crystal.defects import (
    CLOSEST,
    DUMBBELLS,
    OFFSETS,
    Divacancy,
    Interstitial,
    Substitution,
    Vacancy,
    apply_defects,
    middle,
    nearest_distance,
)
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.supercell import build_supercell, lattice_positions, supercell_from_arrays
from parmlip.errors import ConfigError, GeometryError

NAMED = [(name, site) for name in LATTICES for site in [*OFFSETS[name], *DUMBBELLS[name]]]


def perfect(name, n=4, lattice_constant=3.0):
    lattice = LATTICES[name]
    return build_supercell(lattice, lattice_constant, (n,) * lattice.dimension, ["A", "B"][: lattice.n_slots])


def distances_around(supercell, site, cutoff):
    pairs = find_pairs(supercell.cell_cc, supercell.periodic, supercell.positions_ac, cutoff, np.array([site]))
    return np.sort(np.linalg.norm(pair_vectors(pairs, supercell.cell_cc, supercell.positions_ac), axis=1))


@pytest.mark.parametrize("name", LATTICES)
def test_a_vacancy_takes_its_site_and_leaves_all_others_as_they_were(name):
    supercell = perfect(name)
    b = LATTICES[name].n_basis - 1
    at = LATTICES[name].basis_bc[b] + np.array([1, 2, 3])[:3] * (np.arange(3) < supercell.dimension)
    result = apply_defects(supercell, [Vacancy(tuple(at))])
    gone = (set(range(supercell.n_sites)) - set(result.grid.number_a.tolist())).pop()
    assert np.allclose(supercell.positions_ac[gone], at @ LATTICES[name].cell(3.0))
    assert result.n_sites == supercell.n_sites - 1
    assert np.array_equal(result.positions_ac, supercell.positions_ac[result.grid.number_a])
    assert np.array_equal(result.species_a, supercell.species_a[result.grid.number_a])


@pytest.mark.parametrize(("name", "site"), NAMED)
def test_a_named_interstitial_adds_one_site_that_is_not_too_close_to_any_host(name, site):
    supercell = perfect(name)
    d = supercell.dimension
    for basis in LATTICES[name].basis_bc:
        at = tuple(basis + np.array([1.0, 2.0, 1.0]) * (np.arange(3) < d))
        result = apply_defects(supercell, [Interstitial("X", site=site, at=at)])
        assert result.n_sites == supercell.n_sites + 1
        assert result.grid.number_a[-1] == -1
        assert np.array_equal(result.grid.number_a[:-1], supercell.grid.number_a)
        assert result.species[result.species_a[-1]] == "X"
        nearest = distances_around(result, result.n_sites - 1, 3.0)[0] / (3.0 * nearest_distance(LATTICES[name]))
        assert CLOSEST < nearest < 1.3


@pytest.mark.parametrize(("name", "site"), NAMED)
def test_a_named_interstitial_has_the_same_surroundings_at_every_host(name, site):
    supercell = perfect(name, n=5)
    seen = []
    for basis in LATTICES[name].basis_bc:
        result = apply_defects(supercell, [Interstitial("X", site=site, at=tuple(basis))])
        seen.append(distances_around(result, result.n_sites - 1, 4.0))
    assert all(np.allclose(distances, seen[0], atol=1e-9) for distances in seen)


@pytest.mark.parametrize(
    ("name", "site", "count", "distance"),
    [
        ("bcc", "octahedral", 2, 0.5),
        ("bcc", "tetrahedral", 4, np.sqrt(5.0) / 4.0),
        ("bcc", "crowdion", 2, np.sqrt(3.0) / 4.0),
        ("fcc", "octahedral", 6, 0.5),
        ("fcc", "tetrahedral", 4, np.sqrt(3.0) / 4.0),
        ("diamond", "tetrahedral", 4, np.sqrt(3.0) / 4.0),
        ("diamond", "hexagonal", 6, np.sqrt(11.0) / 8.0),
        ("diamond", "bond_centre", 2, np.sqrt(3.0) / 8.0),
        ("hcp", "octahedral", 6, np.sqrt(0.5)),
        ("hcp", "tetrahedral", 4, np.sqrt(0.375)),
        ("triangular", "triangle_centre", 3, np.sqrt(1.0 / 3.0)),
        ("square", "square_centre", 4, np.sqrt(0.5)),
        ("sc", "body_centre", 8, np.sqrt(0.75)),
    ],
)
def test_named_sites_have_the_textbook_coordination(name, site, count, distance):
    result = apply_defects(perfect(name), [Interstitial("X", site=site)])
    found = distances_around(result, result.n_sites - 1, 3.0 * distance * 1.3 + 0.2)
    assert np.allclose(found[:count], 3.0 * distance)
    assert len(found) == count or found[count] > 3.0 * distance + 1e-3


@pytest.mark.parametrize(("name", "site"), [(name, site) for name in LATTICES for site in DUMBBELLS[name]])
def test_a_dumbbell_is_centred_on_its_host_which_keeps_its_number(name, site):
    supercell = perfect(name)
    result = apply_defects(supercell, [Interstitial("A", site=site, at=(2, 1, 1)[: supercell.dimension])])
    moved = np.flatnonzero((result.positions_ac[:-1] != supercell.positions_ac).any(axis=1))
    assert len(moved) == 1
    host = lattice_positions(supercell.grid, result.grid.number_a[moved])[0]
    assert np.allclose(result.positions_ac[moved[0]] + result.positions_ac[-1], 2.0 * host)


def test_coordinates_outside_the_supercell_wrap_into_it():
    supercell = perfect("bcc")
    inside = apply_defects(supercell, [Vacancy((1, 2, 3)), Interstitial("A", position=(0.5, 0.25, 3.0))])
    outside = apply_defects(supercell, [Vacancy((41, -2, 7)), Interstitial("A", position=(-3.5, 4.25, 11.0))])
    assert np.array_equal(inside.grid.number_a, outside.grid.number_a)
    assert np.allclose(inside.positions_ac, outside.positions_ac)


def test_a_divacancy_is_two_vacancies_and_a_substitution_changes_one_species():
    supercell = perfect("bcc")
    pair = apply_defects(supercell, [Divacancy((0, 0, 0), (0.5, 0.5, 0.5))])
    assert np.array_equal(pair.grid.number_a, np.arange(2, supercell.n_sites))
    changed = apply_defects(supercell, [Substitution((0.5, 0.5, 0.5), "Re")])
    assert changed.species == ("A", "Re")
    assert changed.species_a.tolist() == [0, 1] + [0] * (supercell.n_sites - 2)
    antisite = apply_defects(perfect("b2"), [Substitution((0, 0, 0), "B")])
    assert antisite.species == ("A", "B")
    assert antisite.species_a[:2].tolist() == [1, 1]


def test_rounded_coordinates_still_mean_the_lattice_site():
    result = apply_defects(perfect("hcp"), [Vacancy((0.3333, 0.6667, 0.5))])
    assert 1 not in result.grid.number_a


def test_without_defects_the_supercell_is_returned_as_it_is():
    supercell = perfect("fcc")
    assert apply_defects(supercell, []) is supercell


@pytest.mark.parametrize(
    ("defects", "message"),
    [
        ([Vacancy((0.3, 0, 0))], r"defect 1: \[0.3, 0.0, 0.0\] is not a site of the bcc .* nearest is \[0, 0, 0\]"),
        ([Vacancy((0.6, 0.5, 0.4))], r"nearest is \[0.5, 0.5, 0.5\]"),
        ([Vacancy((0, 0, 0)), Vacancy((4, 0, 0))], "defects 1 and 2 are on the same lattice site"),
        ([Vacancy((0, 0, 0)), Interstitial("A", site="dumbbell_110")], "defects 1 and 2 are on the same"),
        ([Divacancy((0, 0, 0), (4, 4, 0))], "defects 1 and 1 are on the same"),
        ([Substitution((0, 0, 0), "")], "defect 1 needs a species"),
        ([Interstitial("A", site="octahedron")], "no interstitial site 'octahedron' .has octahedral, tetrahedral"),
        ([Interstitial("A")], "needs either `site` or `position`"),
        ([Interstitial("A", position=(0, 0, 0.5), site="octahedral")], "needs either `site` or `position`"),
        ([Interstitial("A", position=(0, 0, 0.5), site="dumbbell_100")], "not both"),
        ([Vacancy((0, 0))], "should be 3 finite"),
        ([Vacancy((np.nan, 0, 0))], "should be 3 finite"),
    ],
)
def test_impossible_defects_are_refused(defects, message):
    with pytest.raises(ConfigError, match=message):
        apply_defects(perfect("bcc"), defects)


def test_defects_off_the_plane_are_refused():
    with pytest.raises(ConfigError, match="outside the 2-dimensional lattice"):
        apply_defects(perfect("triangular"), [Vacancy((0, 0, 1))])


@pytest.mark.parametrize("position", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.55), (3.97, 0.0, 0.0)])
def test_an_interstitial_on_top_of_a_site_is_an_error(position):
    with pytest.raises(GeometryError, match="closer than"):
        apply_defects(perfect("bcc"), [Interstitial("A", position=position)])


def test_two_interstitials_on_one_position_are_an_error_and_one_in_a_vacancy_is_not():
    octahedral = Interstitial("A", site="octahedral")
    with pytest.raises(GeometryError, match="sites 128 and 129 are 0 angstrom apart"):
        apply_defects(perfect("bcc"), [octahedral, octahedral])
    filled = apply_defects(perfect("bcc"), [Vacancy((0, 0, 0)), Interstitial("C", position=(0, 0, 0))])
    assert filled.n_sites == 128


def test_defects_need_a_perfect_supercell_with_sites_left():
    once = apply_defects(perfect("bcc"), [Vacancy((0, 0, 0))])
    with pytest.raises(ConfigError, match="applied once"):
        apply_defects(once, [Vacancy((1, 1, 1))])
    with pytest.raises(ConfigError, match="need a lattice"):
        apply_defects(supercell_from_arrays(np.eye(3), (True,) * 3, [[0, 0, 0]], ["W"]), [Vacancy((0, 0, 0))])
    with pytest.raises(GeometryError, match="no site is left"):
        apply_defects(perfect("sc", n=1), [Vacancy((0, 0, 0))])


@pytest.mark.parametrize("name", ["bcc", "fcc", "diamond", "hcp", "b2"])
def test_the_middle_of_a_named_interstitial_is_where_it_is_put_on_either_sublattice(name):
    lattice, cell = LATTICES[name], perfect(name, n=3, lattice_constant=1.0)
    for at in lattice.basis_bc + 1.0:
        for site in OFFSETS[name]:
            defect = Interstitial("A", site=site, at=tuple(at))
            put_c = apply_defects(cell, [defect]).positions_ac[-1] @ np.linalg.inv(lattice.cell_cc)
            apart = (put_c - middle(defect, lattice)) / 3.0
            np.testing.assert_allclose(apart, np.rint(apart), atol=1e-9)  # but for the period of the cell


def test_the_middle_of_a_divacancy_lies_between_its_sites():
    assert middle(Divacancy((1.0, 0.0, 0.0), (0.5, 0.5, 0.5)), LATTICES["bcc"]) == (1.25, 0.25, 0.25)
    assert middle(Vacancy((1.0, 0.0, 2.0)), LATTICES["bcc"]) == (1.0, 0.0, 2.0)
