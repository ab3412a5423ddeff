"""Places of dislocations in discs by their elastic field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parmlip.analysis.core_place import elastic_centre
from parmlip.crystal.dislocation_disc import build_disc
from parmlip.crystal.dislocation_field import Core
from parmlip.crystal.lattices import lattice_named

STIFFNESS = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) * 0.8
STIFFNESS[:3, :3] = np.full((3, 3), 1.0) + np.eye(3) * 1.2  # cubic, A = 1.33
DISCS = {
    "screw": ("bcc", 3.16, {"line": (1, 1, 1), "plane": (-1, 1, 0), "burgers": (0.5, 0.5, 0.5), "core": "easy"}),
    "edge": ("bcc", 3.16, {"line": (0, 1, 0), "plane": (0, 0, 1), "burgers": (1.0, 0.0, 0.0)}),
    "silicon": ("diamond", 5.43, {"line": (1, -1, 0), "plane": (0, 0, 1), "burgers": (0.5, 0.5, 0.0)}),
}
OFFSETS = {
    "screw": [(0.0, 0.0), (0.4, -0.3), (-1.6, 0.7), (3.0, 2.0)],
    "edge": [(0.0, 0.0), (0.7, 0.0), (-1.6, 0.0), (4.0, 0.0)],
    "silicon": [(0.0, 0.0), (-0.6, 0.0), (1.9, 0.0)],
}


def disc(name, radius=30.0):
    lattice, a, asked = DISCS[name]
    return build_disc(lattice_named(lattice), a, ("X",), radius=radius, rim=6.0, **asked)


def displaced(made, offset):
    """The elastic field of the core put elsewhere, and where."""
    at = np.array(made.core.position) + offset
    core = Core((float(at[0]), float(at[1])), made.core.burgers)
    return replace(made, core=core).predictor(STIFFNESS), at


@pytest.mark.parametrize(("name", "offset"), [(name, offset) for name in OFFSETS for offset in OFFSETS[name]])
def test_the_place_of_an_elastic_field_is_found_from_an_angstrom_beside_it(name, offset):
    made = disc(name)
    u_ac, at = displaced(made, offset)
    near = at + np.array([0.8, 0.5 if name == "screw" else 0.0])
    found = elastic_centre(made, STIFFNESS, u_ac, (float(near[0]), float(near[1])))
    np.testing.assert_allclose(found.position, at, atol=1e-4)
    assert found.misfit < 1e-4


@pytest.mark.parametrize("name", list(DISCS))
def test_with_disturbed_sites_it_is_found_within_a_fifth_of_an_angstrom(name):
    """Root mean square over ten disturbances of 0.02 A, where a shift by 0.2 A moves sites of the ring by 0.01 A."""
    made = disc(name)
    field_ac, at = displaced(made, OFFSETS[name][1])
    shifts = []
    for seed in range(10):
        u_ac = field_ac + np.random.default_rng(seed).normal(0.0, 0.02, field_ac.shape)
        u_ac += np.array([0.3, -0.2, 0.1])  # a translation says nothing
        found = elastic_centre(made, STIFFNESS, u_ac, made.core.position)
        shifts.append(np.array(found.position) - at)
        assert 0.02 < found.misfit < 0.05
    assert np.sqrt(np.mean(np.sum(np.square(shifts), axis=1))) < 0.2


def test_two_starts_end_at_the_same_place():
    made = disc("edge")
    u_ac, _ = displaced(made, (1.0, 0.0))
    u_ac += 0.3 * np.exp(-np.linalg.norm(made.supercell.positions_ac[:, :2] - made.centre_c[:2], axis=1) / 5.0)[:, None]
    ends = [
        elastic_centre(made, STIFFNESS, u_ac, (made.core.position[0] + x, made.core.position[1])).position
        for x in (-2.0, 2.0)
    ]
    np.testing.assert_allclose(*ends, atol=1e-3)


def test_an_edge_stays_on_its_glide_plane():
    made = disc("silicon")
    u_ac, at = displaced(made, (1.0, 0.0))
    found = elastic_centre(made, STIFFNESS, u_ac, (float(at[0]), float(at[1]) + 0.9))
    assert found.position[1] == made.core.position[1]


def test_of_a_core_in_two_halves_it_is_their_middle_if_the_ring_is_round_both():
    made = disc("screw", 60.0)
    x, y = made.core.position
    half = tuple(0.5 * b for b in made.core.burgers)
    u_ac = sum(replace(made, core=Core((x + off, y), half)).predictor(STIFFNESS) for off in (-9.0, 11.0))
    found = elastic_centre(made, STIFFNESS, u_ac, (x, y), 10.0)
    assert np.linalg.norm(np.array(found.position) - (x + 1.0, y)) < 0.2
    between = elastic_centre(made, STIFFNESS, u_ac, (x, y))
    assert found.misfit < 0.2 * between.misfit


def test_a_core_that_has_left_the_disc_has_no_place():
    made = disc("edge")
    at = (made.core.position[0] + 45.0, made.core.position[1])
    assert elastic_centre(made, STIFFNESS, made.predictor(STIFFNESS), at) is None
