"""Elastic constants in any frame, and the solutions of the plane problem."""

import json
from pathlib import Path

import numpy as np
import pytest

from parmlip.crystal.dislocation_field import Core, single_displacement, single_distortion
from parmlip.crystal.elasticity import full_tensor, isotropic, rotated, stroh, voigt_matrix
from parmlip.errors import GeometryError

ORACLE = json.loads((Path(__file__).parent.parent / "data" / "stroh_oracle.json").read_text())["cases"]


def cubic(c11, c12, c44):
    c_vv = np.zeros((6, 6))
    c_vv[:3, :3] = c12
    c_vv[range(6), range(6)] = [c11] * 3 + [c44] * 3
    return c_vv


def frame(rows):
    axes = np.array(rows, dtype=float)
    return axes / np.linalg.norm(axes, axis=1)[:, None]


def triclinic(seed=4):
    root = np.random.default_rng(seed).uniform(-1.0, 1.0, (6, 6))
    return root @ root.T + 2.0 * np.eye(6)


def test_matrix_and_tensor_are_the_same_constants():
    c_vv = triclinic()
    np.testing.assert_allclose(voigt_matrix(full_tensor(c_vv)), c_vv, rtol=1e-15)
    strain = np.random.default_rng(1).normal(size=(3, 3))
    strain = strain + strain.T
    voigt = np.array(
        [strain[0, 0], strain[1, 1], strain[2, 2], *(2 * np.array([strain[1, 2], strain[0, 2], strain[0, 1]]))]
    )
    assert np.einsum("ij,ijkl,kl", strain, full_tensor(c_vv), strain) == pytest.approx(voigt @ c_vv @ voigt, rel=1e-13)


def test_turning_back_gives_the_constants_again_and_a_cubic_crystal_keeps_them_under_its_own_rotations():
    axes = frame([[1, 1, -2], [-1, 1, 0], [1, 1, 1]])
    c = full_tensor(triclinic())
    np.testing.assert_allclose(rotated(rotated(c, axes), axes.T), c, atol=1e-13)
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    c = full_tensor(cubic(5.0, 2.0, 1.3))
    np.testing.assert_allclose(rotated(c, quarter), c, atol=1e-14)
    assert not np.allclose(rotated(c, axes), c, atol=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_the_solutions_are_orthonormal_and_complete(seed):
    found = stroh(full_tensor(triclinic(seed)))
    assert (found.p_a.imag > 0.0).all()
    product = found.A_ia.T @ found.L_ia
    np.testing.assert_allclose(product + product.T, np.eye(3), atol=1e-11)
    np.testing.assert_allclose(2.0 * (found.A_ia @ found.L_ia.T).real, np.eye(3), atol=1e-11)


@pytest.mark.parametrize("name", ORACLE)
def test_displacements_are_those_of_atomman(name):
    case = ORACLE[name]
    found = stroh(rotated(full_tensor(cubic(*case["C"])), frame(case["axes"])))
    burgers, points = np.array(case["burgers"]), np.array(case["points"])
    u = single_displacement(found, Core((0.0, 0.0), tuple(burgers)), points)
    difference = u - np.array(case["displacement"])
    difference -= difference[0]  # a constant is free, and so is on which side of the cut a point is
    cut = np.rint(difference @ burgers / (burgers @ burgers))
    # relative to the displacements of several b; the roots of tungsten nearly coincide, which costs two digits
    assert np.abs(difference - cut[:, None] * burgers).max() < 1e-12


def test_an_isotropic_screw_is_the_angle_and_an_isotropic_edge_has_its_closed_strains():
    mu, nu, b = 1.3, 0.29, 2.0
    found = stroh(full_tensor(isotropic(mu, nu)))
    x = np.random.default_rng(2).uniform(-9.0, 9.0, (50, 2))
    screw = single_displacement(found, Core((0.0, 0.0), (0.0, 0.0, b)), x)
    # the parted roots leave 1e-6 of the field
    assert np.abs(screw[:, 2] - b * np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi)).max() < 1e-5
    assert np.abs(screw[:, :2]).max() < 1e-5
    d = single_distortion(found, Core((0.0, 0.0), (b, 0.0, 0.0)), x)
    px, py = x.T
    r2 = px**2 + py**2
    k = b / (4 * np.pi * (1 - nu))
    e_xx = -k * py * ((3 - 2 * nu) * px**2 + (1 - 2 * nu) * py**2) / r2**2
    e_yy = k * py * ((1 + 2 * nu) * px**2 - (1 - 2 * nu) * py**2) / r2**2
    e_xy = 0.5 * 2 * k * px * (px**2 - py**2) / r2**2
    scale = np.abs(e_xx).max()
    assert np.abs(d[:, 0, 0] - e_xx).max() < 1e-4 * scale
    assert np.abs(d[:, 1, 1] - e_yy).max() < 1e-4 * scale
    assert np.abs(0.5 * (d[:, 0, 1] + d[:, 1, 0]) - e_xy).max() < 1e-4 * scale


def test_the_energy_factor_is_the_isotropic_one_and_the_stored_energy_of_a_ring():
    mu, nu, b = 1.3, 0.29, 2.0
    found = stroh(full_tensor(isotropic(mu, nu)))
    assert found.energy_factor((0.0, 0.0, b)) == pytest.approx(mu * b**2 / (4 * np.pi), rel=1e-4)
    assert found.energy_factor((b, 0.0, 0.0)) == pytest.approx(mu * b**2 / (4 * np.pi * (1 - nu)), rel=1e-4)
    c = full_tensor(triclinic())
    found = stroh(c)
    burgers = (1.0, 0.3, -0.7)
    angle = np.linspace(0.0, 2 * np.pi, 400, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    d = np.zeros((400, 3, 3))
    d[:, :, :2] = single_distortion(found, Core((0.0, 0.0), burgers), ring)
    density = 0.5 * np.einsum("nij,ijkl,nkl->n", d, c, d)
    assert density.mean() * 2 * np.pi == pytest.approx(found.energy_factor(burgers), rel=1e-9)


def test_unstable_constants_and_odd_matrices_are_refused():
    with pytest.raises(GeometryError, match="not positive definite"):
        stroh(full_tensor(cubic(1.0, 2.0, 1.0)))
    with pytest.raises(GeometryError, match="symmetric"):
        full_tensor(np.triu(np.ones((6, 6))))
