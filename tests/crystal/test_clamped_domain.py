"""Discs and balls of crystal whose rim is clamped."""

import numpy as np
import pytest

from parmlip.crystal.clamped_domain import build_domain
from parmlip.crystal.defects import Divacancy, Interstitial, Substitution, Vacancy
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.neighbours import find_pairs
from parmlip.crystal.oriented import oriented
from parmlip.errors import ConfigError

A = 3.2
BCC = lattice_named("bcc", None)
ORIGIN = (0.0, 0.0, 0.0)


def domain(*defects, of="bcc", kind="disc", radius=16.0, rim=11.0, **given):
    lattice = lattice_named(of, None)
    return build_domain(lattice, A, ("W",) * lattice.n_slots, list(defects), kind=kind, radius=radius, rim=rim, **given)


@pytest.mark.parametrize(
    ("of", "kind", "density"),
    [
        ("bcc", "disc", 2 / A**2),
        ("hcp", "disc", 2 / (np.sqrt(0.75) * A**2)),
        ("triangular", "disc", 1 / (np.sqrt(0.75) * A**2)),
        ("bcc", "ball", 2 / A**3),
    ],
)
def test_free_sites_lie_within_the_radius_and_the_rim_around_them_at_the_crystals_density(of, kind, density):
    made = domain(of=of, kind=kind)
    distance_a = made.distances()
    np.testing.assert_array_equal(made.free_a, distance_a < 16.0)
    assert 25.0 < distance_a.max() < 27.0
    volume = {"disc": np.pi * 27.0**2, "ball": 4.0 / 3.0 * np.pi * 27.0**3}[kind]
    assert made.supercell.n_sites == pytest.approx(volume * density, rel=0.04)
    assert made.supercell.periodic == (False, False, of != "triangular" and kind == "disc")


@pytest.mark.parametrize("frame", [None, ((1, 1, 1), (-1, 1, 0)), ((1, 1, 0), (0, 0, 1))])
def test_the_centre_is_a_site_and_coordinates_of_defects_begin_there_in_every_orientation(frame):
    axes = None if frame is None else oriented(BCC, *frame)
    perfect = domain(frame=axes)
    made = domain(Vacancy(ORIGIN), Substitution((0.5, 0.5, -0.5), "Mo"), frame=axes)
    off_ac = perfect.supercell.positions_ac - perfect.centre_c
    assert np.linalg.norm(off_ac, axis=1).min() < 1e-9
    assert made.supercell.n_sites == perfect.supercell.n_sites - 1
    to_replaced = (made.supercell.positions_ac - made.centre_c)[made.supercell.species_a == 1]
    axes_cc = np.eye(3) if axes is None else axes.axes_cc
    period_c = made.supercell.cell_cc[2]
    off_c = to_replaced[0] - axes_cc @ (np.array([0.5, 0.5, -0.5]) * A)
    off_c -= np.rint(off_c @ period_c / (period_c @ period_c)) * period_c
    np.testing.assert_allclose(off_c, 0.0, atol=1e-9)


def test_several_periods_hold_as_many_times_the_sites():
    one, three = domain(), domain(periods=3)
    assert three.supercell.n_sites == 3 * one.supercell.n_sites
    assert three.supercell.cell_cc[2, 2] == pytest.approx(3 * one.supercell.cell_cc[2, 2])


def test_with_a_rim_of_two_cutoffs_sites_whose_energies_change_see_no_surface():
    made, cutoff = domain(kind="ball", radius=10.0, rim=11.0), 5.5
    inner_n = np.flatnonzero(made.inner(cutoff))
    counts = find_pairs(
        made.supercell.cell_cc, made.supercell.periodic, made.supercell.positions_ac, cutoff, inner_n
    ).count_n
    assert set(counts.tolist()) == {counts[0]}
    all_counts = find_pairs(made.supercell.cell_cc, made.supercell.periodic, made.supercell.positions_ac, cutoff)
    assert all_counts.count_n.min() < counts[0]


def test_free_sites_have_the_voronoi_neighbours_of_a_periodic_cell():
    from parmlip.crystal.defects import apply_defects
    from parmlip.crystal.supercell import build_supercell

    made = domain(Vacancy(ORIGIN), kind="ball", radius=9.0, rim=11.0)
    cell = apply_defects(build_supercell(BCC, A, (8, 8, 8), ("W",)), [Vacancy((4.0, 4.0, 4.0))])
    off_ac = cell.positions_ac - 4.0 * A
    inside_n = np.flatnonzero(np.linalg.norm(off_ac, axis=1) < 9.0)
    free_n = np.flatnonzero(made.free_a)
    found = [
        sorted(zip(np.round(np.linalg.norm(at_ac[of], axis=1), 6), nearest_neighbours(s, "voronoi", of).count_n))
        for s, at_ac, of in (
            (made.supercell, made.supercell.positions_ac - made.centre_c, free_n),
            (cell, off_ac, inside_n),
        )
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("defect", "given", "words"),
    [
        (Vacancy((6.0, 0.0, 0.0)), {}, r"\[6.0, 0.0, 0.0\] is 19.20 A from the centre"),
        (Divacancy((4.5, 0.5, 0.5), (1.0, 0.0, 0.0)), {}, "outside of its free region"),
        (Interstitial("W", site="octahedral"), {"frame": oriented(BCC, (1, 1, 1), (-1, 1, 0))}, "give 'position'"),
        (Vacancy((0.3, 0.0, 0.0)), {}, "is not a site"),
        (Vacancy(ORIGIN), {"radius": 5.0}, "radius = 5: must be at least 8.31 A"),
        (Vacancy(ORIGIN), {"kind": "ball", "of": "triangular"}, "is not for lattice triangular"),
        (Vacancy(ORIGIN), {"of": "chain"}, "is not for lattice chain"),
    ],
)
def test_what_cannot_be_is_refused(defect, given, words):
    with pytest.raises(ConfigError, match=words):
        domain(defect, **given)
