"""Components of the Cauchy-Born tensors that the isometries of the crystal take into each other. Local."""

from __future__ import annotations

import numpy as np

from parmlip.fit.observations import IntArray, RealArray
from parmlip.fit.patches import Crystal, patch_of, symmetries

_NEAR = 1e-6


def parameter_maps(crystal: Crystal) -> tuple[IntArray, IntArray]:
    """Where isometries that keep basis site 0 take the parameters of `CauchyBorn`, and with what sign, (n_maps, n).

    Those that take coordinate axes into axes; W does not change under them: W(F, p) = W(Q F Q^T, p'), where p' are the
    shifts Q p of the sites where the basis sites come. The identity is among them.
    """
    lattice = crystal.lattice
    d, cell_cc = lattice.dimension, lattice.cell(crystal.lattice_constant)
    reach = 1.01 * float(np.linalg.norm(cell_cc[:d], axis=1).max())
    patch = patch_of(crystal, 0, reach)
    x_bc = (lattice.basis_bc - lattice.basis_bc[0]) @ cell_cc
    inverse = np.linalg.inv(cell_cc)
    maps, signs = [], []
    for to_a in symmetries(patch, d):
        turn_cc = np.linalg.lstsq(patch.positions_ac[:, :d], patch.positions_ac[to_a, :d], rcond=None)[0].T
        if (np.abs(np.abs(turn_cc).max(axis=0) - 1.0) > _NEAR).any():
            continue
        axis, sign = np.abs(turn_cc).argmax(axis=0), np.sign(turn_cc.sum(axis=0)).astype(np.int64)
        turned_bc = x_bc.copy()
        turned_bc[:, :d] = x_bc[:, :d] @ turn_cc.T
        apart_bbc = (turned_bc[:, None] - x_bc[None]) @ inverse
        same_bb = np.abs(apart_bbc - np.round(apart_bbc)).max(axis=2) < _NEAR
        if not (same_bb.sum(axis=1) == 1).all():
            continue
        site_b = same_bb.argmax(axis=1)
        if (lattice.slot_b[site_b] != lattice.slot_b).any():
            continue
        strain = [axis[i] * d + axis[j] for i in range(d) for j in range(d)]
        shift = [d * d + site_b[b] * d + axis[c] for b in range(lattice.n_basis) for c in range(d)]
        maps.append([*strain, *shift])
        signs.append([*np.outer(sign, sign).reshape(-1), *np.tile(sign, lattice.n_basis)])
    return np.array(maps, dtype=np.int64), np.array(signs, dtype=np.int64)


def component_orbits(crystal: Crystal, tuples: IntArray, scale_o: RealArray) -> tuple[IntArray, RealArray]:
    """One component of each orbit, that with the least last index, and the square root of how many it stands for.

    Components that an isometry takes into minus themselves are zero and left out.

    Parameters
    ----------
    crystal : Crystal
    tuples : ndarray, shape (n_components, order)
        All sorted tuples of parameters.
    scale_o : ndarray, shape (n_components,)
        Square root of the number of orderings of each.
    """
    maps, signs = parameter_maps(crystal)
    weights = maps.shape[1] ** np.arange(tuples.shape[1])  # the last index counts most
    own = tuples @ weights
    lowest, zero = own.copy(), np.zeros(len(tuples), dtype=bool)
    for to, sign in zip(maps, signs, strict=True):
        code = np.sort(to[tuples], axis=1) @ weights
        zero |= (code == own) & (np.prod(sign[tuples], axis=1) < 0)
        np.minimum(lowest, code, out=lowest)
    stands_for = np.zeros(int(own.max()) + 1)
    np.add.at(stands_for, lowest, scale_o**2)
    chosen = (lowest == own) & ~zero
    return tuples[chosen], np.sqrt(stands_for[own[chosen]])
