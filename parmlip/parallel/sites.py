"""Which rank owns which site, and the numbering that makes each rank's sites contiguous."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray


class Sites:
    """Ownership of `n_sites` sites.

    Attributes
    ----------
    comm : MPI.Comm
    n_sites, n_owned : int
    global_n : ndarray, shape (n_owned,)
        Global numbers of the owned sites, ascending.
    start : int
        First number of this rank in the permuted numbering (rank by rank, ascending within a rank), in which PETSc's
        vectors and matrices are laid out.
    number_a : ndarray, shape (n_sites,)
        Permuted number of every site, the same on every rank.
    site_at : ndarray, shape (n_sites,)
        Global number at every permuted number, the same on every rank.
    first_r : ndarray, shape (size + 1,)
        First permuted number of every rank, the same on every rank.
    """

    def __init__(self, owner_a: NDArray[np.int32], *, comm: MPI.Comm) -> None:
        self.comm = comm
        self.n_sites = len(owner_a)
        self.site_at = np.argsort(owner_a, kind="stable")
        self.number_a = np.empty(self.n_sites, dtype=np.int64)
        self.number_a[self.site_at] = np.arange(self.n_sites)
        self.first_r = np.concatenate([[0], np.cumsum(np.bincount(owner_a, minlength=comm.size))])
        self.start = int(self.first_r[comm.rank])
        self.n_owned = int(self.first_r[comm.rank + 1]) - self.start
        self.global_n = self.site_at[self.start : self.start + self.n_owned]

    def owner(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ranks that own sites given by their permuted numbers."""
        return np.searchsorted(self.first_r, number, side="right") - 1

    def gather(self, x_n: NDArray[Any]) -> NDArray[Any] | None:
        """Values of all sites in global order on rank 0, None elsewhere.

        Collective on ``comm``. `x_n` has shape (n_owned, ...) and the same trailing shape and type on every rank.
        """
        x_n = np.ascontiguousarray(x_n)
        width = int(np.prod(x_n.shape[1:], dtype=np.int64))
        whole = np.empty((self.n_sites, *x_n.shape[1:]), dtype=x_n.dtype) if self.comm.rank == 0 else None
        counts = np.diff(self.first_r) * width
        # Rows travel as one datatype so that the counts of 10^7 sites stay inside a C int.
        row = MPI._typedict[x_n.dtype.char].Create_contiguous(max(width, 1)).Commit()
        try:
            self.comm.Gatherv([x_n, len(x_n), row], [whole, counts // max(width, 1), None, row], root=0)
        finally:
            row.Free()
        if whole is None:
            return None
        x_a = np.empty_like(whole)
        x_a[self.site_at] = whole
        return x_a

    def gather_to_all(self, x_n: NDArray[Any]) -> NDArray[Any]:
        """Values of all sites in global order on every rank: O(n_sites) memory, for geometry only.

        Collective on ``comm``.
        """
        x_a = self.gather(x_n)
        if x_a is None:
            x_a = np.empty((self.n_sites, *x_n.shape[1:]), dtype=x_n.dtype)
        self.comm.Bcast(x_a, root=0)
        return x_a

    def restrict(self, x_a: NDArray[Any]) -> NDArray[Any]:
        """Owned values of an array over all sites that every rank holds."""
        return x_a[self.global_n]
