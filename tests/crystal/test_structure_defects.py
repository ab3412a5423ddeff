"""Point defects in structures that were given site by site: the same sites as on the lattice, clear ends otherwise."""

import numpy as np
import pytest

from parmlip.crystal.defects import Divacancy, Interstitial, Substitution, Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.structure_defects import apply_defects_to_structure
from parmlip.crystal.supercell import build_supercell, supercell_from_arrays
from parmlip.errors import ConfigError, GeometryError

REPEATS = (2, 3, 2)
DEFECTS = [
    [Vacancy((0.5, 0.5, 0.5))],
    [Vacancy((0, 0, 0)), Vacancy((3.5, 0.5, -0.5))],
    [Divacancy((1, 1, 1), (0.5, 0.5, 0.5))],
    [Substitution((1.5, 0.5, 0.5), "Ni"), Substitution((0, 0, 0), "Cu")],
    [Interstitial("Al", position=(0.5, 0.0, 2.25)), Vacancy((1, 2, 1))],
]


def perfect():
    return build_supercell(LATTICES["b2"], 2.86, REPEATS, ("Ni", "Al"))


def structure():
    """The same without its lattice."""
    cell = perfect()
    symbols = [cell.species[s] for s in cell.species_a]
    return supercell_from_arrays(cell.cell_cc, 3 * (True,), cell.positions_ac, symbols)


@pytest.mark.parametrize("defects", DEFECTS)
def test_defects_at_sites_of_a_structure_are_those_of_its_lattice(defects):
    with_lattice, without = apply_defects(perfect(), defects), apply_defects_to_structure(structure(), defects, REPEATS)
    np.testing.assert_allclose(without.positions_ac, with_lattice.positions_ac, atol=1e-12)
    np.testing.assert_array_equal(without.species_a, with_lattice.species_a)
    assert without.species == with_lattice.species
    assert without.grid is None


def test_a_site_may_be_off_its_place_and_the_cell_oblique_and_open():
    cell_cc = np.array([[3.0, 0, 0], [1.4, 2.6, 0], [0, 0, 10.0]])
    unit = np.array([[0.02, 0, 4.0], [1.5, 0.9, 4.95]])
    positions = np.concatenate([unit + i * cell_cc[0] + j * cell_cc[1] for i in range(3) for j in range(3)])
    repeated = cell_cc * np.array([[3], [3], [1]])
    whole = supercell_from_arrays(repeated, (True, True, False), positions, 18 * ["Si"])
    at = unit[1] @ np.linalg.inv(cell_cc) + [4, -2, 0]  # an image of the cell (1, 1)
    left = apply_defects_to_structure(whole, [Vacancy(tuple(np.round(at, 3)))], (3, 3, 1))
    np.testing.assert_array_equal(left.positions_ac, np.delete(positions, 2 * (3 * 1 + 1) + 1, axis=0))
    with pytest.raises(ConfigError, match="not a site"):  # no image along the open direction
        apply_defects_to_structure(whole, [Vacancy(tuple(at + [0, 0, 1]))], (3, 3, 1))


@pytest.mark.parametrize(
    ("defects", "error", "message"),
    [
        (
            [Vacancy((0.5, 0.5, 0.55))],
            ConfigError,
            r"defect 1: \[0.5, 0.5, 0.55\] is not a site .* is \[0.5, 0.5, 0.5\]",
        ),
        ([Vacancy((0, 0, 0)), Substitution((2, 0, 0), "Cu")], ConfigError, "defects 1 and 2 are on the same site"),
        (
            [Interstitial("Al", site="octahedral")],
            ConfigError,
            "defect 1: site 'octahedral' is named for lattices only",
        ),
        ([Interstitial("Al", position=(0.5, 0.5, 0.6))], GeometryError, "apart"),
    ],
)
def test_what_means_nothing_in_a_structure_is_told(defects, error, message):
    with pytest.raises(error, match=message):
        apply_defects_to_structure(structure(), defects, REPEATS)


def test_a_structure_keeps_a_site():
    one = supercell_from_arrays(np.eye(3), 3 * (True,), np.zeros((1, 3)), ["Si"])
    with pytest.raises(GeometryError, match="no site is left"):
        apply_defects_to_structure(one, [Vacancy((0, 0, 0))], (1, 1, 1))


def test_without_defects_the_structure_stays_as_it_is():
    whole = structure()
    assert apply_defects_to_structure(whole, [], REPEATS) is whole
