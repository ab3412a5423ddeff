"""Block-circulant operators on a periodic grid of cells, by real FFT, distributed by slabs.

The grid has (nx, ny, nz) cells with m components each; a rank holds the cells of a slab of planes x. After the
transforms over z and y one Alltoallv turns slabs of x into shares of the columns q = (ky, kz), and the transform over x
follows.
A wave vector is the integer triple (kx, ky, kz) of the phase 2 pi (kx/nx, ky/ny, kz/nz).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from parmlip.errors import GeometryError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
IntArray = NDArray[np.int64]


class Communicator(Protocol):
    """What is used of a communicator (mpi4py's has it)."""

    @property
    def rank(self) -> int:
        """Number of this rank."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """Objects of all ranks."""

    def Alltoallv(self, sendbuf: Any, recvbuf: Any) -> None:
        """Exchange of buffers."""


class UnstableLattice(GeometryError):
    """The symbol has an eigenvalue that is not positive outside the stated null space."""


def split_evenly(n: int, size: int) -> IntArray:
    """First index of each of `size` contiguous shares of range(n), and n; shape (size + 1,). Shares may be empty."""
    return np.array([n * r // size for r in range(size + 1)], dtype=np.int64)


class LatticeTransform:
    """Plan of the distributed real FFT over the cells of a grid.

    Local real arrays have the shape (n_x, ny, nz, ...), local transforms (nx, n_q, ...); trailing axes are free.
    """

    def __init__(self, shape: tuple[int, int, int], *, comm: Communicator) -> None:
        self.comm = comm
        self.shape = shape
        nx, ny, nz = shape
        # A plane's real axis is its last long one: (nx, ny, 1) is (nx, 1, ny) in memory and has half the wave vectors.
        self._inner = (ny, nz) if nz > 1 else (1, ny)
        self._half = self._inner[1] // 2 + 1
        self.n_columns = self._inner[0] * self._half
        self.x_bounds = split_evenly(nx, comm.size)
        self._q_bounds = split_evenly(self.n_columns, comm.size)
        self.n_x = int(self.x_bounds[comm.rank + 1] - self.x_bounds[comm.rank])
        self.n_q = int(self._q_bounds[comm.rank + 1] - self._q_bounds[comm.rank])
        self._x_parts = self.n_x * np.diff(self._q_bounds)  # entries of (x, q) that go to each rank, forward
        self._q_parts = self.n_q * np.diff(self.x_bounds)  # ... that come from each rank

    @property
    def wave_xqc(self) -> IntArray:
        """Wave vectors (kx, ky, kz) of the local transform, shape (nx, n_q, 3)."""
        q = np.arange(self._q_bounds[self.comm.rank], self._q_bounds[self.comm.rank + 1])
        wave_xqc = np.zeros((self.shape[0], self.n_q, 3), dtype=np.int64)
        wave_xqc[:, :, 0] = np.arange(self.shape[0])[:, None]
        outer, half = divmod(q, self._half)
        if self.shape[2] > 1:
            wave_xqc[:, :, 1], wave_xqc[:, :, 2] = outer, half
        else:
            wave_xqc[:, :, 1] = half
        return wave_xqc

    def forward(self, u_xyz: FloatArray) -> ComplexArray:
        """Transform with phase exp(-i k.cell), unscaled: (n_x, ny, nz, ...) to (nx, n_q, ...).

        Collective on ``comm``.
        """
        rest = u_xyz.shape[3:]
        width = int(np.prod(rest))
        planes = u_xyz.reshape(self.n_x, *self._inner, width)
        if self.n_x:
            planes = scipy.fft.fft(scipy.fft.rfft(planes, axis=2), axis=1, overwrite_x=True)
        columns = planes.reshape(self.n_x, self.n_columns, width)
        send = np.concatenate([columns[:, a:b].ravel() for a, b in _intervals(self._q_bounds)], dtype=complex)
        w_xq = np.empty((self.shape[0], self.n_q, width), dtype=complex)
        self.comm.Alltoallv([send, _layout(self._x_parts * width)], [w_xq, _layout(self._q_parts * width)])
        if self.n_q and self.shape[0] > 1:
            w_xq = scipy.fft.fft(w_xq, axis=0, overwrite_x=True)
        return w_xq.reshape(self.shape[0], self.n_q, *rest)

    def backward(self, w_xq: ComplexArray) -> FloatArray:
        """Inverse of `forward`.

        Collective on ``comm``.
        """
        rest = w_xq.shape[2:]
        width = int(np.prod(rest))
        send = w_xq.reshape(self.shape[0], self.n_q, width)
        if self.n_q and self.shape[0] > 1:
            send = scipy.fft.ifft(send, axis=0)
        send = np.ascontiguousarray(send)
        received = np.empty(self.n_x * self.n_columns * width, dtype=complex)
        self.comm.Alltoallv([send, _layout(self._q_parts * width)], [received, _layout(self._x_parts * width)])
        if not self.n_x:
            return np.zeros((0, *self.shape[1:], *rest))
        columns = np.empty((self.n_x, self.n_columns, width), dtype=complex)
        first = 0
        for a, b in _intervals(self._q_bounds):
            part = self.n_x * (b - a) * width
            columns[:, a:b] = received[first : first + part].reshape(self.n_x, b - a, width)
            first += part
        planes = scipy.fft.ifft(columns.reshape(self.n_x, self._inner[0], self._half, width), axis=1, overwrite_x=True)
        u_xyz: FloatArray = scipy.fft.irfft(planes, n=self._inner[1], axis=2, overwrite_x=True)
        return u_xyz.reshape(self.n_x, *self.shape[1:], *rest)


class BlockCirculant:
    """A real symmetric operator (A u)(cell) = sum_o C[o] u(cell + o) on a periodic grid, held by its symbol.

    The symbol A(k) = sum_o C[o] exp(i k.o), an m x m Hermitian matrix per wave vector, is distributed like transforms.
    """

    def __init__(self, transform: LatticeTransform, symbol_xqij: ComplexArray) -> None:
        self.transform = transform
        self.symbol_xqij = symbol_xqij

    @classmethod
    def from_blocks(cls, transform: LatticeTransform, offset_oc: IntArray, block_oij: FloatArray) -> BlockCirculant:
        """The operator with blocks C[o] at cell offsets o; offsets beyond the period are folded, repeated ones added.

        Local. `offset_oc` (n_offsets, 3), `block_oij` (n_offsets, m, m), the same on every rank.
        """
        m = block_oij.shape[1]
        folded_oc = offset_oc % np.array(transform.shape)
        axes = [np.unique(folded_oc[:, c], return_inverse=True) for c in range(3)]
        box = np.zeros((len(axes[0][0]), len(axes[1][0]), len(axes[2][0]), m, m))
        np.add.at(box, (axes[0][1].ravel(), axes[1][1].ravel(), axes[2][1].ravel()), block_oij)
        # One axis at a time; k * o is reduced modulo n so that the phases are exact.
        wave_xqc = transform.wave_xqc
        phases = [
            np.exp(2j * np.pi / n * (k[:, None] * distinct[None, :] % n))
            for n, k, (distinct, _) in zip(
                transform.shape, (np.arange(transform.shape[0]), *wave_xqc[0, :, 1:].T), axes, strict=True
            )
        ]
        by_q = np.einsum("qz,xyzij->qxyij", phases[2], box, optimize=True)
        by_q = np.einsum("qy,qxyij->qxij", phases[1], by_q, optimize=True)
        symbol = np.tensordot(phases[0], by_q, axes=(1, 1))
        return cls(transform, 0.5 * (symbol + symbol.conj().swapaxes(-1, -2)))

    @property
    def n_components(self) -> int:
        """Components m of a cell."""
        return int(self.symbol_xqij.shape[-1])

    def apply(self, u_xyzi: FloatArray) -> FloatArray:
        """A u for u of shape (n_x, ny, nz, m), or (n_x, ny, nz, m, n_vectors) for several vectors at once.

        Collective on ``transform.comm``.
        """
        w = self.transform.forward(u_xyzi)
        if w.ndim == 3:
            w = np.einsum("xqij,xqj->xqi", self.symbol_xqij, w)
        else:
            w = np.matmul(self.symbol_xqij, w)
        return self.transform.backward(w)

    def power(self, exponent: float, null_im: FloatArray, *, floor: float = 1e-12) -> BlockCirculant:
        """A^exponent on the complement of the null space, zero on it.

        Collective on ``transform.comm``.

        Parameters
        ----------
        exponent : float
            -1 gives the pseudo-inverse, +-1/2 the square roots.
        null_im : ndarray, shape (m, n_null)
            Orthonormal basis of the null space at wave vector zero (the translations); zero is allowed nowhere else.
        floor : float
            Eigenvalues must exceed `floor` times the largest of all.

        Raises
        ------
        UnstableLattice
            Naming the wave vector of the lowest eigenvalue.
        """
        return self.function(lambda w: w**exponent, null_im, floor=floor)

    def trace(self, f: Callable[[FloatArray], FloatArray], null_im: FloatArray, *, floor: float = 1e-12) -> float:
        """Sum of f over the eigenvalues outside the null space; see `power`.

        Collective on ``transform.comm``.
        """
        return self.function(f, null_im, floor=floor).whole_trace()

    def whole_trace(self, other: BlockCirculant | None = None) -> float:
        """Tr A, or Tr(A B) with another operator on the same grid.

        Collective on ``transform.comm``.
        """
        # Wave vectors of the real transform's half stand for two, unless they are their own opposites.
        shape, wave_xqc = self.transform.shape, self.transform.wave_xqc
        axis = 2 if shape[2] > 1 else 1
        half_q = wave_xqc[0, :, axis]
        weight_q = np.where((half_q == 0) | (2 * half_q == shape[axis]), 1.0, 2.0)
        if other is None:
            trace_q = np.einsum("xqii->q", self.symbol_xqij)
        else:
            trace_q = np.einsum("xqij,xqji->q", self.symbol_xqij, other.symbol_xqij)
        return float(sum(self.transform.comm.allgather(float(weight_q @ trace_q.real))))

    def function(
        self, f: Callable[[FloatArray], FloatArray], null_im: FloatArray, *, floor: float = 1e-12
    ) -> BlockCirculant:
        """f(A) on the complement of the null space, zero on it; see `power`.

        Collective on ``transform.comm``.
        """
        result = np.empty_like(self.symbol_xqij)
        lowest, highest, where = np.inf, 0.0, (0, 0, 0)
        shift_ij = null_im @ null_im.T
        owns_zero = self.transform.n_q > 0 and not self.transform.wave_xqc[0, 0].any()
        scale = max(self.transform.comm.allgather(float(np.abs(self.symbol_xqij).max(initial=0.0))))
        for x in range(self.transform.shape[0] if self.transform.n_q else 0):  # plane by plane: small temporaries
            symbol_qij = self.symbol_xqij[x]
            if x == 0 and owns_zero:  # the null space is lifted to the top of the spectrum and taken out afterwards
                symbol_qij = symbol_qij.copy()
                keep_ij = np.eye(len(shift_ij)) - shift_ij
                symbol_qij[0] = keep_ij @ symbol_qij[0] @ keep_ij + scale * shift_ij
            value_qi, vector_qij = np.linalg.eigh(symbol_qij)
            highest = max(highest, float(value_qi.max()))
            if value_qi.min() < lowest:
                lowest = float(value_qi.min())
                where = tuple(self.transform.wave_xqc[x, int(value_qi.min(axis=1).argmin())].tolist())
            bounded_qi = np.maximum(value_qi, np.finfo(float).tiny)  # refused below if this changes anything
            result[x] = np.matmul(vector_qij * f(bounded_qi)[:, None, :], vector_qij.conj().swapaxes(-1, -2))
            if x == 0 and owns_zero:
                result[0, 0] = keep_ij @ result[0, 0] @ keep_ij
        found = self.transform.comm.allgather((lowest, where, highest))
        lowest, where, _ = min(found)
        if not lowest > floor * max(top for _, _, top in found):
            fraction = ", ".join(f"{k}/{n}" for k, n in zip(where, self.transform.shape, strict=True))
            raise UnstableLattice(
                f"the perfect lattice is not stable: at wave vector ({fraction}) of the supercell's grid "
                f"the lowest eigenvalue of the force constants is {lowest:.6g} eV/A^2"
            )
        return BlockCirculant(self.transform, result)


def _layout(count_r: IntArray) -> tuple[list[int], list[int]]:
    """Counts and displacements of consecutive parts."""
    counts = [int(c) for c in count_r]
    return counts, [0, *np.cumsum(counts)[:-1].tolist()]


def _intervals(bounds: IntArray) -> list[tuple[int, int]]:
    """Consecutive pairs of bounds."""
    return [(int(a), int(b)) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
