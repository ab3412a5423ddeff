"""Traces of a block-circulant operator times the Hessian, exact, with the operator's blocks where H has any.

Nothing of the size of the Hessian is stored: site Hessians are made for a part of the sites at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from mpi4py import MPI
from numba import njit
from numpy.typing import NDArray

from parmlip.errors import GeometryError
from parmlip.mechanics.assembly import row_pattern
from parmlip.mechanics.energy import Energy
from parmlip.numerics.lattice_fourier import BlockCirculant
from parmlip.parallel.comm import in_step
from parmlip.potentials.base import BlockPattern, Environments, IntArray, Origin

FloatArray = NDArray[np.float64]

# Centres whose site Hessians are made at a time: some 10 MB of blocks.
_CENTRES = 500


def trace_with(operator: BlockCirculant, energy: Energy, u_nd: FloatArray, off_grid: float) -> float:
    """Tr(G H) with G the block-circulant `operator` on the perfect grid and `off_grid` on sites that are not on it.

    Collective on ``energy.comm``. H is the Hessian at the displacement `u_nd`, eV / angstrom^2; vacant grid sites have
    zero rows. Costs one assembly, O(nnz).
    """
    supercell, d = energy.supercell, energy.dimension
    grid = supercell.grid
    assert grid is not None  # the operator lives on it
    environments = energy.environments(u_nd)
    domain = energy.domain
    grid_m = grid.number_a[domain.halo.global_m]
    n_basis = grid.lattice.n_basis
    cell_mc = np.stack(np.unravel_index(np.maximum(grid_m, 0) // n_basis, grid.repeats), axis=-1)
    blocks = _Blocks(operator, energy.law.cutoff + energy.margin, grid.lattice.cell(grid.lattice_constant), energy.comm)
    sums = []
    with in_step(energy.comm, "tracing the Hessian"):
        for local_k, part, site_p in _parts(environments, domain.site_p):
            first_r, column_b = row_pattern(part.first_n, site_p, len(local_k))
            h_bcd = energy.law.hessian_blocks(part, site_p, BlockPattern(first_r, column_b))
            sums.append(
                _trace(
                    first_r, column_b, np.ascontiguousarray(h_bcd[:, :d, :d]), cell_mc[local_k], grid_m[local_k],
                    n_basis, np.array(grid.repeats), blocks.low_c, blocks.block_xyzij, off_grid,
                )
            )  # fmt: skip
    total = np.array([math.fsum(sums)])
    energy.comm.Allreduce(MPI.IN_PLACE, total, op=MPI.SUM)
    if not np.isfinite(total[0]):
        raise GeometryError("sites interact that are cells apart on the lattice: displacements are too large for it")
    return float(total[0])


def _parts(environments: Environments, site_p: IntArray) -> Iterator[tuple[IntArray, Environments, IntArray]]:
    """Some centres at a time: local numbers of the sites involved (centres first), environments, neighbours in them."""
    first_n, n = environments.first_n, len(environments.first_n) - 1
    place_m = np.full(max(int(site_p.max(initial=0)) + 1, n), -1, dtype=np.int64)
    for start in range(0, n, _CENTRES):
        end = min(start + _CENTRES, n)
        pairs = slice(int(first_n[start]), int(first_n[end]))
        neighbour_p = site_p[pairs]
        others = np.unique(neighbour_p[(neighbour_p < start) | (neighbour_p >= end)])
        local_k = np.concatenate([np.arange(start, end), others])
        place_m[local_k] = np.arange(len(local_k))
        origin = environments.origin
        if origin is not None:
            origin = Origin(origin.bond_pc[pairs], origin.global_n[start:end])
        part = Environments(
            first_n[start : end + 1] - first_n[start], environments.r_pc[pairs], environments.species_n[start:end],
            environments.species_p[pairs], origin,
        )  # fmt: skip
        yield local_k, part, place_m[neighbour_p]


class _Blocks:
    """Blocks of the operator between a site at a cell offset and one at the origin, on every rank.

    For all offsets that two neighbours of one site can have.
    """

    def __init__(self, operator: BlockCirculant, reach: float, cell_cc: FloatArray, comm: MPI.Comm) -> None:
        transform, m = operator.transform, operator.n_components
        # Sites of one environment are within twice the reach; a cell more for their places in their cells, one more
        # for what displacements may add.
        height_c = 1.0 / np.linalg.norm(np.linalg.inv(cell_cc), axis=0)
        axes, low = [], []
        for n, height in zip(transform.shape, height_c, strict=True):
            width = 2 + math.ceil(2.0 * reach / height)
            whole = 2 * width + 1 >= n
            low.append(0 if whole else -width)
            axes.append(np.arange(n) if whole else np.arange(-width, width + 1))
        self.low_c = np.array(low)
        x, y, z = (axis % n for axis, n in zip(axes, transform.shape, strict=True))
        start, end = transform.x_bounds[comm.rank : comm.rank + 2]
        here = np.flatnonzero((x >= start) & (x < end))
        self.block_xyzij = np.zeros((len(x), len(y), len(z), m, m))
        for j in range(m):  # one column at a time: all together are m times the grid
            unit = np.zeros((transform.n_x, *transform.shape[1:], m))
            if start == 0 and end > 0:
                unit[0, 0, 0, j] = 1.0
            self.block_xyzij[here, ..., j] = operator.apply(unit)[np.ix_(x[here] - start, y, z)]
        comm.Allreduce(MPI.IN_PLACE, self.block_xyzij, op=MPI.SUM)


@njit(cache=True)
def _trace(
    first_r: IntArray, column_b: IntArray, h_bcd: FloatArray, cell_kc: IntArray, grid_k: IntArray, n_basis: int,
    shape_c: IntArray, low_c: IntArray, block_xyzij: FloatArray, off_grid: float,
) -> float:  # fmt: skip
    """Sum over blocks of G_ij : H_ij."""
    d = h_bcd.shape[1]
    total = 0.0
    o = np.empty(3, np.int64)
    for i in range(len(first_r) - 1):
        for b in range(first_r[i], first_r[i + 1]):
            j = column_b[b]
            if grid_k[i] < 0 or grid_k[j] < 0:
                if i == j:
                    for c in range(d):
                        total += off_grid * h_bcd[b, c, c]
                continue
            for c in range(3):
                o[c] = (cell_kc[i, c] - cell_kc[j, c]) % shape_c[c]
                if low_c[c] < 0:
                    if o[c] > shape_c[c] + low_c[c] - 1:
                        o[c] -= shape_c[c]
                    o[c] -= low_c[c]
                if not 0 <= o[c] < block_xyzij.shape[c]:
                    return np.nan  # two neighbours of a site that are further apart than any should be
            s, t = (grid_k[i] % n_basis) * d, (grid_k[j] % n_basis) * d
            part = 0.0
            for c in range(d):
                for e in range(d):
                    part += block_xyzij[o[0], o[1], o[2], s + c, t + e] * h_bcd[b, c, e]
            total += part
    return total
