"""Response of a coupled equilibrium to forces, with the Hessian of an energy near it."""

from __future__ import annotations

import logging
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.mechanics import hessian
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.crystal_stiffness import crystal_hessian
from parmlip.mechanics.force_balance import solved
from parmlip.mechanics.line_search import dot

logger = logging.getLogger(__name__)

_EXACT: Final = 1e-4  # relative residual: with an approximate Hessian nothing is gained by more
_TOLD: Final = 0.05  # a larger one is told


class CoupledResponse:
    """f -> H^-1 f, one Hessian for many f, which need not be definite; serves as a context manager.

    Collective on ``energy.comm``, as is every use.

    Parameters
    ----------
    energy : ClampedEnergy
    u_nd : ndarray, shape (n_owned, d)
        Where the Hessian is taken, angstrom.
    perfect : ClampedDomain, optional
        The domain without its defects, to take the perfect crystal's Hessian, which `HybridOnCrystal` has too.
    """

    def __init__(self, energy: ClampedEnergy, u_nd: NDArray[np.float64], perfect: ClampedDomain | None) -> None:
        self._comm = energy.comm
        if perfect is not None:
            self._matrix = crystal_hessian(energy.law, perfect, energy, comm=energy.comm)
        else:
            energy.environments(u_nd)  # renews the pair lists if need be
            self._matrix = hessian.assembled(energy, u_nd)

    def __call__(self, f_nd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacement (n_owned, d), angstrom, by forces (n_owned, d), eV / angstrom."""
        s_nd, iterations = solved(None, self._matrix, f_nd, _EXACT, comm=self._comm)
        left = self._left(f_nd, s_nd)
        if left > _TOLD:
            logger.warning(
                "the response to forces is solved to %.1e after %d iterations: estimates that use it may be wrong",
                left, iterations,
            )  # fmt: skip
        return s_nd

    def _left(self, f_nd: NDArray[np.float64], s_nd: NDArray[np.float64]) -> float:
        """|f - H s| / |f|, 0 for no forces."""
        s, hs = self._matrix.createVecs()
        s.getArray()[:] = s_nd.reshape(-1)
        self._matrix.mult(s, hs)
        r_nd = f_nd - hs.getArray(readonly=True).reshape(f_nd.shape)
        square, whole = dot(r_nd, r_nd, self._comm), dot(f_nd, f_nd, self._comm)
        s.destroy()
        hs.destroy()
        return sqrt(square / whole) if whole > 0.0 else 0.0

    def __enter__(self) -> CoupledResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self._matrix.destroy()
