"""The bulk Green's function of a law, restricted to the sites that exist: preconditioner of nearly perfect crystals."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.mechanics.bulk import UnitCell
from parmlip.numerics.lattice_fourier import BlockCirculant, LatticeTransform
from parmlip.parallel.sites import Sites
from parmlip.potentials.base import SiteLaw

FloatArray = NDArray[np.float64]


class GridPlan:
    """Moves values between the sites that ranks own and the slabs of the perfect grid: built once, used both ways.

    Collective on ``sites.comm``. Vacant grid sites get zero; interstitials stay out (`off_grid_n` tells which).
    """

    def __init__(self, supercell: Supercell, sites: Sites, transform: LatticeTransform) -> None:
        if supercell.grid is None:
            raise ConfigError("a configuration read from a file has no perfect grid: its Green's function is not known")
        comm = sites.comm
        nx, ny, nz = supercell.grid.repeats
        self.comm = comm
        self.n_basis = supercell.grid.lattice.n_basis
        self.shape = (transform.n_x, ny, nz, self.n_basis)
        number_n = supercell.grid.number_a[sites.global_n]
        self.off_grid_n = number_n < 0
        plane = ny * nz * self.n_basis
        place = np.flatnonzero(~self.off_grid_n)
        rank = np.searchsorted(transform.x_bounds, number_n[place] // plane, side="right") - 1
        self._order = place[np.argsort(rank, kind="stable")]  # owned sites in the order in which they travel
        self._out = np.bincount(rank, minlength=comm.size)
        self._in = np.array(comm.alltoall(self._out.tolist()), dtype=np.int64)
        numbers = np.empty(int(self._in.sum()), dtype=np.int64)
        comm.Alltoallv([number_n[self._order], _layout(self._out)], [numbers, _layout(self._in)])
        self._cell = numbers - int(transform.x_bounds[comm.rank]) * plane

    def to_grid(self, x_nd: FloatArray) -> FloatArray:
        """Owned sites (n_owned, d) to this rank's slab (n_x, ny, nz, n_basis * d). Collective on ``comm``."""
        d = x_nd.shape[1]
        received = np.empty((len(self._cell), d))
        self.comm.Alltoallv([x_nd[self._order], _layout(self._out * d)], [received, _layout(self._in * d)])
        slab = np.zeros((int(np.prod(self.shape)), d))
        slab[self._cell] = received
        return slab.reshape(*self.shape[:3], self.n_basis * d)

    def from_grid(self, x_xyzi: FloatArray, d: int) -> FloatArray:
        """The transpose of `to_grid`. Collective on ``comm``."""
        send = x_xyzi.reshape(-1, d)[self._cell]
        received = np.empty((len(self._order), d))
        self.comm.Alltoallv([send, _layout(self._in * d)], [received, _layout(self._out * d)])
        x_nd = np.zeros((len(self.off_grid_n), d))
        x_nd[self._order] = received
        return x_nd


class BulkGreen:
    """r -> P R G R^T P r: G the inverse force constants of the perfect supercell, R the restriction to existing sites.

    Interstitials get the inverse of the bulk's on-site block, P projects out the translations. Symmetric and positive
    definite on the complement of the translations. With clamped sites P takes these out instead.

    Collective on ``sites.comm``, as is every application.

    Raises
    ------
    UnstableLattice
        The force constants are not positive at some wave vector of the grid. (`relax` then goes on with algebraic
        multigrid or without a preconditioner, see there.)
    """

    def __init__(
        self, law: SiteLaw, supercell: Supercell, sites: Sites, clamped_n: NDArray[np.bool_] | None = None
    ) -> None:
        if supercell.grid is None:
            raise ConfigError("a configuration read from a file has no perfect grid: its Green's function is not known")
        self.clamped_n = clamped_n
        grid, d = supercell.grid, supercell.dimension
        self.sites = sites
        self.dimension = d
        self.transform = LatticeTransform(grid.repeats, comm=sites.comm)
        self.plan = GridPlan(supercell, sites, self.transform)
        cell = UnitCell(law, grid.lattice, grid.lattice_constant, perfect_species(supercell))
        offset_oc, block_oij = cell.force_constants()
        onsite_ij = block_oij[~offset_oc.any(axis=1)][0]
        mean_cd = np.mean([onsite_ij[i : i + d, i : i + d] for i in range(0, len(onsite_ij), d)], axis=0)
        self._onsite_inverse_cd = np.linalg.inv(mean_cd)
        # The symbol takes 16 (n_basis d)^2 bytes per wave vector, of which there are half as many as cells.
        bulk = BlockCirculant.from_blocks(self.transform, offset_oc, block_oij)
        self.inverse = bulk.power(-1.0, translations(cell.n_basis, d))

    def __call__(self, r_nd: FloatArray) -> FloatArray:
        """Apply to a residual (n_owned, d), eV / angstrom; the result is a displacement in angstrom."""
        r_nd = restrained(r_nd, self.sites, self.clamped_n)
        z_nd = self.plan.from_grid(self.inverse.apply(self.plan.to_grid(r_nd)), self.dimension)
        off = self.plan.off_grid_n
        z_nd[off] = r_nd[off] @ self._onsite_inverse_cd
        return restrained(z_nd, self.sites, self.clamped_n)


class GreenPreconditioner:
    """Python context of a PETSc PCSHELL around `BulkGreen`."""

    def __init__(self, green: BulkGreen) -> None:
        self.green = green

    def apply(self, _pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = G x."""
        d = self.green.dimension
        y.getArray()[:] = self.green(x.getArray(readonly=True).reshape(-1, d)).reshape(-1)


def perfect_species(supercell: Supercell) -> tuple[str, ...]:
    """One symbol per slot of the lattice: the species that most sites of that slot have."""
    grid = supercell.grid
    if grid is None:
        raise ConfigError("a configuration read from a file has no perfect lattice")
    on_grid = grid.number_a >= 0
    slot_x = grid.lattice.slot_b[grid.number_a[on_grid] % grid.lattice.n_basis]
    count = np.zeros((grid.lattice.n_slots, len(supercell.species)), dtype=np.int64)
    np.add.at(count, (slot_x, supercell.species_a[on_grid]), 1)
    return tuple(supercell.species[i] for i in count.argmax(axis=1))


def translations(n_basis: int, d: int) -> FloatArray:
    """Orthonormal rigid translations of one cell, (n_basis * d, d)."""
    return np.tile(np.eye(d), (n_basis, 1)) / np.sqrt(n_basis)


def without_translation(x_nd: FloatArray, sites: Sites) -> FloatArray:
    """`x_nd` minus its mean over all sites. Collective on ``sites.comm``."""
    total_d = x_nd.sum(axis=0)
    sites.comm.Allreduce(MPI.IN_PLACE, total_d, op=MPI.SUM)
    return x_nd - total_d / sites.n_sites


def restrained(x_nd: FloatArray, sites: Sites, clamped_n: NDArray[np.bool_] | None) -> FloatArray:
    """`x_nd` without its mean, or, where sites are clamped, with zeros there. Collective on ``sites.comm``."""
    return without_translation(x_nd, sites) if clamped_n is None else np.where(clamped_n[:, None], 0.0, x_nd)


def _layout(count_r: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Counts and displacements of consecutive parts."""
    counts = [int(c) for c in count_r]
    return counts, [0, *np.cumsum(counts)[:-1].tolist()]
