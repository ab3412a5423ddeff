"""Memory of a distributed energy: estimated before anything is allocated, and measured."""

from __future__ import annotations

import contextlib
from math import pi
from pathlib import Path
from typing import Protocol

import numpy as np
from mpi4py import MPI

from parmlip.crystal.supercell import Supercell
from parmlip.potentials.eam import EAM

# Bytes per pair: neighbour number, species and reference vector are kept; vectors, their change and that of the
# gradient live while a Hessian is applied.
_LISTS = 8 + 8 + 24
_VECTORS = 24 + 24 + 24
_FACTORS = 24 + 3 * 8  # of EAM's linearisation: unit vector and three scalars
_COMPLEX_STEP = 48 + 48  # complex vectors and gradients of all other laws
# Bytes per site: some 30 vectors of the relaxation (3 x 8 each), positions, ownership.
_VECTORS_PER_SITE = 30 * 24 + 200
# L-BFGS: bytes per pair of the searches that make the lists (a sixteenth of the sites at a time), per site of 20 pairs
# of vectors and of states, trials, ghosts and the transforms of the Green's function.
_SEARCH = (8 + 24 + 24) / 16
_MEMORY_PER_SITE = 2 * 20 * 24
_STATES_PER_SITE = 32 * 24
# On every rank: program and libraries; positions, species, numbers, owners and starts of all sites, and what is made of
# them while lists are renewed.
PROGRAM = 300e6
_REPLICATED_PER_SITE = 110


def pairs_per_site(supercell: Supercell, reach: float) -> float:
    """Mean number of neighbours within `reach` (angstrom) at the cell's density."""
    density, grid = supercell.n_sites / supercell.volume, supercell.grid
    if grid is not None and not all(supercell.periodic[: supercell.dimension]):  # the cell is not full
        d = supercell.dimension
        density = grid.lattice.n_basis / abs(np.linalg.det(grid.lattice.cell(grid.lattice_constant)[:d, :d]))
    ball = {1: 2.0 * reach, 2: pi * reach**2, 3: 4.0 / 3.0 * pi * reach**3}[supercell.dimension]
    return density * ball


class Ranged(Protocol):
    """What has a cutoff: a law, or the parameters of one to come."""

    @property
    def cutoff(self) -> float:
        """Angstrom."""


def bytes_per_site(law: Ranged, supercell: Supercell, margin: float, *, assembled: bool) -> float:
    """What a relaxation needs for each site, all ranks together, ghosts left out.

    Parameters
    ----------
    law : Ranged
        An EAM law, or anything else with a cutoff, whose linearisation is then taken to be by complex step.
    supercell : Supercell
    margin : float
        Of the pair lists beyond the cutoff, angstrom.
    assembled : bool
        Whether the Hessian is stored (PETSc AIJ and the blocks from which it is made) or applied matrix-free.
    """
    d = supercell.dimension
    pairs = pairs_per_site(supercell, law.cutoff + margin)
    tangent = _FACTORS if isinstance(law, EAM) else _COMPLEX_STEP
    total = pairs * (_LISTS + _VECTORS + (0 if assembled else tangent)) + _VECTORS_PER_SITE
    if supercell.grid is not None:  # symbol and inverse of the bulk's force constants, half the wave vectors, complex
        total += 2 * 16 * supercell.grid.lattice.n_basis * d**2 / 2
    if assembled:
        # Blocks couple sites within twice the reach: 3 x 3 local sums, merged d x d blocks, AIJ with 4-byte columns.
        blocks = 1.0 + pairs_per_site(supercell, 2.0 * (law.cutoff + margin))
        total += blocks * (72 + 8 + 3 * 8 + 8 * d**2 + 12 * d**2)
    return total


def lbfgs_bytes(law: Ranged, supercell: Supercell, n_sites: int, margin: float, n_ranks: int) -> tuple[float, float]:
    """Bytes of a rank in a relaxation by L-BFGS with the bulk Green's function, and those that every rank holds alike.

    No Hessian is made: without [relax] stability.

    Parameters
    ----------
    law : Ranged
    supercell : Supercell
        Of the same density and lattice; it may be smaller than the cell that is meant.
    n_sites : int
        Of the cell that is meant.
    margin : float
        Of the pair lists beyond the cutoff, angstrom.
    n_ranks : int
    """
    d, reach = supercell.dimension, law.cutoff + margin
    each = pairs_per_site(supercell, reach) * (_LISTS + _SEARCH) + _MEMORY_PER_SITE + _STATES_PER_SITE
    if supercell.grid is not None:
        each += 16 * supercell.grid.lattice.n_basis * d**2 / 2
    on_all = PROGRAM + _REPLICATED_PER_SITE * n_sites
    return on_all + each * n_sites / n_ranks, on_all


def krylov_bytes_per_site(supercell: Supercell, batch: int) -> float:
    """What Krylov spaces of F H F need beside the Hessian: symbols of H_hom, its inverse and root, and the vectors.

    A batch lives in some ten real vectors and three complex ones of the transforms.
    """
    d, grid = supercell.dimension, supercell.grid
    n_basis = 1 if grid is None else grid.lattice.n_basis
    return 4 * 16 * n_basis * d**2 / 2 + batch * d * (10 * 8 + 3 * 16)


class PeakMemory:
    """Growth of the resident memory of all ranks since this was made, at its highest. Linux only; elsewhere None.

    Collective on ``comm``, as is `growth`.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        self._before = comm.allreduce(_status("VmHWM"))

    def growth(self) -> int | None:
        """Bytes."""
        now = self.comm.allreduce(_status("VmHWM"))
        return now - self._before if now else None


def _status(name: str) -> int:
    """A line of this process's status, bytes; 0 where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":")), 0)
