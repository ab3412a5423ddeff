"""Displacement of dislocation loops in isotropic elasticity: one alone (Burgers' formula), and repeated periodically.

A loop bounds a flat polygon S with the normal n; its vertices go round n counter-clockwise. Across S the displacement
jumps by the Burgers vector: u(above) - u(below) = b. Only Poisson's ratio enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin, sqrt
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from parmlip.crystal.elasticity import RealArray
from parmlip.errors import GeometryError

IMAGES: Final = (
    2  # rings of images: the error, which falls as their number squared, is 1e-3 b in a cell of two diameters
)
_FAR: Final = 4.0  # radii: farther loops are seven points that have their moments up to the fifth, exact to 4e-6 b
_SIDES: Final = {"circle": 24, "hexagon": 6}
_FACE: Final = 8  # Gauss points along each side of a face, over which the gain of a sum of images is measured


@dataclass(frozen=True, eq=False)
class Loop:
    """A flat dislocation loop."""

    corner_vc: RealArray  # (n_vertices, 3) angstrom, counter-clockwise about the normal
    normal_c: RealArray  # (3,) unit vector
    burgers_c: RealArray  # (3,) angstrom: u above minus u below

    @property
    def centre_c(self) -> RealArray:
        """Mean of the corners, (3,), angstrom."""
        return np.asarray(self.corner_vc.mean(axis=0))

    @property
    def area(self) -> float:
        """Angstrom^2."""
        off = self.corner_vc - self.centre_c
        return float(0.5 * np.cross(off, np.roll(off, -1, axis=0)).sum(axis=0) @ self.normal_c)

    @property
    def length(self) -> float:
        """Of the line, angstrom."""
        return float(np.linalg.norm(np.roll(self.corner_vc, -1, axis=0) - self.corner_vc, axis=1).sum())

    @property
    def radius(self) -> float:
        """Largest distance of a corner from the centre, angstrom."""
        return float(np.linalg.norm(self.corner_vc - self.centre_c, axis=1).max())

    def contains(self, x_nc: RealArray) -> NDArray[np.bool_]:
        """Whether points (n, 3) lie over or under S, seen along the normal (convex S)."""
        off_vc = np.roll(self.corner_vc, -1, axis=0) - self.corner_vc
        inward_vc = np.cross(self.normal_c, off_vc)
        return np.asarray((x_nc @ inward_vc.T - np.sum(inward_vc * self.corner_vc, axis=1) > 0.0).all(axis=1))


def regular_loop(
    centre_c: ArrayLike, normal_c: ArrayLike, corner_c: ArrayLike, diameter: float, shape: str, burgers_c: ArrayLike
) -> Loop:
    """A loop round `centre_c` with a corner along `corner_c`.

    A circle is a polygon of 24 sides with the circle's area; the diameter of a hexagon is that of the circle through
    its corners. Lengths in angstrom.
    """
    n_c = np.asarray(normal_c, dtype=float) / np.linalg.norm(normal_c)
    e1 = np.asarray(corner_c, dtype=float) - (np.asarray(corner_c, dtype=float) @ n_c) * n_c
    e1 /= np.linalg.norm(e1)
    e2 = np.cross(n_c, e1)
    sides = _SIDES[shape]
    radius = 0.5 * diameter
    if shape == "circle":
        radius *= sqrt(2.0 * pi / sides / sin(2.0 * pi / sides))
    angle_v = 2.0 * pi * np.arange(sides) / sides
    corner_vc = np.asarray(centre_c, dtype=float) + radius * (
        np.outer(np.cos(angle_v), e1) + np.outer(np.sin(angle_v), e2)
    )
    return Loop(corner_vc, n_c, np.asarray(burgers_c, dtype=float))


@dataclass(frozen=True, eq=False)
class PeriodicLoop:
    """A loop repeated along the vectors of a cell, and its periodic displacement.

    The sum over images, near ones by Burgers' formula, far ones as points, less the linear function by which it is not
    periodic (the mean over faces of what it gains along each vector): the mean distortion of the cell is then zero.
    The mean plastic distortion b n A / V is left as an elastic one; `tilt` takes it away.

    References
    ----------
    Cai, Bulatov, Chang, Li, Yip, Phil. Mag. 83, 539 (2003), for the linear term.
    """

    loop: Loop
    cell_cc: RealArray  # (3, 3) rows are the periods, angstrom
    poisson: float
    n_images: int = IMAGES

    @property
    def shift_sc(self) -> RealArray:
        """Shifts of the images, (n, 3), angstrom."""
        ring = np.arange(-self.n_images, self.n_images + 1)
        index_sc = np.stack(np.meshgrid(ring, ring, ring, indexing="ij"), axis=-1).reshape(-1, 3)
        return np.asarray(index_sc @ self.cell_cc)

    @property
    def tilt(self) -> RealArray:
        """Distortion b_i n_j A / V, (3, 3), of the cell with which the mean elastic distortion vanishes."""
        volume = abs(float(np.linalg.det(self.cell_cc)))
        return np.outer(self.loop.burgers_c, self.loop.normal_c) * self.loop.area / volume

    def gain(self) -> RealArray:
        """What the sum over images gains along each cell vector, (3, 3), rows by vector; angstrom. Local.

        The jump of faces that cut a loop does not count, since faces are taken half a cell from its centre.
        """
        point_q, weight_q = np.polynomial.legendre.leggauss(_FACE)
        t_p, s_p = (a.ravel() for a in np.meshgrid(point_q / 2.0, point_q / 2.0, indexing="ij"))
        weight_p = np.outer(weight_q, weight_q).ravel() / 4.0
        gain_kc = np.zeros((3, 3))
        for k in range(3):
            i, j = (k + 1) % 3, (k + 2) % 3
            face_pc = self.loop.centre_c + np.outer(t_p, self.cell_cc[i]) + np.outer(s_p, self.cell_cc[j])
            high, low = (self._sum(face_pc + half * self.cell_cc[k]) for half in (0.5, -0.5))
            gain_kc[k] = weight_p @ (high - low)
        return gain_kc

    def displacement(self, x_nc: RealArray) -> RealArray:
        """u (n, 3), angstrom, at points (n, 3) anywhere; local."""
        fraction_nk = (x_nc - self.loop.centre_c) @ np.linalg.inv(self.cell_cc)
        fraction_nk -= np.rint(fraction_nk)
        here_nc = self.loop.centre_c + fraction_nk @ self.cell_cc
        return np.asarray(self._sum(here_nc) - fraction_nk @ self.gain())

    def _sum(self, x_nc: RealArray) -> RealArray:
        u_nc = np.zeros((len(x_nc), 3))
        _add_images(self.loop, self.poisson, self.shift_sc, _FAR * self.loop.radius, x_nc, u_nc)
        return u_nc


def average_poisson(c_ijkl: RealArray) -> float:
    """Poisson's ratio of the Voigt average of elastic constants (3, 3, 3, 3).

    Raises
    ------
    GeometryError
        It is not that of a stable solid.
    """
    bulk = float(np.einsum("iijj", c_ijkl)) / 9.0
    shear = (3.0 * float(np.einsum("ijij", c_ijkl)) - 9.0 * bulk) / 30.0
    if not (bulk > 0.0 and shear > 0.0):
        raise GeometryError(f"elastic constants are not those of a stable solid: bulk {bulk:.6g}, shear {shear:.6g}")
    return (3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear))


def _add_images(loop: Loop, nu: float, shift_sc: RealArray, far: float, x_nc: RealArray, u_nc: RealArray) -> None:
    corners = (loop.corner_vc, loop.burgers_c, loop.normal_c)
    _add_loop(np.ascontiguousarray(x_nc), *corners, nu, shift_sc, far, _points(loop), u_nc)


def _points(loop: Loop) -> RealArray:
    """Places and areas (7, 4) of point loops with the moments of S up to the fifth, for shapes of sixfold symmetry.

    A point at the centre and six on a ring: rho^2 = <r^4> / <r^2>, their share <r^2>^2 / <r^4>.
    """
    centre_c, n_c = loop.centre_c, loop.normal_c
    e1 = loop.corner_vc[0] - centre_c
    radius = float(np.linalg.norm(e1))
    e1 = e1 / radius
    e2 = np.cross(n_c, e1)
    # Moments of a triangle of the fan with the apothem h and the half angle w: int r^m dA.
    sides = len(loop.corner_vc)
    w = pi / sides
    h, t = radius * cos(w), np.tan(w)
    area = h * h * t
    square = h**4 / 2.0 * (t + t**3 / 3.0) / area
    fourth = h**6 / 3.0 * (t + 2.0 * t**3 / 3.0 + t**5 / 5.0) / area
    rho, share = sqrt(fourth / square), square**2 / fourth
    point = np.empty((7, 4))
    point[0] = [*centre_c, (1.0 - share) * loop.area]
    for k in range(6):
        angle = k * pi / 3.0
        point[k + 1, :3] = centre_c + rho * (cos(angle) * e1 + sin(angle) * e2)
        point[k + 1, 3] = share * loop.area / 6.0
    return point


@njit(cache=True, inline="always")
def _solid_angle(x: float, y: float, z: float, corner_vc: Any, centre_c: Any) -> float:
    """Solid angle of S seen from a point: negative above it, positive below, -2 pi and 2 pi on its two sides.

    Sum over the fan of triangles: tan(Omega / 2) = a.(b x c) / (abc + (a.b) c + (b.c) a + (c.a) b), van Oosterom,
    Strackee, IEEE Trans. Biomed. Eng. 30, 125 (1983).
    """
    a0, a1, a2 = centre_c[0] - x, centre_c[1] - y, centre_c[2] - z
    a = np.sqrt(a0 * a0 + a1 * a1 + a2 * a2)
    total = 0.0
    last = len(corner_vc) - 1
    b0, b1, b2 = corner_vc[last, 0] - x, corner_vc[last, 1] - y, corner_vc[last, 2] - z
    b = np.sqrt(b0 * b0 + b1 * b1 + b2 * b2)
    for v in range(last + 1):
        c0, c1, c2 = corner_vc[v, 0] - x, corner_vc[v, 1] - y, corner_vc[v, 2] - z
        c = np.sqrt(c0 * c0 + c1 * c1 + c2 * c2)
        triple = a0 * (b1 * c2 - b2 * c1) + a1 * (b2 * c0 - b0 * c2) + a2 * (b0 * c1 - b1 * c0)
        below = (
            a * b * c + (a0 * b0 + a1 * b1 + a2 * b2) * c + (b0 * c0 + b1 * c1 + b2 * c2) * a
            + (c0 * a0 + c1 * a1 + c2 * a2) * b
        )  # fmt: skip
        total += 2.0 * np.arctan2(triple, below)
        b0, b1, b2, b = c0, c1, c2, c
    return total


@njit(cache=True)
def _add_loop(
    x_nc: Any, corner_vc: Any, b_c: Any, n_c: Any, nu: float, shift_sc: Any, far: float, point_q: Any, u_nc: Any
) -> None:
    """Add the displacements of copies of a loop in an infinite solid: by Burgers' formula, beyond `far` by point loops.

    The line integrals of straight segments are those of Barnett, Phil. Mag. A 51, 383 (1985). A loop of vanishing size
    with the area A has u_i = A / (8 pi (1 - nu) r^2) [(1 - 2 nu)(b_i n.e + n_i b.e - b.n e_i) + 3 e_i (b.e)(n.e)].
    """
    n_v = len(corner_vc)
    centre_c = np.zeros(3)
    for v in range(n_v):
        for c in range(3):
            centre_c[c] += corner_vc[v, c] / n_v
    tangent_vc, cross_vc = np.empty((n_v, 3)), np.empty((n_v, 3))
    for v in range(n_v):
        after = (v + 1) % n_v
        length = 0.0
        for c in range(3):
            tangent_vc[v, c] = corner_vc[after, c] - corner_vc[v, c]
            length += tangent_vc[v, c] ** 2
        length = np.sqrt(length)
        for c in range(3):
            tangent_vc[v, c] /= length
        for c in range(3):
            d, e = (c + 1) % 3, (c + 2) % 3
            cross_vc[v, c] = b_c[d] * tangent_vc[v, e] - b_c[e] * tangent_vc[v, d]
    line = (1.0 - 2.0 * nu) / (8.0 * np.pi * (1.0 - nu))
    rest = 1.0 / (8.0 * np.pi * (1.0 - nu))
    bn = b_c[0] * n_c[0] + b_c[1] * n_c[1] + b_c[2] * n_c[2]
    b0, b1, b2 = b_c[0], b_c[1], b_c[2]
    for n in range(len(x_nc)):
        u0, u1, u2 = 0.0, 0.0, 0.0
        for s in range(len(shift_sc)):
            x, y, z = x_nc[n, 0] - shift_sc[s, 0], x_nc[n, 1] - shift_sc[s, 1], x_nc[n, 2] - shift_sc[s, 2]
            off = (x - centre_c[0]) ** 2 + (y - centre_c[1]) ** 2 + (z - centre_c[2]) ** 2
            if off > far * far:
                for q in range(len(point_q)):
                    e0, e1, e2 = x - point_q[q, 0], y - point_q[q, 1], z - point_q[q, 2]
                    inverse = 1.0 / (e0 * e0 + e1 * e1 + e2 * e2)
                    be, ne = b0 * e0 + b1 * e1 + b2 * e2, n_c[0] * e0 + n_c[1] * e1 + n_c[2] * e2
                    scale = rest * point_q[q, 3] * inverse * np.sqrt(inverse)
                    soft, hard = (1.0 - 2.0 * nu) * scale, 3.0 * be * ne * inverse * scale
                    u0 += soft * (b0 * ne + n_c[0] * be - bn * e0) + hard * e0
                    u1 += soft * (b1 * ne + n_c[1] * be - bn * e1) + hard * e1
                    u2 += soft * (b2 * ne + n_c[2] * be - bn * e2) + hard * e2
                continue
            angle = _solid_angle(x, y, z, corner_vc, centre_c) / (4.0 * np.pi)
            u0, u1, u2 = u0 - b0 * angle, u1 - b1 * angle, u2 - b2 * angle
            p0, p1, p2 = corner_vc[0, 0] - x, corner_vc[0, 1] - y, corner_vc[0, 2] - z
            r_p = np.sqrt(p0 * p0 + p1 * p1 + p2 * p2)
            for v in range(n_v):
                after = (v + 1) % n_v
                q0, q1, q2 = corner_vc[after, 0] - x, corner_vc[after, 1] - y, corner_vc[after, 2] - z
                r_q = np.sqrt(q0 * q0 + q1 * q1 + q2 * q2)
                t0, t1, t2 = tangent_vc[v, 0], tangent_vc[v, 1], tangent_vc[v, 2]
                along_p, along_q = p0 * t0 + p1 * t1 + p2 * t2, q0 * t0 + q1 * t1 + q2 * t2
                # ln (r_q + along_q) / (r_p + along_p), in the form that does not cancel where both lie behind
                if along_p + along_q >= 0.0:
                    logarithm = np.log((r_q + along_q) / (r_p + along_p))
                else:
                    logarithm = np.log((r_p - along_p) / (r_q - along_q))
                # -b.(P x Q) (P/p + Q/q) / (p q + P.Q)
                triple = b0 * (p1 * q2 - p2 * q1) + b1 * (p2 * q0 - p0 * q2) + b2 * (p0 * q1 - p1 * q0)
                factor = -rest * triple / (r_p * r_q + p0 * q0 + p1 * q1 + p2 * q2)
                u0 += factor * (p0 / r_p + q0 / r_q) + line * cross_vc[v, 0] * logarithm
                u1 += factor * (p1 / r_p + q1 / r_q) + line * cross_vc[v, 1] * logarithm
                u2 += factor * (p2 / r_p + q2 / r_q) + line * cross_vc[v, 2] * logarithm
                p0, p1, p2, r_p = q0, q1, q2, r_q
        u_nc[n, 0] += u0
        u_nc[n, 1] += u1
        u_nc[n, 2] += u2
