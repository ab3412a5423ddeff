"""Regions of a QM/MM coupling: every site has one label, by its distance from the nearest core."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.regions import BUFFER, FAR_FIELD, MM, QM, build_regions, check_sizes
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConfigError

A = 3.1652
ORIGIN = np.zeros((1, 3))


def block(radius, in_plane=True):
    """A disc (one period along z) or a ball of bcc about the origin."""
    n = int(np.ceil(radius / A)) + 1
    cell = build_supercell(lattice_named("bcc", None), A, (2 * n, 2 * n, 1 if in_plane else 2 * n), ["W"])
    x_ac = cell.positions_ac - A * np.array([n, n, 0 if in_plane else n])
    kept_a = np.linalg.norm(x_ac[:, : 2 if in_plane else 3], axis=1) < radius
    periodic = (False, False, in_plane)
    return Supercell(cell.cell_cc, periodic, x_ac[kept_a], cell.species_a[kept_a], cell.species, 3)


def within(cell, radius, in_plane=True):
    return np.linalg.norm(cell.positions_ac[:, : 2 if in_plane else 3], axis=1) < radius


@pytest.mark.parametrize("in_plane", [True, False])
def test_labels_are_those_of_the_distance_from_the_core(in_plane):
    cell = block(24.0 if in_plane else 16.0, in_plane)
    distance_a = np.linalg.norm(cell.positions_ac[:, : 2 if in_plane else 3], axis=1)
    free_a = distance_a < 12.0
    found = build_regions(cell, ORIGIN, 5.0, 4.0, free_a, in_plane=in_plane)
    expected_a = np.select([distance_a >= 12.0, distance_a <= 5.0, distance_a <= 9.0], [FAR_FIELD, QM, BUFFER], MM)
    np.testing.assert_array_equal(found.label_a, expected_a)
    np.testing.assert_array_equal(found.cluster_a, distance_a <= 9.0)
    np.testing.assert_array_equal(found.free_a, free_a)
    assert sum(found.counts().values()) == cell.n_sites


def test_about_two_cores_the_regions_are_the_union_of_those_of_each():
    cell = block(30.0)
    cores = np.array([[-4.0, 0.0, 0.0], [5.0, 1.0, 0.0]])
    free_a = within(cell, 22.0)
    found = build_regions(cell, cores, 6.0, 5.0, free_a, in_plane=True)
    each = [build_regions(cell, core[None], 6.0, 5.0, free_a, in_plane=True) for core in cores]
    np.testing.assert_array_equal(found.qm_a, each[0].qm_a | each[1].qm_a)
    np.testing.assert_array_equal(found.cluster_a, each[0].cluster_a | each[1].cluster_a)


def test_cores_far_apart_may_have_their_own_radii_and_overlapping_ones_may_not():
    cell = block(40.0)
    free_a = within(cell, 30.0)
    cores = np.array([[-12.0, 0.0, 0.0], [12.0, 0.0, 0.0]])
    found = build_regions(cell, cores, [4.0, 7.0], 3.0, free_a, in_plane=True)
    for core, radius in zip(cores, (4.0, 7.0), strict=True):
        near_a = np.linalg.norm(cell.positions_ac[:, :2] - core[:2], axis=1) < 11.0
        alone = build_regions(cell, core[None], radius, 3.0, free_a, in_plane=True)
        np.testing.assert_array_equal(found.label_a[near_a], alone.label_a[near_a])
    with pytest.raises(
        ConfigError, match=r"radius: the QM regions of cores 1 and 2, 10.00 A apart, have the radii 4 a"
    ):
        build_regions(cell, cores * 5.0 / 12.0, [4.0, 7.0], 3.0, free_a, in_plane=True)


def test_along_a_period_the_nearest_image_of_a_core_counts():
    cell = build_supercell(lattice_named("bcc", None), A, (8, 8, 8), ["W"])
    found = build_regions(cell, ORIGIN, 6.0, 2.0, np.ones(cell.n_sites, dtype=bool), in_plane=False)
    fraction_ac = cell.positions_ac / (8 * A)
    distance_a = np.linalg.norm((fraction_ac - np.rint(fraction_ac)) * 8 * A, axis=1)
    np.testing.assert_array_equal(found.qm_a, distance_a <= 6.0)


def test_beta_begins_at_half_of_the_radius():
    cell = block(24.0)
    found = build_regions(cell, ORIGIN, 10.0, 4.0, within(cell, 18.0), in_plane=True)
    np.testing.assert_array_equal(found.beyond(0.5), ~within(cell, 5.0))


@pytest.mark.parametrize(
    ("radius", "buffer", "message"),
    [
        (5.0, 3.0, r"\[qmmm\] buffer = 3: must be at least 4 A, twice the cutoff"),
        (9.0, 4.0, r"\[qmmm\] radius = 9: with the buffer of 4 A it must end within the free region, \[simulation\] r"),
    ],
)
def test_a_buffer_that_is_too_small_and_a_region_that_is_too_large_are_refused(radius, buffer, message):
    cell = block(24.0)
    found = build_regions(cell, ORIGIN, radius, buffer, within(cell, 12.0), in_plane=True)
    with pytest.raises(ConfigError, match=message):
        check_sizes(found, 12.0, needed=4.0, why="twice the cutoff")


def test_a_region_that_is_too_large_is_told_the_largest_that_fits():
    cell = block(24.0)
    with pytest.raises(ConfigError, match="make radius at most 7.99, buffer smaller, or the domain larger"):
        check_sizes(build_regions(cell, ORIGIN, 9.0, 4.0, within(cell, 12.0), in_plane=True), 12.0, needed=4.0, why="")
    check_sizes(build_regions(cell, ORIGIN, 7.99, 4.0, within(cell, 12.0), in_plane=True), 12.0, needed=4.0, why="")
    with pytest.raises(ConfigError, match="; make buffer smaller, or the domain larger"):
        check_sizes(build_regions(cell, ORIGIN, 3.0, 13.0, within(cell, 12.0), in_plane=True), 12.0, needed=4.0, why="")


def test_a_region_that_reaches_out_of_the_free_one_on_one_side_is_refused():
    cell = block(24.0)
    found = build_regions(cell, np.array([[6.0, 0.0, 0.0]]), 4.0, 4.0, within(cell, 12.0), in_plane=True)
    with pytest.raises(ConfigError, match="must end within the free region"):
        check_sizes(found, 12.0, needed=4.0, why="the cutoff")


def test_no_core_and_a_region_without_sites_are_refused():
    cell = block(24.0)
    free_a = within(cell, 12.0)
    with pytest.raises(ConfigError, match="there is no defect or dislocation"):
        build_regions(cell, np.zeros((0, 3)), 5.0, 4.0, free_a, in_plane=True)
    with pytest.raises(ConfigError, match=r"radius = 0.5: holds no site; the nearest is 0.7"):
        build_regions(cell, np.array([[0.25 * A, 0.0, 0.0]]), 0.5, 4.0, free_a, in_plane=True)
