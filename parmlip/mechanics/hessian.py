"""The Hessian of a distributed energy: assembled (PETSc AIJ, block size d) or matrix-free (PETSc shell)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.mechanics.assembly import bond_differences, merge_rows, row_pattern
from parmlip.mechanics.energy import Energy
from parmlip.parallel.comm import in_step
from parmlip.potentials.base import BlockPattern


class HessianPattern:
    """Where the blocks of all site Hessians go: made once per pair list, used for every assembly.

    Collective on ``energy.comm``. A rank's site Hessians reach rows of ghosts; those rows travel to their owners.
    """

    def __init__(self, energy: Energy) -> None:
        domain, halo = energy.domain, energy.domain.halo
        self.builds = energy.builds
        self.halo = halo
        first_r, column_b = row_pattern(domain.first_n, domain.site_p, halo.n_local)
        self.local = BlockPattern(first_r, column_b)
        number_b = halo.number_m[column_b]
        sent = []
        for _, low, high in halo.receive_ranges:
            blocks = slice(first_r[low], first_r[high])
            sent.append((np.diff(first_r[low : high + 1]), number_b[blocks]))
        received = halo.exchange_lists(sent)
        n_own = first_r[halo.n_owned]
        lengths = [np.diff(first_r[: halo.n_owned + 1])] + [lengths for _, (lengths, _) in received]
        rows = [np.arange(halo.n_owned)] + [rows for rows, _ in received]
        columns = [number_b[:n_own]] + [numbers for _, (_, numbers) in received]
        first_s = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        self.first_r, self.number_b, place_x = merge_rows(
            first_s, np.concatenate(rows), np.concatenate(columns), halo.n_owned
        )
        edges = np.cumsum([len(c) for c in columns])
        self._place_own = place_x[: edges[0]]
        self._place_received = [place_x[edges[i] : edges[i + 1]] for i in range(len(received))]

    def merge(self, h_bcd: NDArray[np.float64], d: int) -> NDArray[np.float64]:
        """Rows of the owned sites, (n_blocks, d, d), from the local sums of all ranks. Collective."""
        comm = self.halo.comm
        h_bcd = np.ascontiguousarray(h_bcd[:, :d, :d])
        merged = np.zeros((len(self.number_b), d, d))
        merged[self._place_own] = h_bcd[: len(self._place_own)]
        buffers = [np.empty((len(place), d, d)) for place in self._place_received]
        requests = [comm.Irecv(b, source=rank) for (rank, _), b in zip(self.halo.send_rows, buffers, strict=True)]
        first_r = self.local.first_r
        requests += [
            comm.Isend(h_bcd[first_r[low] : first_r[high]], dest=rank) for rank, low, high in self.halo.receive_ranges
        ]
        for request in requests:
            request.Wait()
        for place, buffer in zip(self._place_received, buffers, strict=True):
            merged[place] += buffer  # a neighbour's entries are distinct, so no addition is lost
        return merged


def assembled(energy: Energy, u_nd: NDArray[np.float64], pattern: HessianPattern | None = None) -> PETSc.Mat:
    """d2E/du2 as an AIJ matrix with block size d; translations are its null space and near null space.

    Rows and columns of clamped sites are those of the identity; there is no null space then.

    Collective on ``energy.comm``. `pattern` of an earlier call is used when the pair lists are still the same. AIJ
    rather than BAIJ: PETSc's algebraic multigrid refuses the latter.
    """
    d = energy.dimension
    energy.environments(u_nd)  # renews the pair lists if need be
    if pattern is None or pattern.builds != energy.builds:
        pattern = HessianPattern(energy)
    merged = block_rows(energy, u_nd, pattern)
    n = energy.sites.n_owned
    start, end = energy.sites.start, energy.sites.start + n
    inside = (pattern.number_b >= start) & (pattern.number_b < end)
    row_b = np.repeat(np.arange(n), np.diff(pattern.first_r))
    diagonal = np.bincount(row_b[inside], minlength=n) * d
    off_diagonal = np.bincount(row_b[~inside], minlength=n) * d
    matrix = PETSc.Mat().create(comm=energy.comm)
    matrix.setSizes(((n * d, energy.sites.n_sites * d), (n * d, energy.sites.n_sites * d)))
    matrix.setBlockSize(d)
    matrix.setType(PETSc.Mat.Type.AIJ)
    integer = PETSc.IntType
    matrix.setPreallocationNNZ((np.repeat(diagonal, d).astype(integer), np.repeat(off_diagonal, d).astype(integer)))
    # Preallocation sets this only on ranks that own rows, and assembly then waits for ever for those that do not:
    # they alone ask the others whether the pattern may change (PETSc 3.18, MatAssemblyEnd_MPIAIJ).
    matrix.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, True)
    matrix.setValuesBlockedCSR(pattern.first_r.astype(integer), pattern.number_b.astype(integer), merged)
    matrix.assemble()
    if energy.clamped_n is not None:
        rows = (energy.sites.start + np.flatnonzero(energy.clamped_n))[:, None] * d + np.arange(d)
        matrix.zeroRowsColumns(rows.ravel().astype(integer), diag=1.0)
    matrix.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    attach_translations(matrix, d, energy.clamped_n)
    return matrix


def block_rows(energy: Energy, u_nd: NDArray[np.float64], pattern: HessianPattern) -> NDArray[np.float64]:
    """Blocks (n_blocks, d, d) of the owned rows, in the order of `pattern`, that of the present pair lists.

    Collective on ``energy.comm``.
    """
    environments = energy.environments(u_nd)
    with in_step(energy.comm, "assembling the Hessian"):
        h_bcd = energy.law.hessian_blocks(environments, energy.domain.site_p, pattern.local)
    return pattern.merge(h_bcd, energy.dimension)


class _Product:
    """Python context of the shell matrix."""

    def __init__(self, energy: Energy, u_nd: NDArray[np.float64]) -> None:
        environments = energy.environments(u_nd)
        self.energy = energy
        self.domain = energy.domain
        self.tangent = energy.law.linearised(environments)
        self.dr_pc = np.empty(environments.r_pc.shape)

    def mult(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = H x."""
        d = self.energy.dimension
        v_nd, clamped_n = x.getArray(readonly=True).reshape(-1, d), self.energy.clamped_n
        moved_nd = v_nd if clamped_n is None else np.where(clamped_n[:, None], 0.0, v_nd)
        bond_differences(self.domain.first_n, self.domain.site_p, self.domain.with_ghosts(moved_nd), self.dr_pc)
        product_nd = self.energy.gradient_from_pairs(self.tangent(self.dr_pc))
        if clamped_n is not None:
            product_nd[clamped_n] = v_nd[clamped_n]
        y.getArray()[:] = product_nd.reshape(-1)


def operator(energy: Energy, u_nd: NDArray[np.float64]) -> PETSc.Mat:
    """d2E/du2 as a shell matrix that applies the law's linearisation: no block is ever stored.

    Collective on ``energy.comm``.
    """
    d = energy.dimension
    size = (energy.sites.n_owned * d, energy.sites.n_sites * d)
    matrix = PETSc.Mat().createPython((size, size), _Product(energy, u_nd), comm=energy.comm)
    matrix.setBlockSize(d)
    matrix.setUp()
    attach_translations(matrix, d, energy.clamped_n)
    return matrix


def attach_translations(matrix: PETSc.Mat, d: int, clamped_n: NDArray[np.bool_] | None = None) -> None:
    """Rigid translations as null space and near null space of `matrix`; of the free sites near it alone. Collective."""
    vectors = []
    for c in range(d):
        v = matrix.createVecLeft()
        v.getArray().reshape(-1, d)[:, c] = 1.0 if clamped_n is None else ~clamped_n
        v.normalize()
        vectors.append(v)
    space = PETSc.NullSpace().create(vectors=vectors, comm=matrix.comm)
    if clamped_n is None:
        matrix.setNullSpace(space)
    matrix.setNearNullSpace(space)
