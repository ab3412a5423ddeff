"""Displacements of straight dislocations in linear elasticity: one alone, periodic arrays, and arrays by images.

Frame: the line along z, x along the first vector of a periodic cell. A core's cut, where its displacement jumps by the
Burgers vector, is the line y = y_core: to the left of a single core; in arrays the jumps of cores on one line cancel
but between them, exactly on the straight segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.elasticity import ComplexArray, RealArray, Stroh
from parmlip.errors import GeometryError

_DIGITS: Final = 40.0  # factors of the theta function that differ from 1 by less than exp(-40) are left out
_NEUTRAL: Final = 1e-9  # of the largest Burgers vector
_FIXED_POINT: Final = 200


@dataclass(frozen=True)
class Core:
    """A straight dislocation along z."""

    position: tuple[float, float]  # x, y, angstrom
    burgers: tuple[float, float, float]  # angstrom


def single_displacement(solution: Stroh, core: Core, x_ac: RealArray) -> RealArray:
    """u = (1/pi) Im sum_a A_a (L_a . b) ln(x + p_a y), (n, 3), angstrom; x, y are seen from the core.

    `x_ac` is (n, 2) or (n, 3), angstrom. Around the core, counter-clockwise, u gains +b.
    """
    dx, dy = (x_ac[:, c] - core.position[c] for c in (0, 1))
    z_na = dx[:, None] + solution.p_a * dy[:, None]
    return np.asarray((np.log(z_na) @ solution.strengths(core.burgers).T).imag / pi)


def single_distortion(solution: Stroh, core: Core, x_ac: RealArray) -> RealArray:
    """du_i/dx_j of `single_displacement`, (n, 3, 2), j = x, y; single-valued."""
    dx, dy = (x_ac[:, c] - core.position[c] for c in (0, 1))
    z_na = dx[:, None] + solution.p_a * dy[:, None]
    slope_aj = np.stack([np.ones(3), solution.p_a], axis=1)
    return np.asarray(np.einsum("na,ia,aj->nij", 1.0 / z_na, solution.strengths(core.burgers), slope_aj).imag / pi)


@dataclass(frozen=True, eq=False)
class PeriodicArray:
    """Dislocations repeated along two vectors, with zero net Burgers vector; its displacement is periodic.

    u = (1/pi) Im sum_a A_a sum_j (L_a . b_j) ln theta_1((z - z_j) / w_1) minus the linear function by which this is not
    periodic, z = x + p_a y, w_k = C_kx + p_a C_ky, tau = w_2 / w_1. Where the cores do not lie on one line
    y = constant, u is periodic up to Burgers vectors.

    Raises
    ------
    GeometryError
        The Burgers vectors do not add up to zero, or the first vector is not along x.
    """

    solution: Stroh
    cores: tuple[Core, ...]
    vectors_kc: RealArray  # (2, 2) periods in the plane, angstrom; the first along x

    def __post_init__(self) -> None:
        """Refuse arrays without a periodic field."""
        check_neutral(self.cores)
        (length, skew), (_, height) = self.vectors_kc
        if not (length > 0.0 and abs(skew) < 1e-9 * length and height > 0.0):
            raise GeometryError(f"periods of dislocations are along x and upwards, not {self.vectors_kc.tolist()}")

    def displacement(self, x_ac: RealArray) -> RealArray:
        """(n, 3), angstrom, at points (n, 2) or (n, 3) anywhere."""
        p_a, (w1, (c2x, height)) = self.solution.p_a, (self.vectors_kc[0, 0], self.vectors_kc[1])
        cell_n = np.floor(x_ac[:, 1] / height)  # into the strip of one cell, where logarithms are of one sheet
        x_n, y_n = x_ac[:, 0] - cell_n * c2x, x_ac[:, 1] - cell_n * height
        tau_a = (c2x + p_a * height) / w1
        u_nc = np.zeros((len(x_ac), 3))
        for core in self.cores:
            above = np.floor(core.position[1] / height)
            at = (core.position[0] - above * c2x, core.position[1] - above * height)
            w_na = ((x_n - at[0])[:, None] + p_a * (y_n - at[1])[:, None]) / w1
            up_n = y_n >= at[1]
            log_na = np.stack([_log_theta(w_na[:, a], up_n, complex(tau_a[a])) for a in range(3)], axis=1)
            u_nc += (log_na @ self.solution.strengths(core.burgers).T).imag / pi
        return np.asarray(u_nc - (y_n / height)[:, None] * self.gain)

    @property
    def gain(self) -> RealArray:
        """What the sum of logarithms gains along the second vector, (3,), angstrom."""
        gain = np.zeros(3)
        w1, (c2x, height) = self.vectors_kc[0, 0], self.vectors_kc[1]
        for core in self.cores:
            above = np.floor(core.position[1] / height)
            x, y = core.position[0] - above * c2x, core.position[1] - above * height
            z_a = (x + self.solution.p_a * y) / w1
            gain += 2.0 * (self.solution.strengths(core.burgers) @ z_a).real
        return gain

    def distortion(self, x_ac: RealArray) -> RealArray:
        """du_i/dx_j, (n, 3, 2): the elastic distortion, single-valued and periodic."""
        p_a, (w1, (c2x, height)) = self.solution.p_a, (self.vectors_kc[0, 0], self.vectors_kc[1])
        cell_n = np.floor(x_ac[:, 1] / height)
        x_n, y_n = x_ac[:, 0] - cell_n * c2x, x_ac[:, 1] - cell_n * height
        tau_a = (c2x + p_a * height) / w1
        slope_aj = np.stack([np.ones(3), p_a], axis=1)
        d_nij = np.zeros((len(x_ac), 3, 2))
        for core in self.cores:
            above = np.floor(core.position[1] / height)
            at = (core.position[0] - above * c2x, core.position[1] - above * height)
            w_na = ((x_n - at[0])[:, None] + p_a * (y_n - at[1])[:, None]) / w1
            slope_na = np.stack([_slope_log_theta(w_na[:, a], complex(tau_a[a])) for a in range(3)], axis=1) / w1
            strength = self.solution.strengths(core.burgers)
            d_nij += np.einsum("na,ia,aj->nij", slope_na, strength, slope_aj).imag / pi
        d_nij[:, :, 1] -= self.gain / height
        return d_nij

    @property
    def tilt(self) -> RealArray:
        """Changes of the two periods, (2, 3), angstrom, by which the mean elastic distortion of the field vanishes.

        C_k += -b (S . C_k) / A, S = rot90(x_- - x_+), of each pair of cores; A is the cell's area. Zero for
        quadrupoles.

        References
        ----------
        Cai, Bulatov, Chang, Li, Yip, Phil. Mag. 83, 539 (2003).
        """
        (w1, _), (c2x, height) = self.vectors_kc
        tilt_kc = np.zeros((2, 3))
        for core in self.cores:
            above = np.floor(core.position[1] / height)
            x, y = core.position[0] - above * c2x, core.position[1] - above * height
            tilt_kc += np.outer([-y / height, (x - y * c2x / height) / w1], core.burgers)
        return tilt_kc


def image_displacement(array: PeriodicArray, x_ac: RealArray, n_images: int) -> RealArray:
    """The same displacement by a sum over (2 n + 1)^2 images, made periodic by a linear term that is measured (Cai).

    Up to a constant, and up to Burgers vectors across cuts. It converges as 1 / n^2.
    """

    def total(points_ac: RealArray) -> RealArray:
        u_nc = np.zeros((len(points_ac), 3))
        for i in range(-n_images, n_images + 1):
            for j in range(-n_images, n_images + 1):
                shift = i * array.vectors_kc[0] + j * array.vectors_kc[1]
                for core in array.cores:
                    moved = Core((core.position[0] + shift[0], core.position[1] + shift[1]), core.burgers)
                    u_nc += single_displacement(array.solution, moved, points_ac)
        return u_nc

    corner = 1e-3 * (array.vectors_kc[0] + array.vectors_kc[1])[None]
    gain_kc = np.stack([(total(corner + c) - total(corner))[0] for c in array.vectors_kc])
    fraction_nk = x_ac[:, :2] @ np.linalg.inv(array.vectors_kc)
    return np.asarray(total(x_ac) - fraction_nk @ gain_kc)


def check_neutral(cores: Sequence[Core]) -> None:
    """Raise `GeometryError` if Burgers vectors do not add up to zero, without which nothing is periodic."""
    b_nc = np.array([core.burgers for core in cores]).reshape(-1, 3)
    net = b_nc.sum(axis=0)
    if len(cores) == 0 or np.abs(net).max() > _NEUTRAL * np.abs(b_nc).max():
        shown = ", ".join(f"{x:.4f}" for x in net)
        raise GeometryError(f"the Burgers vectors of a periodic cell must add up to zero, not to ({shown}) A")


def _log_theta(w_n: ComplexArray, up_n: NDArray[np.bool_], tau: complex) -> ComplexArray:
    """ln of sin(pi w) prod_n (1 - 2 q^n cos(2 pi w) + q^2n), q = exp(2 pi i tau), |Im w| <= Im tau.

    Analytic above and below the line of the core; across it continuous for 0 < Re w < 1.
    """
    sign_n = np.where(up_n, 1.0, -1.0)
    wave_n = np.exp(2j * pi * sign_n * w_n)
    log_n = sign_n * (0.5j * pi - 1j * pi * w_n) - np.log(2.0) + np.log1p(-wave_n)
    for n in range(1, _n_factors(tau)):
        q = np.exp(2j * pi * n * tau)
        # separately, since |q wave^-1| alone may be near 1
        log_n += np.log1p(-q * wave_n) + np.log1p(-np.exp(2j * pi * (n * tau - sign_n * w_n)))
    return np.asarray(log_n)


def _slope_log_theta(w_n: ComplexArray, tau: complex) -> ComplexArray:
    """Derivative of `_log_theta` by w: pi cot(pi w) + 4 pi sum_n q^n sin(2 pi w) / (1 - 2 q^n cos(2 pi w) + q^2n)."""
    sign_n = np.where(w_n.imag >= 0.0, 1.0, -1.0)
    wave_n = np.exp(2j * pi * sign_n * w_n)
    slope_n = -1j * pi * (1.0 + wave_n) / (1.0 - wave_n)
    for n in range(1, _n_factors(tau)):
        for other_n, sense in ((np.exp(2j * pi * (n * tau + sign_n * w_n)), 1.0),
                               (np.exp(2j * pi * (n * tau - sign_n * w_n)), -1.0)):  # fmt: skip
            slope_n += -2j * pi * sense * other_n / (1.0 - other_n)
    return np.asarray(sign_n * slope_n)


def _n_factors(tau: complex) -> int:
    return 2 + ceil(_DIGITS / (2.0 * pi * tau.imag))


def slip_corrected(solution: Stroh, core: Core, x_ac: RealArray, radius: float) -> RealArray:
    """The far-field predictor u_0(x) = u_lin(xi^-1(x)) of one dislocation in an infinite lattice, (n, 3), angstrom.

    u_lin is `single_displacement` with its cut to the right, along x, which is also the direction of the Burgers
    vector's part in the plane; xi(x) = x - b_12 eta(|x - x_core| / radius) arg(x - x_core) / (2 pi), arg in (0, 2 pi),
    eta rising smoothly from 0 to 1. Sites beyond the cut then stand in the places of the slipped lattice, and elastic
    strains are smooth there, to all orders in b.

    Parameters
    ----------
    core : Core
        Its Burgers vector has no y component.
    radius : float
        Of the ball in which eta rises, angstrom; more than 4 |b_12|, so that xi is one to one.

    References
    ----------
    Ehrlacher, Ortner, Shapeev, Arch. Ration. Mech. Anal. 222, 1217 (2016); Wang, Patel, Ortner (2023), (B.1)-(B.3).
    """
    if abs(core.burgers[1]) > _NEUTRAL * max(map(abs, core.burgers)):
        raise GeometryError("the slip-corrected predictor needs a Burgers vector without a y component")
    b = core.burgers[0]
    if radius <= 4.0 * abs(b):
        raise GeometryError(f"the slip-corrected predictor needs a radius above {4.0 * abs(b):.3f} A, not {radius:g}")
    target_nc = x_ac[:, :2] - np.array(core.position)
    place_nc = target_nc.copy()
    for _ in range(_FIXED_POINT):  # xi moves by less than b: a contraction
        angle_n = np.arctan2(place_nc[:, 1], place_nc[:, 0]) % (2.0 * pi)
        slip_n = b * _smooth_step(np.linalg.norm(place_nc, axis=1) / radius) * angle_n / (2.0 * pi)
        # y stays, so that no site changes its side of the cut
        change = target_nc[:, 0] + slip_n - place_nc[:, 0]
        place_nc[:, 0] += change
        if np.abs(change).max(initial=0.0) < 1e-13 * radius:
            break
    at = Core((0.0, 0.0), core.burgers)
    z_na = place_nc[:, :1] + solution.p_a * place_nc[:, 1:]
    # The principal logarithm has its cut to the left: below the core its branch goes on to angles above pi.
    log_na = np.log(z_na) + np.where(place_nc[:, 1:] < 0.0, 2j * pi, 0.0)
    return np.asarray((log_na @ solution.strengths(at.burgers).T).imag / pi)


def _smooth_step(t_n: RealArray) -> RealArray:
    """0 below 0, 1 above 1, infinitely often differentiable."""
    inside = np.clip(t_n, 1e-9, 1.0 - 1e-9)
    rise, fall = np.exp(-1.0 / inside), np.exp(-1.0 / (1.0 - inside))
    return np.where(t_n <= 0.0, 0.0, np.where(t_n >= 1.0, 1.0, rise / (rise + fall)))
