"""Elastic constants as matrices and tensors, in any frame, and the plane problem of anisotropic elasticity (Stroh)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parmlip.errors import GeometryError

RealArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Voigt order: xx yy zz yz xz xy.
_VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_DEGENERATE: Final = 1e-6  # relative change of the constants that parts equal roots
_SIMPLE: Final = 1e-4  # roots nearer than this are taken to be equal
_COMPLETE: Final = 1e-6  # largest error of the completeness relations


def full_tensor(c_vv: ArrayLike) -> RealArray:
    """c_ijkl (3, 3, 3, 3) of a stiffness matrix (6, 6) in Voigt order; the same unit."""
    matrix = np.asarray(c_vv, dtype=float)
    if matrix.shape != (6, 6) or not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-8 * np.abs(matrix).max()):
        raise GeometryError(f"a stiffness matrix is symmetric with the shape (6, 6), not {matrix.shape}")
    place = np.zeros((3, 3), dtype=np.int64)
    for v, (i, j) in enumerate(_VOIGT):
        place[i, j] = place[j, i] = v
    return np.asarray(matrix[place[:, :, None, None], place[None, None, :, :]])


def voigt_matrix(c_ijkl: RealArray) -> RealArray:
    """The stiffness matrix (6, 6) of a tensor with the symmetries of elastic constants."""
    i, j = np.array(_VOIGT).T
    return np.asarray(c_ijkl[i[:, None], j[:, None], i[None, :], j[None, :]])


def rotated(c_ijkl: RealArray, axes_cc: RealArray) -> RealArray:
    """The tensor's components along new axes, which are the rows of `axes_cc` (orthonormal)."""
    return np.asarray(np.einsum("ai,bj,ck,dl,ijkl->abcd", *4 * (axes_cc,), c_ijkl, optimize=True))


def isotropic(shear: float, poisson: float) -> RealArray:
    """Stiffness matrix (6, 6) of an isotropic solid."""
    lame = 2.0 * shear * poisson / (1.0 - 2.0 * poisson)
    c_vv = np.zeros((6, 6))
    c_vv[:3, :3] = lame
    c_vv[range(6), range(6)] += [2.0 * shear] * 3 + [shear] * 3
    return c_vv


@dataclass(frozen=True, eq=False)
class Stroh:
    """Solutions u = A_a f(x + p_a y) of the equations of equilibrium that do not depend on z, one for each a = 1, 2, 3.

    Normalised to 2 A_a . L_a = 1. The three others are their complex conjugates.
    """

    p_a: ComplexArray  # (3,) roots with Im p > 0
    A_ia: ComplexArray  # (3, 3) displacement, one column for each root
    L_ia: ComplexArray  # (3, 3) stress function

    def strengths(self, burgers_c: ArrayLike) -> ComplexArray:
        """Columns A_a (L_a . b), (3, 3), of u = (1/pi) Im sum_a A_a (L_a . b) ln(x + p_a y); angstrom."""
        return self.A_ia * (np.asarray(burgers_c, dtype=float) @ self.L_ia)[None, :]

    def energy_factor(self, burgers_c: ArrayLike) -> float:
        """K b^2 / (4 pi): energy per length of a dislocation and unit of ln(R / r), in the unit of c times length^2."""
        b_c = np.asarray(burgers_c, dtype=float)
        return float((-2j * (self.L_ia @ self.L_ia.T)).real @ b_c @ b_c / (4.0 * np.pi))


def stroh(c_ijkl: RealArray) -> Stroh:
    """The roots and vectors of elastic constants in the frame of the dislocation (line along z).

    Roots that are equal, as an isotropic solid has them, are parted by a change of the constants of 1e-6, which the
    field then bears.

    Raises
    ------
    GeometryError
        The constants are not those of a stable solid.

    References
    ----------
    Stroh, Phil. Mag. 3, 625 (1958); Anderson, Hirth, Lothe, Theory of Dislocations (2017), sec. 13-7.
    """
    lowest = float(np.linalg.eigvalsh(voigt_matrix(c_ijkl))[0])
    if lowest <= 0.0:
        raise GeometryError(f"elastic constants are not positive definite: lowest eigenvalue {lowest:.6g}")
    found = _solutions(c_ijkl)
    apart = [abs(found.p_a[a] - found.p_a[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    if min(apart) < _SIMPLE or _incompleteness(found) > _COMPLETE:
        found = _solutions(c_ijkl + _DEGENERATE * _anisotropy(c_ijkl))
    worst = _incompleteness(found)
    if not worst < _COMPLETE:
        raise GeometryError(f"elastic constants have equal roots: the solutions are complete to {worst:.1e} only")
    return found


def _anisotropy(c_ijkl: RealArray) -> RealArray:
    """A fixed stiffness without symmetry, of the size of the constants."""
    root_vv = np.random.default_rng(1).uniform(-1.0, 1.0, (6, 6))
    return full_tensor(root_vv @ root_vv.T) * float(np.abs(c_ijkl).max())


def _solutions(c_ijkl: RealArray) -> Stroh:
    """Eigenvectors of N = [[-T^-1 R^t, T^-1], [R T^-1 R^t - Q, -R T^-1]], Q = c_i1k1, R = c_i1k2, T = c_i2k2."""
    q, r, t = c_ijkl[:, 0, :, 0], c_ijkl[:, 0, :, 1], c_ijkl[:, 1, :, 1]
    inverse = np.linalg.inv(t)
    n = np.block([[-inverse @ r.T, inverse], [r @ inverse @ r.T - q, -r @ inverse]])
    # Lengths and stresses in units in which both halves are of order one.
    scale = float(np.abs(t).max())
    balance = np.concatenate([np.ones(3), np.full(3, scale)])
    value, vector = np.linalg.eig(n * balance[None, :] / balance[:, None])
    vector = vector * balance[:, None]
    up = np.argsort(-value.imag, kind="stable")[:3]
    up = up[np.lexsort((np.round(value[up].imag, 9), np.round(value[up].real, 9)))]
    A_ia, L_ia = vector[:3, up], vector[3:, up]
    norm_a = np.sqrt(2.0 * np.einsum("ia,ia->a", A_ia, L_ia))
    return Stroh(value[up], A_ia / norm_a, L_ia / norm_a)


def _incompleteness(s: Stroh) -> float:
    """Largest error of sum_a (A_a L_a + c.c.) = 1 and of sum_a (A_a A_a + c.c.) = 0 = sum_a (L_a L_a + c.c.)."""
    size = float(np.abs(s.L_ia).max() / np.abs(s.A_ia).max())
    errors = (
        2.0 * (s.A_ia @ s.L_ia.T).real - np.eye(3),
        2.0 * (s.A_ia @ s.A_ia.T).real * size,
        2.0 * (s.L_ia @ s.L_ia.T).real / size,
    )
    worst = max(float(np.abs(e).max()) for e in errors)
    return worst if np.isfinite(worst) else np.inf
