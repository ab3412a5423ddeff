"""Oriented cells and cells with dislocations."""

from dataclasses import replace

import numpy as np
import pytest

from parmlip.crystal.cores import core_offsets, nearest_columns
from parmlip.crystal.dislocations import Dislocations, build_dislocations
from parmlip.crystal.lattices import hcp, lattice_named
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.oriented import is_translation, oriented, shortest_translation
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConfigError, GeometryError
from tests.crystal.test_elasticity import cubic

TUNGSTEN = cubic(522.54, 204.22, 160.75)
SCREW = Dislocations("quadrupole", (1, 1, 1), (-1, 1, 0), (0.5, 0.5, 0.5))
FCC = {"line": (1, -1, 0), "plane": (1, 1, 1), "burgers": (0.5, -0.5, 0.0)}
CUBE = {"line": (0, 0, 1), "plane": (0, 1, 0), "burgers": (1.0, 0.0, 0.0)}
EDGE = Dislocations("quadrupole", (1, -1, 0), (0, 0, 1), (0.5, 0.5, 0.0))


def build(asked, repeats=(12, 10, 1), lattice="bcc", a=3.0, species=("W",)):
    return build_dislocations(lattice_named(lattice), a, repeats, species, asked)


def shells(cell, cutoff):
    """Sorted squared distances of the pairs of every site."""
    pairs = find_pairs(cell.cell_cc, cell.periodic, cell.positions_ac, cutoff)
    r = pair_vectors(pairs, cell.cell_cc, cell.positions_ac)
    return [np.sort(np.round((r[a:b] ** 2).sum(axis=1), 6)) for a, b in zip(pairs.first_n[:-1], pairs.first_n[1:])]


@pytest.mark.parametrize(
    ("lattice", "line", "plane", "sites", "lengths"),
    [
        ("bcc", (1, 1, 1), (-1, 1, 0), 6, (6**0.5, 2**0.5, 3**0.5 / 2)),
        ("bcc", (0, -1, 0), (0, 0, 1), 2, (1.0, 1.0, 1.0)),
        ("fcc", (1, -1, 0), (1, 1, 1), 6, (6**0.5 / 2, 3**0.5, 0.5**0.5)),
        ("diamond", (1, -1, 0), (0, 0, 1), 4, (0.5**0.5, 1.0, 0.5**0.5)),
        ("b2", (0, 0, 1), (0, 1, 0), 2, (1.0, 1.0, 1.0)),
        ("b2", (1, 1, 1), (-1, 1, 0), 12, (6**0.5, 2**0.5, 3**0.5)),
    ],
)
def test_oriented_cells_are_the_smallest_and_hold_the_same_crystal(lattice, line, plane, sites, lengths):
    of = lattice_named(lattice)
    frame = oriented(of, line, plane)
    assert frame.lattice.n_basis == sites
    np.testing.assert_allclose(np.diag(frame.lattice.cell_cc), lengths, rtol=1e-12)
    np.testing.assert_allclose(frame.axes_cc @ frame.axes_cc.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(frame.axes_cc) == pytest.approx(1.0)
    species = ("Ni", "Al")[: of.n_slots]
    got = shells(build_supercell(frame.lattice, 3.0, (2, 2, 2), species), 5.0)
    due = shells(build_supercell(of, 3.0, (1, 1, 1), species), 5.0)
    assert all(any(len(g) == len(d) and np.allclose(g, d, atol=1e-5) for d in due) for g in got)


def test_hexagonal_crystals_are_cut_along_the_basal_plane():
    frame = oriented(hcp(1.6), (1, 0, 0), (0, 0, 1))
    np.testing.assert_allclose(np.sort(np.diag(frame.lattice.cell_cc)), np.sort([1.0, 3**0.5, 1.6]), rtol=1e-12)
    assert frame.lattice.n_basis == 4


def test_translations_are_known_with_their_species():
    assert is_translation(lattice_named("bcc"), (0.5, 0.5, -0.5))
    assert not is_translation(lattice_named("b2"), (0.5, 0.5, -0.5))
    np.testing.assert_allclose(shortest_translation(lattice_named("fcc"), (1, 1, 0)), (0.5, 0.5, 0.0))


def test_easy_cores_of_screws_lie_where_the_papers_put_them():
    frame = oriented(lattice_named("bcc"), (1, 1, 1), (-1, 1, 0))
    b = frame.in_frame((0.5, 0.5, 0.5))
    plus, minus = core_offsets(frame, b, "easy")
    np.testing.assert_allclose(plus, (6**0.5 / 6, 2**0.5 / 6), atol=1e-9)
    np.testing.assert_allclose(minus, (6**0.5 / 3, 2**0.5 / 3), atol=1e-9)
    hard, _ = core_offsets(frame, b, "hard")
    assert not np.allclose(hard, plus, atol=0.1)


@pytest.mark.parametrize("plane", [(-1, 1, 0), (1, -1, 0)])
def test_the_field_of_an_easy_core_reverses_the_helix_of_its_three_columns(plane):
    made = build(Dislocations("quadrupole", (1, 1, 1), plane, (0.5, 0.5, 0.5)), (12, 20, 1))
    u = made.predictor(TUNGSTEN)
    for core in made.cores:
        trio = nearest_columns(made.lattice_positions_ac, core.position, made.vectors_kc, 3)
        x = (made.supercell.positions_ac + u)[trio]
        angle = np.argsort(np.arctan2(*(x[:, :2] - core.position).T[::-1]))
        period = made.supercell.cell_cc[2, 2]
        step = np.diff(x[angle, 2]) / period % 1.0
        before = np.diff(made.supercell.positions_ac[trio][angle, 2]) / period % 1.0
        sign = np.sign(core.burgers[2])
        np.testing.assert_allclose(before, (sign / 3) % 1.0, atol=0.01)
        np.testing.assert_allclose(step, (-sign / 3) % 1.0, atol=0.05)


def test_quadrupoles_are_orthogonal_and_dipoles_sheared_and_tilted_by_half_a_burgers_vector():
    quadrupole, dipole = build(SCREW), build(Dislocations("dipole", SCREW.line, SCREW.plane, SCREW.burgers))
    cell = quadrupole.supercell.cell_cc
    np.testing.assert_allclose(cell, np.diag(np.diag(cell)))
    assert quadrupole.supercell.n_sites == dipole.supercell.n_sites == 12 * 10 * 6
    sheared = dipole.supercell.cell_cc
    assert sheared[1, 0] == pytest.approx(0.5 * sheared[0, 0])
    assert abs(sheared[1, 2]) == pytest.approx(0.5 * np.linalg.norm(dipole.cores[0].burgers), rel=0.12)
    assert dipole.supercell.volume == pytest.approx(quadrupole.supercell.volume, rel=1e-12)
    # the dipole's images make a quadrupole of twice its cell
    assert build(SCREW, (12, 20, 1)).separation == pytest.approx(dipole.separation, rel=0.15)


@pytest.mark.parametrize("kind", ["quadrupole", "dipole"])
@pytest.mark.parametrize("asked", [SCREW, EDGE])
def test_every_built_cell_has_its_burgers_vectors_in_the_displacement_of_its_sites(kind, asked):
    lattice = "bcc" if asked is SCREW else "diamond"
    made = build(Dislocations(kind, asked.line, asked.plane, asked.burgers), (16, 14, 1), lattice, species=("Si",))
    u = made.predictor(TUNGSTEN)
    grid = made.supercell.grid
    assert grid is not None
    reference, cell = made.lattice_positions_ac, np.zeros((3, 3))
    cell[:2, :2], cell[2] = made.vectors_kc, made.supercell.cell_cc[2]
    for core in made.cores:
        # sites on a ring, one after the other; every step is the one that the crystal's own translation leaves smallest
        shifts = np.array([[i, j, 0] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell
        images = (reference[:, None] + shifts[None]).reshape(-1, 3)
        off = images[:, :2] - np.array(core.position)
        ring = np.flatnonzero(np.abs(np.linalg.norm(off, axis=1) - 7.0) < 1.2)
        ring = ring[np.argsort(np.arctan2(off[ring, 1], off[ring, 0]))]
        b = np.array(core.burgers)
        steps = np.diff(u[ring // 9], axis=0, append=u[ring[:1] // 9])
        steps -= np.outer(np.rint(steps @ b / (b @ b)), b)
        np.testing.assert_allclose(steps.sum(axis=0), b, atol=1e-9)


def test_given_cores_stand_where_they_are_put():
    cores = ((3.1, 2.2, 1.0), (9.1, 2.2, -1.0), (3.1, 7.2, -2.0), (9.1, 7.2, 2.0))
    made = build(
        Dislocations("given", (0, 0, 1), (0, 1, 0), (0.0, 0.0, 1.0), cores=cores), lattice="b2", species=("Ni", "Al")
    )
    np.testing.assert_allclose([c.position for c in made.cores], 3.0 * np.array(cores)[:, :2])
    assert [c.burgers[2] for c in made.cores] == [3.0, -3.0, -6.0, 6.0]


def test_the_start_is_the_same_for_the_same_seed():
    noisy = Dislocations("quadrupole", SCREW.line, SCREW.plane, SCREW.burgers, noise=0.03, seed=3)
    u, v = (build(noisy).predictor(TUNGSTEN) for _ in range(2))
    np.testing.assert_array_equal(u, v)
    plain = build(SCREW).predictor(TUNGSTEN)
    assert 0.02 < np.abs(u - plain).max() < 0.032  # less its mean
    polar = build(Dislocations("quadrupole", SCREW.line, SCREW.plane, SCREW.burgers, polarity=0.1)).predictor(TUNGSTEN)
    moved = np.abs((polar - plain)[:, 2]) > 0.05 * 3**0.5 / 2 * 3.0
    assert moved.sum() == 12  # three columns of one site at each of four cores


@pytest.mark.parametrize(
    ("changes", "repeats", "lattice", "words"),
    [
        ({"burgers": (0.5, 0.5, 0.0)}, (12, 10, 1), "bcc", "is not a lattice vector of bcc"),
        ({"burgers": (0.0, 0.0, 0.0)}, (12, 10, 1), "bcc", "is not a lattice vector"),
        ({"burgers": (-0.5, 0.5, 0.5)}, (12, 10, 1), "bcc", "must lie in plane"),
        ({"plane": (1, 1, 0)}, (12, 10, 1), "bcc", "does not lie in plane"),
        ({"line": (0, 0, 0)}, (12, 10, 1), "bcc", "must not be zero"),
        ({}, (2, 2, 1), "bcc", "would annihilate"),
        ({"kind": "dipole"}, (7, 6, 1), "bcc", "must be even"),
        ({"core": (0.0, 0.0)}, (12, 10, 1), "bcc", "is on a column of sites"),
        ({"kind": "given", "cores": ((3.1, 2.2, 1.0), (9.1, 2.2, -0.5))}, (12, 10, 1), "bcc", "add up to zero"),
        ({**FCC, "core": "easy"}, (12, 10, 1), "fcc", "is for"),
        ({**CUBE, "core": (0.2, 0.5)}, (12, 10, 1), "bcc", "glide"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_in_one_line(changes, repeats, lattice, words):
    asked = replace(SCREW, **changes)
    with pytest.raises(ConfigError, match=words) as error:
        build(asked, repeats, lattice)
    assert "\n" not in str(error.value)


def test_edges_of_opposite_sign_on_different_planes_are_refused():
    cores = ((3.3, 2.3, 1.0), (9.3, 7.3, -1.0))
    asked = Dislocations("given", (0, 0, 1), (0, 1, 0), (1.0, 0.0, 0.0), cores=cores)
    with pytest.raises(ConfigError, match="on one glide plane"):
        build(asked)


def test_sites_that_would_overlap_are_named():
    made = build(Dislocations("quadrupole", SCREW.line, SCREW.plane, SCREW.burgers, noise=2.0), (12, 10, 1))
    with pytest.raises(GeometryError, match=r"sites \d+ and \d+ of the predictor"):
        made.predictor(TUNGSTEN)
