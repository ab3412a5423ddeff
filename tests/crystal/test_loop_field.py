"""The displacement of dislocation loops in isotropic elasticity."""

import numpy as np
import pytest

from parmlip.crystal.elasticity import full_tensor, isotropic
from parmlip.crystal.loop_field import (
    Loop,
    PeriodicLoop,
    _add_images,
    _solid_angle,
    average_poisson,
    regular_loop,
)

NU = 0.28
NORMAL = np.array([1.0, 1.0, 1.0]) / np.sqrt(3.0)
BURGERS = np.array([1.0, 0.3, -0.5])


def some_loop(shape="circle", diameter=2.0, centre=(0.3, 0.2, 0.1), burgers=BURGERS):
    return regular_loop(centre, NORMAL, (1.0, -1.0, 0.0), diameter, shape, burgers)


def loop_displacement(loop, poisson, x_nc):
    """Of one loop in an infinite solid, by Burgers' formula however far."""
    u_nc = np.zeros((len(x_nc), 3))
    _add_images(loop, poisson, np.zeros((1, 3)), np.inf, x_nc, u_nc)
    return u_nc


def solid_angle(loop, x_c):
    return _solid_angle(*x_c, loop.corner_vc, loop.centre_c)


def dipole_displacement(loop, poisson, x_nc):
    """Of a loop of vanishing size with the same area: -P_jk dG_ij/dx_k, P_jk = C_jklm b_l n_m A."""
    off_nc = x_nc - loop.centre_c
    r_n = np.linalg.norm(off_nc, axis=1)
    e_nc, b, n = off_nc / r_n[:, None], loop.burgers_c, loop.normal_c
    be, ne = e_nc @ b, e_nc @ n
    soft_nc = np.outer(ne, b) + np.outer(be, n) - (b @ n) * e_nc
    u_nc = (1.0 - 2.0 * poisson) * soft_nc + 3.0 * (be * ne)[:, None] * e_nc
    return loop.area / (8.0 * np.pi * (1.0 - poisson)) * u_nc / (r_n**2)[:, None]


def directions(n, seed=0):
    e = np.random.default_rng(seed).normal(size=(n, 3))
    return e / np.linalg.norm(e, axis=1)[:, None]


def test_circles_have_their_area_and_hexagons_their_corners():
    assert some_loop(diameter=8.0).area == pytest.approx(np.pi * 16.0, rel=1e-12)
    hexagon = some_loop("hexagon", 8.0)
    assert hexagon.area == pytest.approx(1.5 * np.sqrt(3.0) * 16.0, rel=1e-12)
    assert hexagon.length == pytest.approx(24.0, rel=1e-12)
    assert hexagon.radius == pytest.approx(4.0, rel=1e-12)


@pytest.mark.parametrize(("a", "b", "h"), [(1.0, 1.0, 0.5), (2.0, 0.7, 1.3), (0.4, 3.0, 6.0)])
def test_the_solid_angle_of_a_rectangle_is_the_closed_form(a, b, h):
    corners = np.array([[a, b, 0.0], [-a, b, 0.0], [-a, -b, 0.0], [a, -b, 0.0]])
    loop = Loop(corners, np.array([0.0, 0.0, 1.0]), BURGERS)
    due = 4.0 * np.arctan(a * b / (h * np.sqrt(a * a + b * b + h * h)))
    assert solid_angle(loop, (0.0, 0.0, h)) == pytest.approx(-due, rel=1e-12)
    assert solid_angle(loop, (0.0, 0.0, -h)) == pytest.approx(due, rel=1e-12)


def test_the_solid_angle_of_a_circle_is_that_of_its_cone_as_far_as_its_polygon_goes():
    loop = some_loop()
    for h in (1.0, 3.0):
        due = 2.0 * np.pi * (1.0 - h / np.sqrt(h * h + 1.0))
        assert solid_angle(loop, loop.centre_c + h * NORMAL) == pytest.approx(-due, rel=1e-3)


def test_the_displacement_jumps_by_the_burgers_vector_across_the_loop_and_nowhere_else():
    loop, step = some_loop("hexagon"), 1e-7 * NORMAL
    inside = loop.centre_c + 0.4 * (loop.corner_vc - loop.centre_c)
    outside = loop.centre_c + 1.3 * (loop.corner_vc - loop.centre_c)
    above, below = (loop_displacement(loop, NU, inside + s * step) for s in (1, -1))
    np.testing.assert_allclose(above - below, np.tile(BURGERS, (6, 1)), atol=1e-5)
    above, below = (loop_displacement(loop, NU, outside + s * step) for s in (1, -1))
    np.testing.assert_allclose(above, below, atol=1e-5)


def test_the_displacement_is_in_equilibrium_away_from_the_line():
    """(1 - 2 nu) Laplace u + grad div u = 0, by differences of second order."""
    loop, errors = some_loop(), []
    x = loop.centre_c + 1.8 * directions(20)
    for h in (0.02, 0.01):
        second = np.empty((20, 3, 3, 3))
        eye = h * np.eye(3)
        for i in range(3):
            for j in range(3):
                parts = [
                    si * sj * loop_displacement(loop, NU, x + si * eye[i] + sj * eye[j])
                    for si in (1, -1)
                    for sj in (1, -1)
                ]
                second[:, i, j] = np.sum(parts, axis=0) / (4.0 * h * h)
        residual = (1.0 - 2.0 * NU) * np.einsum("niic->nc", second) + np.einsum("nici->nc", second)
        errors.append(np.abs(residual).max() / np.abs(second).max())
    assert errors[1] < 1e-3
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_a_loop_is_the_sum_of_two_that_share_a_side():
    whole, x = some_loop("hexagon"), 2.0 * directions(30)
    halves = [Loop(whole.corner_vc[part], NORMAL, BURGERS) for part in ([0, 1, 2, 3], [3, 4, 5, 0])]
    total = sum(loop_displacement(half, NU, x) for half in halves)
    np.testing.assert_allclose(total, loop_displacement(whole, NU, x), atol=1e-12)


def test_the_far_field_is_that_of_the_dipole_tensor():
    """-P_jk dG_ij/dx_k with Kelvin's solution G and P = C : b n A; the difference falls as (radius / distance)^2."""
    shear = 1.3
    loop = some_loop()
    c = full_tensor(isotropic(shear, NU))
    dipole = np.einsum("jklm,l,m->jk", c, BURGERS, NORMAL) * loop.area

    def kelvin(r):
        size = np.linalg.norm(r)
        outer = np.outer(r, r) / size**2
        return ((3.0 - 4.0 * NU) * np.eye(3) + outer) / (16.0 * np.pi * shear * (1.0 - NU) * size)

    e, errors = directions(10), []
    for distance in (10.0, 20.0):
        for direction in e:
            r, h = distance * direction, 1e-4 * distance
            slope = np.stack([(kelvin(r + h * k) - kelvin(r - h * k)) / (2.0 * h) for k in np.eye(3)], axis=-1)
            due = -np.einsum("ijk,jk->i", slope, dipole)
            got = dipole_displacement(loop, NU, (loop.centre_c + r)[None])[0]
            np.testing.assert_allclose(got, due, atol=1e-6 * np.abs(due).max())
        x = loop.centre_c + distance * e
        far = dipole_displacement(loop, NU, x)
        errors.append(np.abs(loop_displacement(loop, NU, x) - far).max() / np.abs(far).max())
    assert errors[1] < 1e-2
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_far_images_as_seven_points_keep_the_moments_of_the_loop():
    for shape in ("circle", "hexagon"):
        loop = some_loop(shape, centre=(0.0, 0.0, 0.0))
        cell = np.eye(3) * 30.0  # the nearest image is far; the cell's own loop is farther than four radii, too
        x = np.array([[9.0, 3.0, -2.0], [-8.0, 1.0, 9.0]])
        periodic = PeriodicLoop(loop, cell, NU, n_images=0)
        got = periodic.displacement(x) + np.array(x @ np.linalg.inv(cell)) @ periodic.gain()
        np.testing.assert_allclose(got, loop_displacement(loop, NU, x), atol=2e-8)


SKEWED = np.array([[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [0.5, -1.0, 10.0]])


def test_the_periodic_displacement_does_not_see_whole_cells():
    x = np.random.default_rng(1).uniform(0.0, 9.0, (40, 3))
    field = PeriodicLoop(some_loop(), SKEWED, NU)
    u = field.displacement(x)
    np.testing.assert_allclose(field.displacement(x + SKEWED[0] - 2.0 * SKEWED[2]), u, atol=1e-12)
    moved = PeriodicLoop(some_loop(centre=np.array([0.3, 0.2, 0.1]) + SKEWED[1]), SKEWED, NU)
    np.testing.assert_allclose(moved.displacement(x), u, atol=1e-12)
    off = np.array([0.7, -1.1, 2.3])
    along = PeriodicLoop(some_loop(centre=np.array([0.3, 0.2, 0.1]) + off), SKEWED, NU)
    np.testing.assert_allclose(along.displacement(x + off), u, atol=1e-12)


def test_sums_over_images_converge_as_the_square_of_their_number():
    x = np.random.default_rng(2).uniform(-4.0, 4.0, (60, 3))
    loop, cell = some_loop(centre=(0.0, 0.0, 0.0)), np.eye(3) * 9.0
    last = PeriodicLoop(loop, cell, NU, 14).displacement(x)

    def error(n):
        off = PeriodicLoop(loop, cell, NU, n).displacement(x) - last
        return np.sqrt(np.mean((off - off.mean(axis=0)) ** 2))

    n = np.array([2.0, 3.0, 4.0, 5.0])
    slope = np.polyfit(np.log(n + 0.5), np.log([error(int(k)) for k in n]), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.35)  # the last is no limit: it steepens
    assert error(2) < 2e-4 * np.linalg.norm(BURGERS)


def test_the_displacement_is_continuous_across_the_faces_of_the_cell_as_images_are_added():
    loop, rng = some_loop(centre=(0.0, 0.0, 0.0)), np.random.default_rng(3)
    cell = np.eye(3) * 9.0
    x = rng.uniform(-4.5, 4.5, (200, 3))
    x[:, 0] = 4.5
    jumps = []
    for n in (1, 2, 4):
        field = PeriodicLoop(loop, cell, NU, n)
        jump = field.displacement(x + [1e-9, 0.0, 0.0]) - field.displacement(x - [1e-9, 0.0, 0.0])
        jumps.append(np.sqrt(np.mean(jump**2)))
    slope = np.polyfit(np.log([1.5, 2.5, 4.5]), np.log(jumps), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.15)
    assert jumps[1] < 1e-4


def test_the_periodic_displacement_is_that_of_a_fourier_series():
    """Small loops are dipoles: u = sum_k G(k) P ik / V, smoothed by Gaussians whose width is taken to zero."""
    size, shear = 9.0, 1.0
    loop = some_loop(diameter=0.2, centre=(0.0, 0.0, 0.0))
    dipole = np.einsum("jklm,l,m->jk", full_tensor(isotropic(shear, NU)), BURGERS, NORMAL) * loop.area
    x = np.array([[3.0, 1.0, 0.5], [-2.0, 2.5, 1.0], [0.3, -4.0, 3.0], [4.0, 4.1, -3.7]])
    ring = np.arange(-26, 27)
    k = 2.0 * np.pi / size * np.stack(np.meshgrid(ring, ring, ring, indexing="ij"), -1).reshape(-1, 3)
    k = k[np.linalg.norm(k, axis=1) > 0.0]
    square = np.sum(k * k, axis=1)
    # G(k) = (1 - k k / (2 (1 - nu) k^2)) / (mu k^2); the force density is -P_jm d_m delta
    force = k @ dipole.T
    response = (force - k * (np.sum(k * force, axis=1) / (2.0 * (1.0 - NU) * square))[:, None]) / (
        shear * square[:, None]
    )

    def smoothed(width):
        window = np.exp(-0.5 * width**2 * square)
        return np.sin(x @ k.T) @ (response * window[:, None]) / size**3

    due = (4.0 * smoothed(0.4) - smoothed(0.8)) / 3.0
    got = PeriodicLoop(loop, size * np.eye(3), NU, 8).displacement(x)
    np.testing.assert_allclose(got, due, atol=0.01 * np.abs(due).max())


def test_the_tilt_is_the_mean_plastic_distortion():
    field = PeriodicLoop(some_loop(), SKEWED, NU)
    np.testing.assert_allclose(
        field.tilt * abs(np.linalg.det(SKEWED)), np.outer(BURGERS, NORMAL) * field.loop.area, rtol=1e-12
    )


def test_the_average_of_an_isotropic_solid_is_itself():
    assert average_poisson(full_tensor(isotropic(1.7, 0.31))) == pytest.approx(0.31, abs=1e-12)
