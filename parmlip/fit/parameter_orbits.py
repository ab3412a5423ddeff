"""Components of the Cauchy-Born tensors that the isometries of the crystal take into each other. Local."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from parmlip.fit.observations import IntArray, RealArray
from parmlip.fit.patches import Crystal

_NEAR = 1e-6


def parameter_maps(crystal: Crystal) -> tuple[IntArray, IntArray]:
    """Where isometries of the crystal take the parameters of `CauchyBorn`, and with what sign, (n_maps, n).

    Those that take coordinate axes into axes and cells into cells, translations by less than a cell included: in
    diamond 192. W does not change under them: W(F, p) = W(Q F Q^T, p'), where p' are the shifts Q p of the sites where
    the basis sites come. The identity is among them.
    """
    lattice = crystal.lattice
    d, cell_cc = lattice.dimension, lattice.cell(crystal.lattice_constant)
    x_bc, inverse = lattice.basis_bc @ cell_cc, np.linalg.inv(cell_cc)
    maps, signs = [], []
    for axes, sign_c in product(permutations(range(d)), product((1, -1), repeat=d)):
        axis, sign = np.array(axes), np.array(sign_c, dtype=np.int64)
        turn_cc = np.eye(3)
        turn_cc[:d, :d] = 0.0
        turn_cc[axis, np.arange(d)] = sign  # takes axis c to sign[c] times axis[c]
        cells_cc = cell_cc @ turn_cc.T @ inverse
        if np.abs(cells_cc - np.round(cells_cc)).max() > _NEAR:
            continue
        for centre_c in x_bc:  # where site 0 comes
            apart_bbc = (((x_bc - x_bc[0]) @ turn_cc.T + centre_c)[:, None] - x_bc[None]) @ inverse
            same_bb = np.abs(apart_bbc - np.round(apart_bbc)).max(axis=2) < _NEAR
            site_b = same_bb.argmax(axis=1)
            if not (same_bb.sum(axis=1) == 1).all() or (lattice.slot_b[site_b] != lattice.slot_b).any():
                continue
            strain = [axis[i] * d + axis[j] for i in range(d) for j in range(d)]
            shift = [d * d + site_b[b] * d + axis[c] for b in range(lattice.n_basis) for c in range(d)]
            maps.append([*strain, *shift])
            signs.append([*np.outer(sign, sign).reshape(-1), *np.tile(sign, lattice.n_basis)])
    return np.array(maps, dtype=np.int64), np.array(signs, dtype=np.int64)


def component_orbits(crystal: Crystal, tuples: IntArray, scale_o: RealArray) -> tuple[IntArray, RealArray]:
    """One component of each orbit, and the square root of how many it stands for.

    Of an orbit the tuple that comes first, its parameters in rising order, is there, in falling order: its last two
    (three) parameters are then the first of the orbit of this pair (triple), so that there are as few different pairs
    (triples) as can be. Components that an isometry takes into minus themselves are zero and left out.

    Parameters
    ----------
    crystal : Crystal
    tuples : ndarray, shape (n_components, order)
        All tuples of parameters in rising order.
    scale_o : ndarray, shape (n_components,)
        Square root of the number of orderings of each.
    """
    maps, signs = parameter_maps(crystal)
    weights = maps.shape[1] ** np.arange(tuples.shape[1])[::-1]  # the first index counts most
    own = tuples @ weights
    lowest, zero = own.copy(), np.zeros(len(tuples), dtype=bool)
    for to, sign in zip(maps, signs, strict=True):
        code = np.sort(to[tuples], axis=1) @ weights
        zero |= (code == own) & (np.prod(sign[tuples], axis=1) < 0)
        np.minimum(lowest, code, out=lowest)
    stands_for = np.zeros(int(own.max()) + 1)
    np.add.at(stands_for, lowest, scale_o**2)
    chosen = (lowest == own) & ~zero
    return tuples[chosen][:, ::-1], np.sqrt(stands_for[own[chosen]])
