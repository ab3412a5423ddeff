"""Limited-memory BFGS directions with the bulk Green's function as the initial inverse Hessian."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.line_search import State, dot
from parmlip.parallel.sites import Sites

FloatArray = NDArray[np.float64]

_MEMORY = 20
_STIFFNESS = 20.0  # eV / angstrom^2: scale of the first step where there is no Green's function


class LbfgsDirection:
    """The two-loop recursion on distributed vectors (Nocedal and Wright, Numerical Optimization, 2nd ed., alg. 7.4).

    The initial inverse Hessian is gamma G, gamma = s.y / y.G y of the last step (G = 1 without a Green's function).
    """

    def __init__(self, sites: Sites, green: BulkGreen | None) -> None:
        self.comm = sites.comm
        self.green = green
        self._pairs: deque[tuple[FloatArray, FloatArray, float]] = deque(maxlen=_MEMORY)
        self._gamma = 1.0 if green is not None else 1.0 / _STIFFNESS

    def __call__(self, state: State, _force_tolerance: float) -> tuple[FloatArray, int, bool]:
        """The direction (n_owned, d); no inner iterations, no negative curvature. Collective."""
        q_nd = state.f_nd.copy()
        weights = []
        for s_nd, y_nd, product in reversed(self._pairs):
            weight = dot(s_nd, q_nd, self.comm) / product
            q_nd -= weight * y_nd
            weights.append(weight)
        q_nd = self._gamma * self._initial(q_nd)
        for (s_nd, y_nd, product), weight in zip(self._pairs, reversed(weights), strict=True):
            q_nd += (weight - dot(y_nd, q_nd, self.comm) / product) * s_nd
        return q_nd, 0, False

    def accepted(self, before: State, after: State) -> None:
        """Learn from a step; one without positive curvature is left out. Collective."""
        s_nd, y_nd = after.u_nd - before.u_nd, before.f_nd - after.f_nd
        product, square = dot(s_nd, y_nd, self.comm), dot(y_nd, self._initial(y_nd), self.comm)
        if product > 1e-10 * np.sqrt(dot(s_nd, s_nd, self.comm) * dot(y_nd, y_nd, self.comm)):
            self._pairs.append((s_nd, y_nd, product))
            self._gamma = product / square

    def _initial(self, r_nd: FloatArray) -> FloatArray:
        return self.green(r_nd) if self.green is not None else r_nd
