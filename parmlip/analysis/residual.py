"""A posteriori estimate of a surrogate's geometry error: the reference's forces at the surrogate's equilibrium.

No equilibrium of the reference is needed, only one evaluation of its forces. With e the error and f the forces,
f = H e + O(e^2), so that the dual norm of f lies between the least and the largest <H v, v> / ||Dv||^2 times ||De||;
and e = H~^-1 f to first order in e and in the error of the surrogate's Hessian H~.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen, without_translation
from parmlip.mechanics.line_search import dot
from parmlip.mechanics.response import Response
from parmlip.mechanics.stencil_space import StencilSpace

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Residual:
    """What the reference's forces at a surrogate's equilibrium tell."""

    dual: float  # their dual norm, eV / angstrom
    geometry: float  # ||D H~^-1 f||, angstrom: the geometry error to first order
    energy: float  # <f, H~^-1 f> / 2, eV: what the state lies above the reference's own equilibrium, likewise


def residual(
    reference: Energy, surrogate: Energy, u_nd: FloatArray, space: StencilSpace, green: BulkGreen | None = None
) -> Residual:
    """Estimates at the surrogate's equilibrium `u_nd`, (n_owned, d), angstrom.

    Collective on ``surrogate.comm``. Both energies are of the same cell on the same communicator; `green` is the
    surrogate's, which preconditions the one solve.

    Raises
    ------
    ConvergenceError
        The state is no minimum of the surrogate.
    GeometryError
        The reference refuses the state.
    """
    _, f_nd = reference.difference_and_forces(u_nd)
    f_nd = without_translation(f_nd, surrogate.sites)
    with Response(surrogate, u_nd, green) as response:
        e_nd = response(f_nd)
    return Residual(space.dual_norm(f_nd), space.norm(e_nd), 0.5 * dot(f_nd, e_nd, surrogate.comm))
