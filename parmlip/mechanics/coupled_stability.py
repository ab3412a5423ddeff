"""Is a balance of mixed forces stable? The eigenvalue of least real part of their Jacobian."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.mechanics.arnoldi import LeftmostValues, leftmost_values
from parmlip.mechanics.force_mixing import HybridForces
from parmlip.mechanics.green import BulkGreen

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BalanceStability:
    """Eigenvalue of J v = lambda H_bulk v of least real part (in eV / angstrom^2 if not `relative`)."""

    stable: bool  # its real part is positive
    lowest: complex  # that of a pair with the positive imaginary part
    residual: float  # in the same unit
    steps: int
    relative: bool  # to the bulk; 1 is the perfect crystal with one law


def balance_stability(
    hybrid: HybridForces,
    u_nd: FloatArray,
    green: BulkGreen | None,
    *,
    tolerance: float = 1e-3,
    max_steps: int = 120,
    seed: int = 1,
) -> BalanceStability:
    """Arnoldi for G J, J = -dF^H/du, in the inner product of G^-1, as `stability` has Lanczos for G H.

    Forces that are no gradient have no minima: a balance is stable if small deviations die out in u' = G F^H(u). J is
    nearly symmetric, and so the sign hardly hangs on the metric G: det J = 0 is where a real eigenvalue changes its
    sign in every metric.

    Collective on ``hybrid.comm``.

    Parameters
    ----------
    hybrid : HybridForces
        Whose QM forces have derivatives.
    u_nd : ndarray, shape (n_owned, d)
        The balance, whole displacement, angstrom.
    green : BulkGreen or None
        Of ``hybrid.energy``; None for G = 1, which may need many more steps.
    tolerance : float
        Wanted residual of the eigenvalue, relative to the largest.
    """
    energy = hybrid.energy

    def done(found: LeftmostValues) -> bool:
        return found.residual <= tolerance * found.scale

    mm = hybrid.mm_hessian(u_nd)
    jacobian = hybrid.jacobian(u_nd, mm)
    x, y = mm.createVecs()

    def product(v_nd: FloatArray) -> FloatArray:
        x.getArray()[:] = v_nd.reshape(-1)
        jacobian.mult(x, y)
        return np.array(y.getArray(readonly=True).reshape(v_nd.shape))

    try:
        found = leftmost_values(
            product, green, done, energy.sites, energy.dimension, max_steps=max_steps, seed=seed,
            clamped_n=hybrid.clamped_n,
        )  # fmt: skip
    finally:
        for handle in (x, y, jacobian, mm):
            handle.destroy()
    lowest, steps = complex(found.values[0]), len(found.values)
    if not done(found):
        logger.warning(
            "lowest eigenvalue %.6g has the residual %.1e after %d Arnoldi steps", lowest.real, found.residual, steps
        )
    return BalanceStability(lowest.real > 0.0, lowest, found.residual, steps, green is not None)
