"""The patch test of a QM/MM coupling: which forces it has where there should be none, and how far they drive it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Relax
from parmlip.errors import ConvergenceError, GeometryError
from parmlip.mechanics.energy_mixing import MixedEnergy
from parmlip.mechanics.line_search import largest
from parmlip.mechanics.relax import Equilibrium, relax

logger = logging.getLogger(__name__)

RealArray = NDArray[np.float64]


@dataclass(frozen=True)
class Patch:
    """What became of the homogeneous crystal, which is at rest by either law."""

    displacement_ad: RealArray  # (n_sites, d) angstrom, the same on every rank
    start_force: float  # largest component before, eV / angstrom
    drift: float  # largest component of the displacement, angstrom
    converged: bool  # to the force tolerance; a crystal that ghost forces have made unstable does not


def relaxed_patch(energy: MixedEnergy, settings: Relax, *, what: str) -> Patch:
    """Relax from the homogeneous crystal, u = 0. A failure is a result. Collective on ``energy.comm``.

    References
    ----------
    Chen, Ortner, Wang, "QM/MM methods for crystalline defects. Part 3" (2021), section 4.2.1, figure 4.2(b).
    """
    start_nd = np.zeros_like(energy.zero_nd)
    _, f_nd = energy.difference_and_forces(start_nd)
    u_nd, converged = start_nd, False
    try:
        found = relax(energy, start_nd, settings, what=what)
        u_nd, converged = found.u_nd, True
    except ConvergenceError as error:
        if isinstance(error.result, Equilibrium):
            u_nd = error.result.u_nd
        logger.warning("%s", error)
    except GeometryError as error:  # the crystal has left the law's range
        logger.warning("%s: %s", what, error)
    return Patch(energy.sites.gather_to_all(u_nd), largest(f_nd, energy.comm), largest(u_nd, energy.comm), converged)
