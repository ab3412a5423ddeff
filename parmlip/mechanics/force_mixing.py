"""Forces that mix two laws: those of a QM law on QM sites, those of an MM law on all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class QMForces(Protocol):
    """What gives the forces on QM sites, F_l of (3.17): those in the cluster of QM region and buffer.

    Displacements are the whole ones, predictor and corrector, from the reference configuration of the supercell that
    the object was made for, and so are the rows of the `Sites` that it was made with: (n_owned, d), angstrom.
    """

    def forces(self, u_nd: FloatArray) -> FloatArray:
        """Forces on the owned sites, (n_owned, d), eV / angstrom; zero off the QM region. Collective."""


@runtime_checkable
class LinearisedQMForces(Protocol):
    """Forces whose derivatives are known. Without them the force balance is found by a quasi-Newton method."""

    def forces(self, u_nd: FloatArray) -> FloatArray:
        """As of `QMForces`."""

    def linearised(self, u_nd: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """The map du -> dF, both (n_owned, d), exact to rounding; zero off the QM region. Collective, and the map."""
