"""Site entropies and their derivatives by Lanczos spaces of F H F, F = H_hom^(-1/2), in distributed cells of any size.

References
----------
Torabi, Wang, Ortner (2024), eqs. (2.12), (3.3), (C.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.third_derivatives import ThirdDerivative
from parmlip.numerics.contour import nodes_for, slit_contour
from parmlip.numerics.divided_differences import log_divided_differences
from parmlip.numerics.krylov import LanczosSpaces, lanczos

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FLOOR = 1e-8  # Ritz values below it are null modes that rounding has left
_FIRST_STEPS, _MORE_STEPS = 16, 1.5  # of spaces for derivatives: 12 steps give 1e-10 near vacancies


@dataclass(frozen=True)
class SiteEntropies:
    """Site entropies, k_B; the same on every rank."""

    component_sc: FloatArray  # (n_sites, d): -1/2 [log+ F H F] on the diagonal
    steps: int  # Lanczos steps of the slowest vector
    residual: float  # largest change of a component over the last two steps
    difference: float  # largest one between contour and Ritz values; zero unless both were done

    @property
    def values(self) -> FloatArray:
        """S_l, (n_sites,)."""
        return np.asarray(self.component_sc.sum(axis=1))


def site_entropies(
    relative: RelativeHessian,
    site_s: IntArray,
    *,
    method: str = "contour",
    tolerance: float = 1e-10,
    batch: int = 24,
    max_steps: int = 200,
) -> SiteEntropies:
    """S_l = -1/2 Tr [log+(F H F)]_ll of some sites.

    Collective on ``relative.comm``. "contour" evaluates the resolvents at the nodes of a contour around the Ritz values
    in the same spaces as "ritz", and compares the two.

    Parameters
    ----------
    site_s : ndarray of int
        Global numbers of existing sites, or -1 - g for the grid site g (vacant sites have an entropy too).
    method : str
        "contour" or "ritz".
    tolerance : float
        Of every component, relative to the largest logarithm in its space.
    batch : int
        Vectors that go through the FFT together.

    Raises
    ------
    ConvergenceError
        A vector did not converge.
    """
    if method not in ("contour", "ritz"):
        raise ConfigError(f'unknown method "{method}" of site entropies; write "contour" or "ritz"')
    d = relative.dimension
    site_v = np.repeat(np.asarray(site_s, dtype=np.int64), d)
    component_v = np.tile(np.arange(d), len(site_s))
    value_v, steps, residual, difference = np.zeros(len(site_v)), 0, 0.0, 0.0
    for first in range(0, len(site_v), batch):
        part = slice(first, min(first + batch, len(site_v)))
        spaces = relative.spaces(
            relative.start(site_v[part], component_v[part]), np.log, floor=FLOOR, tolerance=tolerance,
            max_steps=max_steps,
        )  # fmt: skip
        log_v = spaces.function(np.log, floor=FLOOR)
        if method == "contour" and spaces.steps_b.any():
            low, high = spaces.interval(FLOOR)
            rate = slit_contour(low, high, 1)
            by_contour_v = spaces.contour(slit_contour(low, high, nodes_for(rate, 0.01 * tolerance)), np.log)
            difference = max(difference, 0.5 * float(np.abs(by_contour_v - log_v).max()))
            log_v = by_contour_v
        value_v[part] = -0.5 * log_v
        steps = max(steps, int(spaces.steps_b.max()))
        residual = max(residual, 0.5 * float(spaces.residual_b.max()))
    return SiteEntropies(value_v.reshape(-1, d), steps, residual, difference)


def absolute_site_entropies(
    relative: RelativeHessian, site_s: IntArray, *, tolerance: float = 1e-10, batch: int = 24, max_steps: int = 3000
) -> SiteEntropies:
    """-1/2 Tr [log+ H]_ll of some existing sites (eigenvalues in eV / angstrom^2), by Lanczos spaces of H itself.

    Collective on ``relative.comm``. Without the perfect crystal's Green's function the steps grow with the cell: 20 at
    64 sites, 40 to 80 at 4,096 in silicon; convergence is slow, so that steps are held to a hundredth of `tolerance`.

    Parameters
    ----------
    site_s : ndarray of int
        Global numbers of existing sites.
    tolerance, batch
        As for `site_entropies`.

    Raises
    ------
    ConvergenceError
        A vector did not converge.
    """
    d, n_owned = relative.dimension, relative.sites.n_owned
    site_v = np.repeat(np.asarray(site_s, dtype=np.int64), d)
    component_v = np.tile(np.arange(d), len(site_s))
    shift_ndc = np.tile(np.eye(d), (n_owned, 1)).reshape(n_owned, d, d) / np.sqrt(relative.sites.n_sites)
    null_xc = relative.from_sites(shift_ndc)
    value_v, steps, residual = np.zeros(len(site_v)), 0, 0.0
    for first in range(0, len(site_v), batch):
        part = slice(first, min(first + batch, len(site_v)))
        start_xb = relative.from_sites(unit_columns(relative, site_v[part], component_v[part]))
        spaces = lanczos(
            relative.apply_h, np.copy, start_xb, reduce=relative.reduce, function=np.log,
            floor=FLOOR * relative.kappa, tolerance=0.01 * tolerance, max_steps=max_steps, null_xc=null_xc,
        )  # fmt: skip
        if not spaces.converged:
            n = int((~spaces.converged_b).sum())
            raise ConvergenceError(
                f"[log+ H] of {n} vectors did not converge to {tolerance:g} in {max_steps} "
                f"Lanczos steps; the largest change is {spaces.residual_b.max():.1e}",
                spaces,
            )
        value_v[part] = -0.5 * spaces.function(np.log, floor=FLOOR * relative.kappa)
        steps = max(steps, int(spaces.steps_b.max()))
        residual = max(residual, 0.5 * float(spaces.residual_b.max()))
    return SiteEntropies(value_v.reshape(-1, d), steps, residual, 0.0)


def unit_columns(relative: RelativeHessian, site_v: IntArray, component_v: IntArray) -> FloatArray:
    """Unit vectors at components of existing sites without their translations, (n_owned, d, n_vectors). Local."""
    sites, d = relative.sites, relative.dimension
    unit_ndv = np.zeros((sites.n_owned, d, len(site_v)))
    number = sites.number_a[site_v] - sites.start
    mine = np.flatnonzero((number >= 0) & (number < sites.n_owned))
    unit_ndv[number[mine], component_v[mine], mine] = 1.0
    unit_ndv[:, component_v, np.arange(len(site_v))] -= 1.0 / sites.n_sites
    return unit_ndv


def truncated(supercell: Supercell, u_ad: FloatArray, site: int, radius: float) -> FloatArray:
    """T u: the displacement of the sites closer than `radius` to a site, zero elsewhere (eq. 3.3). Local.

    Distances are those of the reference configuration, to the nearest image. The site entropy of the truncated state
    is the truncated site entropy.
    """
    offset_ac = supercell.positions_ac - supercell.positions_ac[site]
    fraction_ac = offset_ac @ np.linalg.inv(supercell.cell_cc)
    fraction_ac -= np.rint(fraction_ac) * np.array(supercell.periodic)
    distance_a = np.linalg.norm(fraction_ac @ supercell.cell_cc, axis=1)
    return np.where((distance_a < radius)[:, None], u_ad, 0.0)


@dataclass(frozen=True)
class SiteGradient:
    """dS_l / du of one site l."""

    value: float  # S_l, k_B
    gradient_nd: FloatArray  # (n_owned, d) k_B / angstrom
    steps: int
    tail: float  # part of the derivative that the last two steps brought: its relative truncation


def site_entropy_gradient(
    relative: RelativeHessian,
    third: ThirdDerivative,
    site: int,
    *,
    method: str = "ritz",
    tolerance: float = 1e-10,
    max_steps: int = 200,
    components: tuple[int, ...] | None = None,
) -> SiteGradient:
    """S_l and its derivatives by the displacements of all sites, from one Lanczos space for each component.

    With y = F e in the basis Y of its space and T the tridiagonal matrix there, dS_l = -1/2 n^2 Tr(Y C Y^T dH), where
    C = S (L o s_1 s_1^T) S^T with Ritz vectors S and divided differences L of log ("ritz"), or C = Im sum_q c_q r_q
    r_q^T with r_q = (z_q - T)^-1 e_1 ("contour", eq. C.8). C is small and of fast decay: its eigenvectors are the few
    displacements along which third derivatives are taken.

    Collective on ``relative.comm``.

    Parameters
    ----------
    third : ThirdDerivative
        At the state of the Hessian of `relative`.
    site : int
        Global number, or -1 - g for the grid site g.
    tolerance : float
        Of `tail`.
    components : tuple of int, optional
        Of the site, over which is summed; all of them if left out.

    Raises
    ------
    ConvergenceError
        Not within `max_steps`; its `result` is the `SiteGradient` that was reached.
    """
    chosen = tuple(range(relative.dimension)) if components is None else components
    start_xb = relative.start(np.full(len(chosen), site), np.array(chosen))
    steps = _FIRST_STEPS
    while True:
        # Values converge twice as fast as vectors, so that their test would end too early: a fixed number of steps.
        spaces = lanczos(
            relative.apply_h, relative.apply_green, start_xb, reduce=relative.reduce, function=np.log, floor=FLOOR,
            tolerance=0.0, max_steps=min(steps, max_steps), null_xc=relative.null_xc, keep_basis=True,
        )  # fmt: skip
        matrices = [_derivative_matrix(spaces, b, method) for b in range(len(chosen))]
        tail = max((_tail(m) for m, done in zip(matrices, spaces.exhausted_b, strict=True) if not done), default=0.0)
        if tail <= tolerance or steps >= max_steps:
            break
        steps = int(_MORE_STEPS * steps)
    vectors, weights = [], []
    largest = max((float(np.abs(m).max(initial=0.0)) for m in matrices), default=0.0)
    for b, matrix in enumerate(matrices):
        weight_k, s_jk = np.linalg.eigh(matrix)
        for k in np.flatnonzero(np.abs(weight_k) > 1e-15 * largest):
            y_x = sum((s_jk[j, k] * spaces.basis_jxb[j][:, b] for j in range(len(weight_k))), np.zeros(len(start_xb)))
            vectors.append(y_x)
            weights.append(weight_k[k])
    u_ndk = relative.to_sites(np.array(vectors).reshape(len(vectors), len(start_xb)).T)
    result = SiteGradient(
        value=-0.5 * float(spaces.function(np.log, floor=FLOOR).sum()),
        gradient_nd=third.quadratic(u_ndk, np.array(weights)),
        steps=int(spaces.steps_b.max(initial=0)),
        tail=tail,
    )
    if tail > tolerance:
        raise ConvergenceError(
            f"the derivative of the entropy of site {site} has not converged to {tolerance:g} in {max_steps} Lanczos "
            f"steps; the last two brought {tail:.1e} of it",
            result,
        )
    return result


def _derivative_matrix(spaces: LanczosSpaces, b: int, method: str) -> FloatArray:
    """-1/2 n^2 C over the normalised basis of vector b; without steps it is empty."""
    n = int(spaces.steps_b[b])
    beta = spaces.beta_bj[b, : n - 1] if n else np.zeros(0)
    t_jj = np.diag(spaces.alpha_bj[b, :n]) + np.diag(beta, 1) + np.diag(beta, -1) if n else np.zeros((0, 0))
    theta_k, s_jk = np.linalg.eigh(t_jj)
    keep = theta_k > FLOOR
    if not keep.any():
        return np.zeros((n, n))
    if method == "ritz":
        first_k = s_jk[0, keep]
        inner_kk = log_divided_differences(theta_k[keep]) * np.outer(first_k, first_k)
        c_jj = s_jk[:, keep] @ inner_kk @ s_jk[:, keep].T
    else:
        low, high = float(theta_k[keep].min()), float(theta_k[keep].max())
        contour = slit_contour(low, high, nodes_for(slit_contour(low, high, 1), 1e-15))
        unit_j = np.eye(n)[0]
        r_qj = np.array([np.linalg.solve(z * np.eye(n) - t_jj, unit_j) for z in contour.node_q])
        c_jj = np.einsum("q,qj,qk->jk", contour.weights(np.log), r_qj, r_qj).imag
    return np.asarray(-0.5 * spaces.norm2_b[b] * 0.5 * (c_jj + c_jj.T))


def _tail(matrix_jj: FloatArray) -> float:
    """Norm of the last two rows relative to the whole."""
    size = float(np.linalg.norm(matrix_jj))
    return float(np.linalg.norm(matrix_jj[-2:])) / size if size > 0.0 else 0.0
