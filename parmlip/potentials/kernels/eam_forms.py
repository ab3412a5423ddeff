"""Radial and embedding functions of embedded-atom laws, with first and second derivatives, generic in the scalar type.

Every function is chosen by a number (`*_form`) inside the compiled code and reads its constants from one flat array, so
that a law is data: one compiled kernel, cached on disk, serves all laws at full speed. With a complex argument the
second derivatives give exact third ones; pieces are selected on the real part.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from parmlip.potentials.kernels.exponential import exponential
from parmlip.potentials.kernels.zbl import repulsion, switch

# Pair forms: each gives phi and the density of the neighbour at the centre.
CUBES: Final = 1
ZHOU: Final = 2
MISHIN: Final = 3
SPLINE: Final = 4
FINNIS_SINCLAIR: Final = 5

# Embedding forms.
ROOT_SQUARE: Final = 1
ZHOU_EMBEDDING: Final = 2
MISHIN_EMBEDDING: Final = 3
SPLINE_EMBEDDING: Final = 4

LANES: Final = 8
FAST: Final = {"contract", "reassoc", "nsz", "arcp"}  # keeps NaN and infinity


class Forms(NamedTuple):
    """Functions of an embedded-atom law as the kernels read them; s is the centre's species, t the neighbour's."""

    pair_form_st: NDArray[np.int64]  # (n_species, n_species)
    pair_start_st: NDArray[np.int64]  # (n_species, n_species) first constant in `constants`
    embedding_form_s: NDArray[np.int64]  # (n_species,)
    embedding_start_s: NDArray[np.int64]  # (n_species,)
    constants: NDArray[np.float64]
    range_k: NDArray[np.float64]  # (5,) angstrom: cutoff, start of the taper (equal: none), and of the core
    # (zero: none) the inner ends of phi and of the density, and the outer end
    core_stk: NDArray[np.float64]  # (n_species, n_species, 3) nuclear charges of s and t, density in the core


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def cubes(c: Any, i: int, r_q: Any, n: int, order: int, f_kq: Any) -> None:
    """Sums of a (d - r)^3 for r < d: n_pair, n_density, then (a, d) of phi and of the density.

    Knot by knot for all distances: with the distances outside, where each has its own number of knots, nothing is
    vectorised.
    """
    middle = i + 2 + 2 * int(c[i])
    end = middle + 2 * int(c[i + 1])
    for row in range(2 * order + 2):
        for q in range(n):
            f_kq[row, q] = 0.0
    for k in range(i + 2, end, 2):
        amplitude, knot = c[k], c[k + 1]
        row = 0 if k < middle else order + 1
        for q in range(n):
            x = knot - r_q[q]
            if x.real < 0.0:
                x = 0.0 * x
            ax = amplitude * x
            f_kq[row, q] += ax * x * x
            f_kq[row + 1, q] -= 3.0 * ax * x
            if order == 2:
                f_kq[row + 2, q] += 6.0 * ax


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def damped_exponential(r: Any, inverse_radius: float, amplitude: float, decay: float, offset: float) -> Any:
    """a exp(-d (x - 1)) / (1 + (x - o)^20), x = r / r_e, and two derivatives by r."""
    x = r * inverse_radius
    y = x - offset
    y2 = y * y
    y4 = y2 * y2
    y8 = y4 * y4
    y18 = y8 * y8 * y2
    y20 = y18 * y2
    damping = 1.0 / (1.0 + y20)
    value = amplitude * exponential(decay * (1.0 - x)) * damping
    # logarithmic derivative L: f' = f L, f'' = f (L^2 + L')
    slope = -decay - 20.0 * y18 * y * damping
    bend = -20.0 * y18 * damping * (19.0 - 20.0 * y20 * damping)
    first = value * slope * inverse_radius
    second = value * (slope * slope + bend) * (inverse_radius * inverse_radius)
    return value, first, second


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def zhou(c: Any, i: int, r: Any) -> Any:
    """Zhou et al. (2001) eqs. (2)-(4): constants 1/r_e, alpha, A, kappa, beta, f_e, lambda, B / f_e."""
    a, a1, a2 = damped_exponential(r, c[i], c[i + 2], c[i + 1], c[i + 3])
    rho, rho1, rho2 = damped_exponential(r, c[i], c[i + 5], c[i + 4], c[i + 6])
    b = c[i + 7]
    return a - b * rho, a1 - b * rho1, a2 - b * rho2, rho, rho1, rho2


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def morse(r: Any, energy: float, alpha: float, distance: float) -> Any:
    """E (e^2 - 2 e), e = exp(alpha (r_0 - r)), and two derivatives."""
    e = exponential(alpha * (distance - r))
    strength = energy * e
    return strength * (e - 2.0), strength * (2.0 - 2.0 * e) * alpha, strength * (4.0 * e - 2.0) * (alpha * alpha)


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def fourth_power(r: Any, end: float, strength: float) -> Any:
    """S (r_s - r)^4 for r < r_s, and two derivatives."""
    y = end - r
    if y.real < 0.0:
        y = 0.0 * y
    sy = strength * y * y
    return sy * y * y, -4.0 * sy * y, 12.0 * sy


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def mishin(c: Any, i: int, r: Any) -> Any:
    """Mishin et al. (2001) eqs. (4)-(7).

    Constants: r_c, h, (E, alpha, r_0) twice, delta, (r_s, S) three times by falling r_s, a, beta_1, r_03. The density's
    second exponential, exp(-535.661 (r + 261.984)), is zero in any floating-point number and left out.
    """
    inverse_width = 1.0 / c[i + 1]
    x = (r - c[i]) * inverse_width
    if x.real > 0.0:
        x = 0.0 * x
    x2 = x * x
    x4 = x2 * x2
    q = 1.0 / (1.0 + x4)
    psi = x4 * q
    psi1 = 4.0 * x2 * x * q * q * inverse_width
    psi2 = x2 * (12.0 - 20.0 * x4) * q * q * q * inverse_width * inverse_width
    near, near1, near2 = morse(r, c[i + 2], c[i + 3], c[i + 4])
    far, far1, far2 = morse(r, c[i + 5], c[i + 6], c[i + 7])
    wells, wells1, wells2 = near + far + c[i + 8], near1 + far1, near2 + far2
    phi = wells * psi
    phi1 = wells1 * psi + wells * psi1
    phi2 = wells2 * psi + 2.0 * wells1 * psi1 + wells * psi2
    a, a1, a2 = fourth_power(r, c[i + 9], c[i + 10])
    b, b1, b2 = fourth_power(r, c[i + 11], c[i + 12])
    d, d1, d2 = fourth_power(r, c[i + 13], c[i + 14])
    z = r - c[i + 17]
    beta = c[i + 16]
    gauss = c[i + 15] * exponential(-beta * z * z)
    gauss1 = -2.0 * beta * z * gauss
    gauss2 = (4.0 * beta * beta * z * z - 2.0 * beta) * gauss
    rho = gauss * psi
    rho1 = gauss1 * psi + gauss * psi1
    rho2 = gauss2 * psi + 2.0 * gauss1 * psi1 + gauss * psi2
    return phi - (a + b + d), phi1 - (a1 + b1 + d1), phi2 - (a2 + b2 + d2), rho, rho1, rho2


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def finnis_sinclair(c: Any, i: int, r: Any) -> Any:
    """(r - c)^2 (c_0 + c_1 r + c_2 r^2) for r < c and (r - d)^2 for r < d: constants c, c_0, c_1, c_2, d."""
    phi, phi1, phi2 = 0.0 * r, 0.0 * r, 0.0 * r
    rho, rho1, rho2 = 0.0 * r, 0.0 * r, 0.0 * r
    x = r - c[i]
    if x.real < 0.0:
        p = c[i + 1] + r * (c[i + 2] + r * c[i + 3])
        p1 = c[i + 2] + 2.0 * c[i + 3] * r
        phi = x * x * p
        phi1 = x * (2.0 * p + x * p1)
        phi2 = 2.0 * p + x * (4.0 * p1 + x * (2.0 * c[i + 3]))
    y = r - c[i + 4]
    if y.real < 0.0:
        rho = y * y
        rho1 = 2.0 * y
        rho2 = 2.0 + 0.0 * r
    return phi, phi1, phi2, rho, rho1, rho2


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def quintic(c: Any, k: int, x: Any) -> Any:
    """Value and two derivatives by x of the quintic with the coefficients c[k] .. c[k + 5], lowest first."""
    c2, c3, c4, c5 = c[k + 2], c[k + 3], c[k + 4], c[k + 5]
    value = c[k] + x * (c[k + 1] + x * (c2 + x * (c3 + x * (c4 + x * c5))))
    first = c[k + 1] + x * (2.0 * c2 + x * (3.0 * c3 + x * (4.0 * c4 + x * (5.0 * c5))))
    second = 2.0 * c2 + x * (6.0 * c3 + x * (12.0 * c4 + x * (20.0 * c5)))
    return value, first, second


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def interval(x: float, n_intervals: int) -> int:
    """Number of the interval in which x (in intervals) lies; the first or last outside, the first for NaN."""
    if not x > 0.0:
        return 0
    if x >= n_intervals:
        return n_intervals - 1
    return int(x)


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def spline(c: Any, i: int, r: Any) -> Any:
    """r phi(r) and density by quintics: number of intervals, 1/spacing, then 12 coefficients of r an interval."""
    x = r * c[i + 1]
    m = interval(x.real, int(c[i]))
    x = x - m
    k = i + 2 + 12 * m
    y, y1, y2 = quintic(c, k, x)
    rho, rho1, rho2 = quintic(c, k + 6, x)
    s = c[i + 1]
    inverse = 1.0 / r
    phi = y * inverse
    phi1 = (y1 * s - phi) * inverse
    phi2 = (y2 * s * s - 2.0 * phi1) * inverse
    return phi, phi1, phi2, rho, rho1 * s, rho2 * (s * s)


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def keep(f_kq: Any, q: int, order: int, values: Any) -> None:
    """Six numbers of a form in the rows of `pair_functions`."""
    phi, phi1, phi2, rho, rho1, rho2 = values
    f_kq[0, q] = phi
    f_kq[1, q] = phi1
    if order == 2:
        f_kq[2, q] = phi2
    f_kq[order + 1, q] = rho
    f_kq[order + 2, q] = rho1
    if order == 2:
        f_kq[order + 3, q] = rho2


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def pair_functions(forms: Any, s: int, t: int, r_q: Any, n: int, order: int, f_kq: Any) -> None:
    """phi, phi', rho, rho' (order 1) or phi, phi', phi'', rho, rho', rho'' (order 2) as rows of f_kq.

    Of n neighbours of species t of a centre of species s, at distances r_q up to the cutoff. There is one loop for each
    form, without branches inside, so that it becomes vector instructions.
    """
    c, form, i = forms.constants, forms.pair_form_st[s, t], forms.pair_start_st[s, t]
    if form == CUBES:
        cubes(c, i, r_q, n, order, f_kq)
    elif form == ZHOU:
        for q in range(n):
            keep(f_kq, q, order, zhou(c, i, r_q[q]))
    elif form == MISHIN:
        for q in range(n):
            keep(f_kq, q, order, mishin(c, i, r_q[q]))
    elif form == FINNIS_SINCLAIR:
        for q in range(n):
            keep(f_kq, q, order, finnis_sinclair(c, i, r_q[q]))
    else:
        for q in range(n):
            keep(f_kq, q, order, spline(c, i, r_q[q]))
    cutoff, taper_start = forms.range_k[0], forms.range_k[1]
    if taper_start < cutoff:
        for q in range(n):
            taper(taper_start, cutoff, r_q[q], f_kq, q, order)
    if forms.range_k[4] > 0.0:
        for q in range(n):
            if r_q[q].real < forms.range_k[4]:
                core(forms.core_stk[s, t], forms.range_k, r_q[q], f_kq, q, order)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def core(core_k: Any, range_k: Any, r: Any, f_kq: Any, q: int, order: int) -> None:
    """At short distance, column q of f_kq goes over to the repulsion of nuclei and to a constant density."""
    v, v1, v2 = repulsion(r, core_k[0], core_k[1])
    w, w1, w2 = switch(r, range_k[2], range_k[4])
    blend(v, v1, v2, w, w1, w2, f_kq, 0, q, order)
    w, w1, w2 = switch(r, range_k[3], range_k[4])
    blend(core_k[2] + 0.0 * r, 0.0 * r, 0.0 * r, w, w1, w2, f_kq, order + 1, q, order)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def blend(v: Any, v1: Any, v2: Any, w: Any, w1: Any, w2: Any, f_kq: Any, row: int, q: int, order: int) -> None:
    """f + w (v - f) for the function in rows `row` .. `row` + `order` of column q."""
    d, d1 = v - f_kq[row, q], v1 - f_kq[row + 1, q]
    f_kq[row, q] += w * d
    f_kq[row + 1, q] += w * d1 + w1 * d
    if order == 2:
        f_kq[row + 2, q] += w * (v2 - f_kq[row + 2, q]) + 2.0 * w1 * d1 + w2 * d


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def taper(start: float, end: float, r: Any, f_kq: Any, q: int, order: int) -> None:
    """Column q of f_kq times w = 1 - x^4 (35 - 84 x + 70 x^2 - 20 x^3), which has three continuous derivatives."""
    step = 1.0 / (end - start)
    x = (r - start) * step
    if x.real < 0.0:
        x = 0.0 * x
    y = x * (1.0 - x)
    w = 1.0 - x * x * x * x * (35.0 - x * (84.0 - x * (70.0 - 20.0 * x)))
    w1 = -140.0 * y * y * y * step
    w2 = -420.0 * y * y * (1.0 - 2.0 * x) * (step * step)
    for row in range(0, 2 * order + 2, order + 1):
        f, f1 = f_kq[row, q], f_kq[row + 1, q]
        f_kq[row, q] = f * w
        f_kq[row + 1, q] = f1 * w + f * w1
        if order == 2:
            f_kq[row + 2, q] = f_kq[row + 2, q] * w + 2.0 * f1 * w1 + f * w2


@njit(cache=True, error_model="numpy")
def embedding(forms: Any, s: int, rho: Any) -> Any:
    """F, F' and F'' of a centre s at density rho; zero at density zero (an isolated site) where F ~ sqrt(rho)."""
    c = forms.constants
    i = forms.embedding_start_s[s]
    form = forms.embedding_form_s[s]
    if form == ROOT_SQUARE:  # A_1 sqrt(rho) + A_2 rho^2
        if rho.real == 0.0:
            return 0.0 * rho, 0.0 * rho, 0.0 * rho
        root = c[i] * np.sqrt(rho)
        inverse = 1.0 / rho
        return (
            root + c[i + 1] * rho * rho,
            0.5 * root * inverse + 2.0 * c[i + 1] * rho,
            -0.25 * root * inverse * inverse + 2.0 * c[i + 1],
        )
    if form == ZHOU_EMBEDDING:  # 1/rho_e, 1/rho_s, F_n0..3, F_0..3, eta, F_e; Zhou et al. (2001) eqs. (5)-(7)
        x = rho * c[i]
        if x.real < 1.15:
            k = i + 6
            scale = c[i]
            if x.real < 0.85:
                k = i + 2
                scale = c[i] / 0.85
            y = rho * scale - 1.0
            return (
                c[k] + y * (c[k + 1] + y * (c[k + 2] + y * c[k + 3])),
                (c[k + 1] + y * (2.0 * c[k + 2] + y * (3.0 * c[k + 3]))) * scale,
                (2.0 * c[k + 2] + y * (6.0 * c[k + 3])) * (scale * scale),
            )
        eta = c[i + 10]
        x = rho * c[i + 1]
        logarithm = eta * np.log(x)
        power = c[i + 11] * np.exp(logarithm)
        first = -eta * logarithm * power / rho
        second = first * (eta - 1.0) / rho - eta * eta * power / (rho * rho)
        return (1.0 - logarithm) * power, first, second
    if form == MISHIN_EMBEDDING:  # F_0, F_2, q_1..4, Q_1, Q_2; Mishin et al. (2001) eq. (8)
        x = rho - 1.0
        if x.real < 0.0:
            q1, q2, q3, q4 = c[i + 2], c[i + 3], c[i + 4], c[i + 5]
            return (
                c[i] + x * x * (0.5 * c[i + 1] + x * (q1 + x * (q2 + x * (q3 + x * q4)))),
                x * (c[i + 1] + x * (3.0 * q1 + x * (4.0 * q2 + x * (5.0 * q3 + x * (6.0 * q4))))),
                c[i + 1] + x * (6.0 * q1 + x * (12.0 * q2 + x * (20.0 * q3 + x * (30.0 * q4)))),
            )
        q1, q2, d = c[i + 2], c[i + 6], c[i + 7]
        inverse = 1.0 / (1.0 + d * x * x * x)
        value = (c[i] + x * x * (0.5 * c[i + 1] + x * (q1 + x * q2))) * inverse
        first = (x * (c[i + 1] + x * (3.0 * q1 + x * (4.0 * q2))) - value * (3.0 * d) * x * x) * inverse
        second = c[i + 1] + x * (6.0 * q1 + x * (12.0 * q2)) - 6.0 * d * x * (first * x + value)
        return value, first, second * inverse
    # quintics: number of intervals, 1/spacing, then 6 coefficients an interval; a straight line beyond the last knot
    n_intervals = int(c[i])
    scale = c[i + 1]
    x = rho * scale
    m = interval(x.real, n_intervals)
    if x.real > n_intervals:
        f, f1, _ = quintic(c, i + 2 + 6 * m, 0.0 * x + 1.0)
        return f + f1 * (x - n_intervals), f1 * scale, 0.0 * x
    f, f1, f2 = quintic(c, i + 2 + 6 * m, x - m)
    return f, f1 * scale, f2 * (scale * scale)
