"""dS/du of the total vibrational entropy in a distributed cell: -1/2 Tr(H^+ dH/du_n) for all sites n.

H^+ is found column by column: conjugate gradients on H, preconditioned by the bulk's Green's function, which take 10 to
20 steps at any size. For all sites the work is that of 3 N solutions, which grows with N^2; for chosen sites only the
columns of the sites near them are wanted, so that it grows with N alone. Both are exact.

References
----------
Torabi, Wang, Ortner (2024), eq. (2.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConvergenceError
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.site_entropy import unit_columns
from parmlip.mechanics.third_derivatives import ThirdDerivative

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TotalGradient:
    """dS/du of the whole cell."""

    gradient_nd: FloatArray  # (n_owned, d) k_B / angstrom; zero where it was not asked for
    n_columns: int  # of H^+ that were solved for
    iterations: int  # largest number of a solution
    residual: float  # largest of all solutions, relative


def total_entropy_gradient(
    relative: RelativeHessian,
    third: ThirdDerivative,
    *,
    sites: IntArray | None = None,
    tolerance: float = 1e-11,
    batch: int = 48,
    max_steps: int = 200,
) -> TotalGradient:
    """Derivative of S = -1/2 sum' log(eigenvalues of H) by the displacements of all sites, or of `sites` alone.

    It does not depend on the perfect crystal, whose Green's function only preconditions. Collective on
    ``relative.comm``.

    Parameters
    ----------
    third : ThirdDerivative
        At the state of the Hessian of `relative`.
    sites : ndarray of int, optional
        Global numbers, the same on every rank.
    tolerance : float
        Residual of every column of H^+, relative, in the preconditioner's norm.
    batch : int
        Columns solved together.

    Raises
    ------
    ConvergenceError
        A column did not converge, or H is not positive.
    """
    d = relative.dimension
    trace = third.columns(sites)
    iterations, residual = 0, 0.0
    width = max(1, batch // d)
    for first in range(0, len(trace.needed), width):
        site_b = trace.needed[first : first + width]
        column_ndv, steps, left = inverse_columns(
            relative, np.repeat(site_b, d), np.tile(np.arange(d), len(site_b)), tolerance=tolerance, max_steps=max_steps
        )
        by_site = column_ndv.reshape(-1, d, len(site_b), d).swapaxes(2, 3)  # (n, d of the row, c, site)
        trace.add(site_b, by_site)
        iterations, residual = max(iterations, steps), max(residual, left)
    gradient_nd = -0.5 * trace.result()
    if sites is not None:
        gradient_nd[~np.isin(relative.sites.global_n, sites)] = 0.0
    return TotalGradient(gradient_nd, len(trace.needed) * d, iterations, residual)


def inverse_columns(
    relative: RelativeHessian,
    site_v: IntArray,
    component_v: IntArray,
    *,
    tolerance: float = 1e-11,
    max_steps: int = 200,
) -> tuple[FloatArray, int, float]:
    """Columns of H^+ up to a translation of each, (n_owned, d, n_vectors), the number of steps, the largest residual.

    Collective on ``relative.comm``. `site_v`, `component_v` tell the columns; the same on every rank.

    Raises
    ------
    ConvergenceError
        Not in `max_steps`, or H is not positive definite outside the translations.
    """
    r_xv = relative.from_sites(unit_columns(relative, site_v, component_v))
    x_xv = np.zeros_like(r_xv)
    z_xv = relative.apply_green(r_xv)
    p_xv = z_xv.copy()
    norm_v = relative.reduce(np.einsum("xv,xv->v", r_xv, z_xv))
    first_v = norm_v.copy()
    for step in range(1, max_steps + 1):
        q_xv = relative.apply_h(p_xv)
        curvature_v = relative.reduce(np.einsum("xv,xv->v", p_xv, q_xv))
        live_v = norm_v > (tolerance**2) * first_v
        if (curvature_v[live_v] <= 0.0).any():
            raise ConvergenceError("the Hessian has a negative mode: the derivative of the entropy is not defined")
        alpha_v = np.where(live_v, norm_v / np.where(live_v, curvature_v, 1.0), 0.0)
        x_xv += alpha_v * p_xv
        r_xv -= alpha_v * q_xv
        z_xv = relative.apply_green(r_xv)
        before_v, norm_v = norm_v, np.where(live_v, relative.reduce(np.einsum("xv,xv->v", r_xv, z_xv)), norm_v)
        if not (norm_v > (tolerance**2) * first_v).any():
            return relative.to_sites(x_xv), step, float(np.sqrt((norm_v / first_v).max()))
        p_xv = z_xv + np.where(live_v, norm_v / before_v, 0.0) * p_xv
    left = float(np.sqrt((norm_v / first_v).max()))
    raise ConvergenceError(f"a column of the inverse Hessian did not converge in {max_steps} steps: {left:.1e}")
