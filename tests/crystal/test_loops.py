"""Cells with a dislocation loop."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.loops import LoopAsked, build_loop, check_overlap
from parmlip.errors import ConfigError, GeometryError

A = 3.165
BCC, FCC = lattice_named("bcc"), lattice_named("fcc")
PLATELET = LoopAsked((1, 1, 1), (0.5, 0.5, 0.5), 6.0, "hexagon", "insert")
SLIP = LoopAsked((-1, 1, 0), (0.5, 0.5, 0.5), 6.0)


def build(asked, lattice=BCC, repeats=(14, 14, 14), species=("W",)):
    return build_loop(lattice, A, repeats, species, asked)


def everywhere(cell):
    return np.arange(cell.supercell.n_sites)


def starts(cell, poisson=0.28):
    u = cell.start(poisson, everywhere(cell))
    return cell.supercell.positions_ac + u


@pytest.mark.parametrize("platelet", ["insert", "remove"])
def test_platelets_have_the_sites_of_a_burgers_vector_over_their_area(platelet):
    cell = build(replace(PLATELET, diameter=8.0, platelet=platelet))
    volume = cell.loop.area * abs(cell.loop.burgers_c @ cell.loop.normal_c)
    sign = 1 if platelet == "insert" else -1
    assert cell.n_platelet * sign == pytest.approx(volume * 2.0 / A**3, rel=0.12)  # whole columns
    assert cell.supercell.n_sites == 2 * 14**3 + cell.n_platelet
    assert np.sign(cell.loop.burgers_c @ cell.loop.normal_c) == sign


def test_the_burgers_vector_of_a_platelet_may_point_either_way():
    ours, theirs = build(PLATELET), build(replace(PLATELET, burgers=(-0.5, -0.5, -0.5)))
    np.testing.assert_array_equal(ours.supercell.positions_ac, theirs.supercell.positions_ac)


def test_slip_leaves_all_sites_and_their_lattice():
    cell = build(SLIP)
    assert cell.n_platelet == 0
    assert cell.supercell.n_sites == 2 * 14**3
    assert cell.supercell.grid is not None
    assert abs(cell.loop.burgers_c @ cell.loop.normal_c) < 1e-12


@pytest.mark.parametrize("asked", [PLATELET, replace(PLATELET, platelet="remove"), SLIP])
def test_sites_above_the_loop_have_moved_by_the_burgers_vector_against_those_below(asked):
    """The field is continuous but there: compared are the means of u over sites beside the middle, above and below."""
    cell = build(replace(asked, diameter=9.0))
    u = cell.displacement(0.28, everywhere(cell))[: len(cell.lattice_ac) - len(cell.on_cut_ac)]
    off = cell.lattice_ac[: len(u)] - cell.loop.centre_c
    height = off @ cell.loop.normal_c
    across = np.linalg.norm(off - np.outer(height, cell.loop.normal_c), axis=1)
    limit = 1.6 * A if asked.platelet == "remove" else 0.8 * A  # the slab is empty where sites were taken out
    above, below = (u[(across < 1.5 * A) & (s * height > 0.0) & (s * height < limit)].mean(axis=0) for s in (1, -1))
    np.testing.assert_allclose(above - below, cell.loop.burgers_c, atol=0.16 * np.linalg.norm(cell.loop.burgers_c))
    far = np.abs(height).argmax()
    assert np.linalg.norm(u[far]) < 0.1 * np.linalg.norm(cell.loop.burgers_c)


@pytest.mark.parametrize("asked", [PLATELET, replace(PLATELET, platelet="remove"), SLIP, replace(SLIP, tilt=1.0)])
def test_starts_are_the_crystal_far_from_the_line_and_overlap_nowhere(asked):
    cell = build(asked)
    u = cell.start(0.28, everywhere(cell))
    check_overlap(cell, u, everywhere(cell))
    assert np.isfinite(u).all()
    distance = cell.line_distances()
    assert distance.min() < 0.6 * A
    assert distance.max() > 6.0 * A
    if asked.platelet == "insert":  # its reference has the field of another Poisson's ratio
        assert np.abs(u).max() < 0.05 * A
        moved = cell.displacement(0.3, everywhere(cell))
        np.testing.assert_allclose(cell.lattice_ac + moved, cell.supercell.positions_ac, atol=1e-12)


def test_sites_that_overlap_are_refused():
    cell = build(SLIP)
    u = cell.start(0.28, everywhere(cell))
    x = cell.supercell.positions_ac
    one = int(np.argmin(np.linalg.norm(x - cell.loop.centre_c, axis=1)))
    other = int(np.argsort(np.linalg.norm(x - x[one], axis=1))[1])
    u[other] = x[one] + u[one] - x[other] + 0.1
    for mine in ([one], [other], everywhere(cell)):
        with pytest.raises(GeometryError, match=f"sites ({one} and {other}|{other} and {one}) of the loop's start"):
            check_overlap(cell, u, np.array(mine))
    check_overlap(cell, u, np.setdiff1d(everywhere(cell), [one, other]))


@pytest.mark.parametrize("asked", [PLATELET, replace(PLATELET, platelet="remove"), SLIP])
def test_a_loop_elsewhere_is_the_same_loop_moved(asked):
    """Moved by a lattice vector, also across the faces of the cell."""
    here = build(replace(asked, centre=(7.1, 7.3, 7.2)))
    there = build(replace(asked, centre=(12.6, 12.8, 12.7)))
    assert there.n_platelet == here.n_platelet
    size = 14 * A
    x, y = ((starts(cell) - shift) % size % size for cell, shift in ((here, 0.0), (there, 5.5 * A)))
    distance, number = cKDTree(x, boxsize=size).query(y)
    assert distance.max() < 1e-6
    assert len(np.unique(number)) == len(x)


def test_the_tilt_is_the_mean_plastic_distortion_times_its_factor():
    plain, tilted = build(PLATELET), build(replace(PLATELET, tilt=1.0))
    beta = np.outer(plain.loop.burgers_c, plain.loop.normal_c) * plain.loop.area / plain.supercell.volume
    np.testing.assert_allclose(tilted.supercell.cell_cc, plain.supercell.cell_cc @ (np.eye(3) + beta.T), atol=1e-12)
    # a platelet of sites brings its volume
    assert tilted.supercell.volume / tilted.supercell.n_sites == pytest.approx(0.5 * A**3, rel=2e-3)


def test_hexagons_have_a_corner_where_it_is_asked_for():
    for corner in ((1.0, -1.0, 0.0), (1.0, 1.0, -2.0)):
        cell = build(replace(PLATELET, corner=corner))
        along = cell.loop.corner_vc[0] - cell.loop.centre_c
        assert along @ np.array(corner) == pytest.approx(np.linalg.norm(along) * np.linalg.norm(corner))
    along = build(PLATELET).loop.corner_vc[0] - build(PLATELET).loop.centre_c
    np.testing.assert_allclose(np.sort(np.abs(along / np.linalg.norm(along))), [0.0, 0.5**0.5, 0.5**0.5], atol=1e-9)


def test_faulted_loops_of_fcc_are_no_lattice_vector_but_perfect_ones_are():
    perfect = LoopAsked((1, 1, 0), (0.5, 0.5, 0.0), 5.0, "hexagon", "remove")
    assert build(perfect, FCC, (9, 9, 9), ("Cu",)).n_platelet < 0
    with pytest.raises(ConfigError, match=r"is not a lattice vector of fcc.* a shortest one is \[0.0, 0.5, 0.5\]"):
        build(LoopAsked((1, 1, 1), (1 / 3, 1 / 3, 1 / 3), 5.0, "circle", "remove"), FCC, (9, 9, 9), ("Cu",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"burgers": (0.5, 0.5, 0.0)}, "is not a lattice vector of bcc"),
        ({"burgers": (0.0, 0.0, 0.0)}, "is not a lattice vector of bcc"),
        ({"plane": (0, 0, 0)}, "must not be zero"),
        ({"platelet": "none"}, 'must be "insert" or "remove"'),
        ({"plane": (-1, 1, 0)}, 'must be "none"'),
        ({"diameter": 0.2, "centre": (7.3, 7.3, 7.1)}, "its platelet has no sites"),
        ({"diameter": 17.0}, "to its image in this cell"),
        ({"diameter": 40.0}, "to its image in this cell"),
        ({"corner": (2.0, 2.0, 2.0)}, "must not be along the normal"),
    ],
)
def test_loops_that_cannot_be_are_refused_in_one_line(changes, words):
    with pytest.raises(ConfigError) as error:
        build(replace(PLATELET, **changes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_slip_of_no_site_and_flat_lattices_are_refused():
    with pytest.raises(ConfigError, match="slips no sites"):
        build(replace(SLIP, diameter=0.1, centre=(7.27, 7.01, 7.4)))
    with pytest.raises(ConfigError, match="loops need three"):
        build(SLIP, lattice_named("triangular"), (9, 9, 1))


def test_noise_is_that_of_its_seed():
    noisy = replace(SLIP, noise=0.03, seed=3)
    np.testing.assert_array_equal(starts(build(noisy)), starts(build(noisy)))
    off = starts(build(noisy)) - starts(build(SLIP))
    assert 0.025 < np.abs(off).max() <= 0.03
