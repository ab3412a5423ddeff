"""Is an equilibrium a minimum? The lowest eigenvalues of the Hessian relative to the perfect crystal's."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.extremes import RitzValues, ritz_values
from parmlip.mechanics.green import BulkGreen

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """Lowest eigenvalues of H v = lambda H_bulk v outside the translations (in eV / angstrom^2 if not `relative`)."""

    stable: bool  # all eigenvalues are positive
    lowest: tuple[float, ...]  # ascending Ritz values; each is an upper bound of an eigenvalue
    residual: float  # of the lowest, in the same unit: an eigenvalue lies within it
    steps: int
    relative: bool  # to the bulk; 1 is the perfect crystal


def stability(
    energy: Energy,
    u_nd: FloatArray,
    green: BulkGreen | None,
    *,
    n_lowest: int = 3,
    tolerance: float = 1e-3,
    max_steps: int = 120,
    seed: int = 1,
    assembled: bool = False,
) -> Stability:
    """Lanczos for G H in the inner product of G^-1, with full reorthogonalisation, from a random start.

    By Sylvester's law the signs are those of H itself; the scale makes the far field 1 at any size of the cell, so that
    10 to 40 steps find what a defect adds. Without `green` (G = 1) many more may be needed.

    Collective on ``energy.comm``.

    Parameters
    ----------
    u_nd : ndarray, shape (n_owned, d)
        Displacement, angstrom.
    tolerance : float
        Wanted residual of the lowest Ritz value, relative to the largest.
    seed : int
        Of the start vector, which depends on global site numbers only.
    assembled : bool
        Whether the Hessian is a matrix: more memory, and half of the time where products cost the law much.
    """
    sites, d = energy.sites, energy.dimension

    def done(found: RitzValues) -> bool:
        return found.residual_lowest <= tolerance * found.scale

    with Product(energy, u_nd, assembled=assembled) as product:
        found = ritz_values(product, green, done, sites, d, max_steps=max_steps, seed=seed, clamped_n=energy.clamped_n)
    values, residual, steps = found.values, found.residual_lowest, len(found.values)
    if not done(found):
        logger.warning(
            "lowest eigenvalue %.6g has the residual %.1e after %d Lanczos steps", values[0], residual, steps
        )
    lowest = tuple(float(value) for value in values[:n_lowest])
    return Stability(bool(values[0] > 0.0), lowest, residual, steps, green is not None)


class Product:
    """v -> H v on arrays (n_owned, d). Collective."""

    def __init__(self, energy: Energy, u_nd: FloatArray, *, assembled: bool = False) -> None:
        form = hessian.assembled if assembled else hessian.operator
        self._matrix: PETSc.Mat = form(energy, u_nd)
        self._in, self._out = self._matrix.createVecs()

    def __enter__(self) -> Product:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in (self._in, self._out, self._matrix):
            handle.destroy()

    def __call__(self, v_nd: FloatArray) -> FloatArray:
        """H v. Collective."""
        self._in.getArray()[:] = v_nd.reshape(-1)
        self._matrix.mult(self._in, self._out)
        product: FloatArray = self._out.getArray(readonly=True).reshape(v_nd.shape).copy()
        return product
