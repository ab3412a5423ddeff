"""Fields of single dislocations and of periodic arrays: circuits, equilibrium, periods, images."""

import numpy as np
import pytest

from parmlip.crystal.dislocation_field import (
    Core,
    PeriodicArray,
    image_displacement,
    single_displacement,
    single_distortion,
    slip_corrected,
)
from parmlip.crystal.elasticity import full_tensor, stroh
from parmlip.errors import GeometryError
from tests.crystal.test_elasticity import triclinic

C = full_tensor(triclinic(7))
SOLUTION = stroh(C)
B = np.array([1.0, 0.0, 0.4])


def quadrupole(b=B, skew=0.0):
    at = (((2.5, 2.3), 1), ((7.5, 6.3), 1), ((7.5, 2.3), -1), ((2.5, 6.3), -1))
    cores = tuple(Core(x, tuple(s * b)) for x, s in at)
    return PeriodicArray(SOLUTION, cores, np.array([[10.0, 0.0], [skew, 8.0]]))


def dipole(b=B, skew=5.0, dy=0.0):
    cores = (Core((2.5, 4.3), tuple(b)), Core((7.6, 4.3 + dy), tuple(-b)))
    return PeriodicArray(SOLUTION, cores, np.array([[10.0, 0.0], [skew, 8.0]]))


ARRAYS = [quadrupole(), quadrupole(skew=3.0), dipole(), dipole(skew=0.0)]
POINTS = np.random.default_rng(5).uniform(0.0, 8.0, (40, 2))


def circuit(field, centre, radius):
    """Line integral of a distortion around a circle, counter-clockwise."""
    angle = np.linspace(0.0, 2 * np.pi, 720, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tangent = np.stack([-ring[:, 1], ring[:, 0]], axis=1) * radius
    return np.einsum("nij,nj->i", field(np.array(centre) + radius * ring), tangent) * 2 * np.pi / 720


def test_a_circuit_around_a_core_closes_by_its_burgers_vector_and_elsewhere_by_nothing():
    core = Core((0.3, -0.2), tuple(B))
    np.testing.assert_allclose(circuit(lambda x: single_distortion(SOLUTION, core, x), (0.0, 0.0), 2.0), B, atol=1e-12)
    for array in ARRAYS:
        for c in array.cores:
            np.testing.assert_allclose(circuit(array.distortion, c.position, 1.0), c.burgers, atol=1e-12)
        np.testing.assert_allclose(circuit(array.distortion, (5.0, 0.2), 1.0), 0.0, atol=1e-12)


@pytest.mark.parametrize("array", [*ARRAYS, dipole(dy=0.7)])
def test_distortions_are_compatible_the_derivatives_of_displacements_and_in_equilibrium(array):
    h = 1e-4

    def along(f, x, c):
        return (f(x + h * np.eye(2)[c]) - f(x - h * np.eye(2)[c])) / (2 * h)

    d = array.distortion(POINTS)
    far = np.min([np.abs(POINTS[:, 1] - c.position[1]) for c in array.cores], axis=0) > 10 * h
    for c in (0, 1):
        np.testing.assert_allclose(along(array.displacement, POINTS, c)[far], d[far, :, c], atol=1e-5 * np.abs(d).max())
    curl = along(array.distortion, POINTS, 0)[:, :, 1] - along(array.distortion, POINTS, 1)[:, :, 0]
    scale = np.abs(along(array.distortion, POINTS, 0)).max()
    assert np.abs(curl).max() < 1e-4 * scale

    def stress(x):
        full = np.zeros((len(x), 3, 3))
        full[:, :, :2] = array.distortion(x)
        return np.einsum("ijkl,nkl->nij", C, full)

    force = along(stress, POINTS, 0)[:, :, 0] + along(stress, POINTS, 1)[:, :, 1]
    assert np.abs(force).max() < 1e-4 * scale * np.abs(C).max()


@pytest.mark.parametrize("array", ARRAYS)
def test_displacements_repeat_with_both_periods(array):
    u = array.displacement(POINTS)
    for shift in array.vectors_kc:
        np.testing.assert_allclose(array.displacement(POINTS + shift), u, atol=1e-11)
        np.testing.assert_allclose(array.displacement(POINTS - 2 * shift), u, atol=1e-11)


def test_cores_on_different_lines_repeat_up_to_burgers_vectors():
    array = dipole(dy=0.7)
    for shift in array.vectors_kc:
        jumps = (array.displacement(POINTS + shift) - array.displacement(POINTS)) @ B / (B @ B)
        np.testing.assert_allclose(jumps, np.rint(jumps), atol=1e-10)


def test_the_cut_is_exactly_the_segment_between_the_cores():
    array = dipole(skew=0.0)
    x = np.linspace(0.05, 9.95, 200)
    above, below = (array.displacement(np.stack([x, np.full(200, 4.3 + s * 1e-9)], axis=1)) for s in (1, -1))
    between = (x > 2.5) & (x < 7.6)
    np.testing.assert_allclose((above - below)[~between], 0.0, atol=1e-6)
    np.testing.assert_allclose((above - below)[between], np.broadcast_to(-B, (between.sum(), 3)), atol=1e-6)


@pytest.mark.parametrize("array", [*ARRAYS, dipole(dy=0.7), dipole(skew=0.0, dy=-0.9)])
def test_with_the_tilt_the_mean_elastic_distortion_vanishes(array):
    # the cell's mean, by line integrals along both periods at heights and places between the singularities
    n = 400
    mean = np.zeros((3, 2))
    s, starts = (np.arange(n) + 0.5) / n, (np.arange(40) + 0.37) / 40  # no core is hit
    for k, vector in enumerate(array.vectors_kc):
        points = (starts[:, None, None] * array.vectors_kc[1 - k] + s[None, :, None] * vector).reshape(-1, 2)
        mean[:, k] = np.einsum("nij,j->i", array.distortion(points), vector) / len(points)
    # the strips between the rows of cores are unequal: sampled at 40 places, exact to 1/40 of b for each jump
    np.testing.assert_allclose(mean + array.tilt.T, 0.0, atol=2.5 / 40)
    assert np.abs(array.tilt).max() > 0.3 or len(array.cores) == 4


def test_the_image_sum_agrees_with_an_error_that_falls_as_the_square():
    array, errors = quadrupole(), []
    u = array.displacement(POINTS)
    for n in (3, 6, 12):
        difference = image_displacement(array, POINTS, n) - u
        difference -= difference[0]
        difference -= np.outer(np.rint(difference @ B / (B @ B)), B)
        errors.append(np.abs(difference).max())
    slopes = np.diff(np.log(errors)) / np.diff(np.log([3.5, 6.5, 12.5]))
    assert errors[-1] < 1e-3
    assert (np.abs(slopes + 2.0) < 0.3).all(), slopes


def test_a_core_alone_is_what_the_array_is_near_it():
    array = quadrupole()
    core = array.cores[0]
    near = np.array(core.position) + 0.01 * np.array([[1.0, 0.2], [-0.5, 0.6], [0.3, -0.8]])
    difference = array.distortion(near) - single_distortion(SOLUTION, core, near)
    assert np.abs(difference).max() < 5e-3 * np.abs(array.distortion(near)).max()
    one = single_displacement(SOLUTION, core, near) - array.displacement(near)
    one -= one[0]
    one -= np.outer(np.rint(one @ B / (B @ B)), B)  # their cuts are on different sides
    assert np.abs(one).max() < 1e-4


def test_arrays_with_a_net_burgers_vector_or_an_odd_frame_are_refused():
    with pytest.raises(GeometryError, match="add up to zero"):
        PeriodicArray(SOLUTION, (Core((0.0, 0.0), (1.0, 0.0, 0.0)),), np.diag([5.0, 5.0]))
    with pytest.raises(GeometryError, match="along x"):
        PeriodicArray(SOLUTION, dipole().cores, np.array([[5.0, 1.0], [0.0, 5.0]]))


def test_with_the_slip_corrected_predictor_the_slipped_lattice_goes_on_across_the_cut():
    """Deformed places of a row just above the cut, and of sites just below that have slipped into its continuation."""
    core, eps = Core((0.3, 0.0), tuple(B)), 1e-7
    x = 0.3 + np.linspace(12.0, 60.0, 30)
    above = np.stack([x, np.full(30, eps)], axis=1)
    below = above - np.array([B[0], 2 * eps])

    def gap(field):
        y_above, y_below = (np.pad(at, ((0, 0), (0, 1))) + field(at) for at in (above, below))
        difference = y_below - y_above
        difference[:, 2] -= B[2]  # a period along the line
        return np.abs(difference).max(axis=1)

    assert gap(lambda at: slip_corrected(SOLUTION, core, at, 8.0)).max() < 5 * eps
    # without the correction the row is off by the change of the field over one Burgers vector, b^2 / r
    plain = gap(lambda at: single_displacement(SOLUTION, core, at) + np.outer(at[:, 1] < 0, B))
    assert plain.min() > 1e-4
    assert np.polyfit(np.log(x), np.log(plain), 1)[0] == pytest.approx(-1.0, abs=0.1)


def test_the_slip_corrected_predictor_differs_from_the_field_by_what_decays_and_has_its_burgers_vector():
    core = Core((0.0, 0.0), tuple(B))
    angle = np.linspace(1e-9, 2 * np.pi - 1e-9, 400)
    steps = []
    for radius in (20.0, 200.0):
        ring = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        u = slip_corrected(SOLUTION, core, ring, 8.0)
        np.testing.assert_allclose(u[-1] - u[0], B, atol=0.6 * B[0] ** 2 / radius)
        plain = single_displacement(SOLUTION, core, ring)
        off = np.diff(u, axis=0) - np.diff(plain, axis=0)
        steps.append(np.abs(off - np.outer(np.rint(off @ B / (B @ B)), B)).max())
    assert steps[1] < 0.2 * steps[0]
    screw = Core((0.0, 0.0), (0.0, 0.0, 0.7))  # without a part in the plane there is nothing to correct
    u = slip_corrected(SOLUTION, screw, POINTS, 8.0) - single_displacement(SOLUTION, screw, POINTS)
    np.testing.assert_allclose(u - u[0], 0.0, atol=1e-12)


def test_slip_corrections_that_are_not_one_to_one_are_refused():
    with pytest.raises(GeometryError, match="radius above"):
        slip_corrected(SOLUTION, Core((0.0, 0.0), tuple(B)), POINTS, 2.0)
    with pytest.raises(GeometryError, match="y component"):
        slip_corrected(SOLUTION, Core((0.0, 0.0), (1.0, 0.5, 0.0)), POINTS, 20.0)
