"""Minima: relaxations that leave saddles, on which symmetric starts end."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Relax
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.extremes import RitzValues, ritz_values
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.line_search import dot, largest
from parmlip.mechanics.relax import Equilibrium, bulk_green, relax
from parmlip.mechanics.stability import Product

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_PUSH: Final = 0.1  # angstrom, largest component
_PUSHES: Final = 3  # a state of higher index is left mode by mode
_ACCURACY: Final = 1e-3  # of the lowest eigenvalue, relative to the largest
_STEPS: Final = 120


def relax_to_minimum(
    energy: Energy, u0_nd: FloatArray, settings: Relax, *, toward_nd: FloatArray | None = None, what: str
) -> Equilibrium:
    """The equilibrium reached downhill from `u0_nd`, and on along negative modes until there are none.

    `relax` leaves a saddle that the start's symmetry holds it on by rounding alone, if `force_tolerance` gives it time
    for that, and to a side that rounding chooses. Here the side hangs on global site numbers, or on `toward_nd`.

    Collective on ``energy.comm``.

    Parameters
    ----------
    energy, u0_nd, settings, what
        As for `relax`.
    toward_nd : ndarray, shape (n_owned, d), optional
        A state, angstrom: of the two ways down from a saddle the one that nears it is taken.

    Raises
    ------
    ConvergenceError
        `result` is the Equilibrium that was reached.
    GeometryError
        The start is not finite or outside the law's range.
    """
    green = bulk_green(energy)
    found = relax(energy, u0_nd, settings, green=green, what=what)
    for _ in range(_PUSHES):
        lowest, v_nd = _lowest_mode(energy, found.u_nd, green)
        if v_nd is None:
            break
        v_nd = v_nd * (_PUSH / largest(v_nd, energy.comm))
        if toward_nd is not None and dot(v_nd, toward_nd - found.u_nd, energy.comm) < 0.0:
            v_nd = -v_nd
        logger.info("%s: a saddle, lowest eigenvalue %.3g; on along its mode", what, lowest)
        found = relax(energy, found.u_nd + v_nd, settings, green=green, what=what)
    return found


def _lowest_mode(energy: Energy, u_nd: FloatArray, green: BulkGreen | None) -> tuple[float, FloatArray | None]:
    """The lowest eigenvalue, and its mode if it is negative."""

    def done(found: RitzValues) -> bool:
        return found.residual_lowest <= _ACCURACY * found.scale

    with Product(energy, u_nd) as product:
        found = ritz_values(
            product, green, done, energy.sites, energy.dimension, max_steps=_STEPS, seed=1, n_vectors=1,
            clamped_n=energy.clamped_n,
        )  # fmt: skip
    lowest = float(found.values[0])
    # Ritz values bound eigenvalues from above; a null mode is within rounding of nought
    return lowest, found.vectors[0] if lowest < -_ACCURACY * found.scale else None
