"""Force mixing whose preconditioner is the perfect crystal's Hessian: MM laws fitted to the lattice know no defects."""

from __future__ import annotations

from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.spatial import cKDTree

from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.mechanics import hessian
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.force_mixing import HybridForces, QMForces
from parmlip.parallel.sites import Sites
from parmlip.potentials.base import SiteLaw

_SAME_PLACE: Final = 1e-6  # angstrom


class HybridOnCrystal(HybridForces):
    """`HybridForces` whose `mm_hessian` is at every state that of the perfect crystal on the sites that are there.

    A principal submatrix of a matrix that is positive definite is so too; the MM law's own Hessian next to a vacancy
    need not be, nor be of any use there. Collective on ``energy.comm``, as are all methods.

    Parameters
    ----------
    energy, qm, qm_a
        As for `HybridForces`.
    perfect : ClampedDomain
        The same domain without its defects; every site of the other must be one of its sites (`on_lattice`).
    """

    def __init__(self, energy: ClampedEnergy, qm: QMForces, qm_a: NDArray[np.bool_], perfect: ClampedDomain) -> None:
        super().__init__(energy, qm, qm_a)
        self._perfect = perfect

    def mm_hessian(self, u_nd: NDArray[np.float64]) -> PETSc.Mat:
        """Of the perfect crystal, with the identity for clamped sites; the caller destroys it."""
        return crystal_hessian(self.energy.law, self._perfect, self.energy, comm=self.comm)


def crystal_hessian(law: SiteLaw, perfect: ClampedDomain, energy: ClampedEnergy, *, comm: MPI.Comm) -> PETSc.Mat:
    """Rows and columns of the sites of `energy` in the Hessian of the perfect domain. Collective on ``comm``."""
    of_perfect = ClampedEnergy(law, perfect.supercell, perfect.free_a, comm=comm)
    d, sites = energy.dimension, of_perfect.sites
    zero_nd = np.zeros((sites.n_owned, d))
    of_perfect.environments(zero_nd)
    whole = hessian.assembled(of_perfect, zero_nd, hessian.HessianPattern(of_perfect))
    place_a = on_lattice(perfect, energy.supercell.positions_ac)
    assert place_a is not None
    rows = PETSc.IS().createBlock(d, _numbers(sites, place_a[energy.sites.global_n]), comm=comm)
    part = whole.createSubMatrix(rows, rows)
    part.setBlockSize(d)
    rows.destroy()
    whole.destroy()
    return part


def on_lattice(perfect: ClampedDomain, positions_ac: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """The site of the perfect domain at each position; None if one is at none. Local."""
    apart_a, place_a = cKDTree(perfect.supercell.positions_ac).query(positions_ac)
    return np.asarray(place_a, dtype=np.int64) if (apart_a < _SAME_PLACE).all() else None


def _numbers(sites: Sites, global_n: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.asarray(sites.number_a[global_n], dtype=PETSc.IntType)
