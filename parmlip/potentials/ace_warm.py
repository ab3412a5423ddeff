"""Compiles the kernels of the cluster expansion, so that programs that follow load them."""

from __future__ import annotations

import numpy as np

from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.base import BlockPattern, Environments


def warm() -> float:
    """Call every kernel once on two sites of a small basis; returns the largest error of what they must agree in.

    Energy and gradients, their complex step, basis values, design rows, the Hessian: what is compiled here is kept by
    numba in its cache. One process should do this before others start, or each compiles for itself.
    """
    law = ACE(ACEBasis(("W",), 2, 4, cutoff=5.0, r0=2.7), np.ones(ACEBasis(("W",), 2, 4, cutoff=5.0, r0=2.7).n_basis))
    bond = np.array([1.5, 1.2, 1.9])
    neighbour = np.array([1, 0])
    kind = np.zeros(2, np.int64)
    e = Environments(np.arange(3), np.array([bond, -bond]), kind, kind)
    value_n, g_pc = law.site_gradients(e)
    energy_k, force_nck, _ = law.basis.design(e, neighbour, 2)
    blocks = law.hessian_blocks(e, neighbour, BlockPattern(np.array([0, 2, 4]), np.array([0, 1, 0, 1])))
    u_nc = np.array([[0.3, -0.2, 0.1], [0.0, 0.0, 0.0]])
    slope_pc = law.linearised(e)(u_nc[neighbour] - u_nc)
    force = g_pc[0] - g_pc[1]
    change = slope_pc[1] - slope_pc[0]
    errors = (
        (law.basis.site_values(e) @ law.coefficients - value_n) / value_n,
        (energy_k @ law.coefficients - value_n.sum()) / value_n.sum(),
        (force_nck[0] @ law.coefficients - force) / np.linalg.norm(force),
        (blocks[0] @ u_nc[0] - change) / np.linalg.norm(change),
    )
    return max(float(np.abs(error).max()) for error in errors)
