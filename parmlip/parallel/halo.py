"""Exchange between owners and ghosts: planned once, executed many times."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.parallel.sites import Sites


class Halo:
    """Plan that copies owned values to the ranks that hold them as ghosts, and adds ghost values to their owners.

    Collective on ``sites.comm``. Local arrays hold the owned sites (ascending global number), then the ghosts
    (ascending permuted number, hence grouped by owner).

    Attributes
    ----------
    global_m : ndarray, shape (n_local,)
        Global numbers of the local sites.
    number_m : ndarray, shape (n_local,)
        Their permuted numbers.
    """

    def __init__(self, sites: Sites, ghost_globals: NDArray[np.int64]) -> None:
        self.comm = sites.comm
        self.n_owned = sites.n_owned
        number = np.unique(sites.number_a[ghost_globals])
        self.number_m = np.concatenate([sites.start + np.arange(sites.n_owned), number])
        self.n_local = len(self.number_m)
        self.global_m = np.empty(self.n_local, dtype=np.int64)
        self.global_m[: self.n_owned] = sites.global_n
        by_number = np.unique(ghost_globals)
        self.global_m[self.n_owned :] = by_number[np.argsort(sites.number_a[by_number])]
        owner = sites.owner(number)
        ranks, first = np.unique(owner, return_index=True)
        edges = np.concatenate([first, [len(number)]]) + self.n_owned
        self._receive = [(int(r), int(edges[i]), int(edges[i + 1])) for i, r in enumerate(ranks)]
        wanted = [np.empty(0, dtype=np.int64)] * self.comm.size
        for rank, low, high in self._receive:
            wanted[rank] = self.number_m[low:high]
        asked = self.comm.alltoall(wanted)
        self._send = [(rank, w - sites.start) for rank, w in enumerate(asked) if len(w)]

    def forward(self, x_m: NDArray[Any]) -> None:
        """Fill the ghosts of `x_m`, shape (n_local, ...), C-contiguous, with their owners' values.

        Collective on ``comm``.
        """
        requests = [self.comm.Irecv(_bytes(x_m[low:high]), source=rank) for rank, low, high in self._receive]
        buffers = [np.ascontiguousarray(x_m[index]) for _, index in self._send]
        requests += [self.comm.Isend(_bytes(b), dest=rank) for (rank, _), b in zip(self._send, buffers, strict=True)]
        MPI.Request.Waitall(requests)

    def reverse_add(self, x_m: NDArray[Any]) -> None:
        """Add the ghosts of `x_m` to their owners' values, the transpose of `forward`; ghosts keep what they hold.

        Collective on ``comm``. Additions are in the order of the ranks, so that repeated calls agree to the bit.
        """
        buffers = [np.empty((len(index), *x_m.shape[1:]), dtype=x_m.dtype) for _, index in self._send]
        requests = [self.comm.Irecv(_bytes(b), source=rank) for (rank, _), b in zip(self._send, buffers, strict=True)]
        requests += [self.comm.Isend(_bytes(x_m[low:high]), dest=rank) for rank, low, high in self._receive]
        MPI.Request.Waitall(requests)
        for (_, index), buffer in zip(self._send, buffers, strict=True):
            x_m[index] += buffer

    def exchange_lists(self, ghost_lists: list[Any]) -> list[tuple[NDArray[np.int64], Any]]:
        """Give each owner an object about its sites that are ghosts here; returns (owned rows, object) by rank.

        Collective on ``comm``; pickled, for set-up only. `ghost_lists` has one object per entry of `receive_ranges`.
        """
        out: list[Any] = [None] * self.comm.size
        for (rank, _, _), item in zip(self._receive, ghost_lists, strict=True):
            out[rank] = item
        got = self.comm.alltoall(out)
        return [(index, got[rank]) for rank, index in self._send]

    @property
    def receive_ranges(self) -> list[tuple[int, int, int]]:
        """(rank, first, last + 1) of the ghosts that each neighbouring rank owns, as local numbers."""
        return self._receive

    @property
    def send_rows(self) -> list[tuple[int, NDArray[np.int64]]]:
        """(rank, owned local numbers) that each neighbouring rank holds as ghosts, in that rank's order."""
        return self._send


def _bytes(x: NDArray[Any]) -> list[Any]:
    """An MPI buffer for an array of any of NumPy's types (complex included)."""
    return [x, MPI.BYTE]
