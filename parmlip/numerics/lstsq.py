"""Tall least squares in parallel: row blocks into triangular factors, factors over ranks, one small solve.

The tall matrix never exists. A factor is the R of a QR factorisation of [rows | values], so the right-hand side is its
last column and everything a linear fit needs (column norms, residuals, solutions at any tolerance) is in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from parmlip.errors import DataError

if TYPE_CHECKING:
    from mpi4py import MPI

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

# Columns that LAPACK's triangular-pentagonal QR takes at once; of 32, 64, 128 the fastest at 1,000 columns.
_PANEL = 64
_SMALLEST_LEAF = 256
# Columns of exactly unit norm leave the first pivot, and with it all that is truncated, to rounding: predictions were
# measured to differ by 2 % between one rank and two. So pivots are chosen as if later columns were this much shorter.
_TIE_BREAK = 1e-8
# Columns below this part of the largest are functions that symmetry makes zero in every row, with their rounding.
_ROUNDING = 1e-16


class RFactor:
    """Triangular factor of all rows added so far, with their values as an extra last column.

    Rows are collected in a leaf as tall as the factor is wide and reduced into R by LAPACK's `tpqrt`, which knows that
    R is triangular: 2 n^2 flops a row at any height of the leaf, where a QR of the stacked [R; leaf] would need up to
    5/3 of that (measured at n = 1,000: 1.8 times the time). A factor with few rows stays as small as its rows.
    """

    def __init__(self, n_columns: int) -> None:
        if n_columns < 1:
            raise DataError("a least-squares problem needs at least one column")
        self.n_columns = n_columns
        self.n_rows = 0  # rows added, before any reduction
        self._leaf_rows = max(n_columns + 1, _SMALLEST_LEAF)
        self._pending = np.empty((0, n_columns + 1), order="F")
        self._n_pending = 0
        self._triangle: FloatArray | None = None  # (n_columns + 1, n_columns + 1), column-major

    @classmethod
    def from_triangle(cls, triangle_ko: ArrayLike, n_rows: int) -> RFactor:
        """The factor whose `triangle` was stored, shape (k, n_columns + 1), and the number of rows it stands for."""
        rows = np.asarray(triangle_ko, dtype=float)
        factor = cls(rows.shape[1] - 1)
        factor.add(rows[:, :-1], rows[:, -1])
        factor.n_rows = n_rows
        return factor

    def add(self, rows_ok: ArrayLike, values_o: ArrayLike, weight: float = 1.0) -> None:
        """Append rows and their right-hand side; `weight` multiplies their squared residuals.

        Parameters
        ----------
        rows_ok : array, shape (n_observations, n_columns)
        values_o : array, shape (n_observations,)
        weight : float
            Not negative; rows and values are scaled by its square root. Rows of weight 0 are not counted.

        Raises
        ------
        DataError
            A shape does not fit, the weight is negative, or an entry is not finite.
        """
        rows = np.asarray(rows_ok, dtype=float)
        values = np.asarray(values_o, dtype=float)
        if rows.ndim != 2 or rows.shape[1] != self.n_columns or values.shape != rows.shape[:1]:
            raise DataError(
                f"rows of shape {rows.shape} with values of shape {values.shape} do not fit {self.n_columns} columns"
            )
        if not (np.isfinite(weight) and weight >= 0.0):
            raise DataError(f"the weight of a row must be finite and not negative, not {weight}")
        bad_o = np.flatnonzero(~(np.isfinite(rows).all(axis=1) & np.isfinite(values)))
        if len(bad_o):
            raise DataError(f"{len(bad_o)} of {len(rows)} rows are not finite, the first is row {bad_o[0]}")
        if weight == 0.0:
            return
        self.n_rows += len(rows)
        self._append(rows, values, float(np.sqrt(weight)))

    def _append(self, rows: FloatArray, values: FloatArray, scale: float) -> None:
        start = 0
        while start < len(rows):
            n = min(len(rows) - start, self._leaf_rows - self._n_pending)
            self._grow(self._n_pending + n)
            leaf = self._pending[self._n_pending : self._n_pending + n]
            np.multiply(rows[start : start + n], scale, out=leaf[:, :-1])
            np.multiply(values[start : start + n], scale, out=leaf[:, -1])
            self._n_pending += n
            start += n
            if self._n_pending == self._leaf_rows:
                self._reduce_leaf()

    def _grow(self, needed: int) -> None:
        """Room for `needed` pending rows; doubling, so that a factor of few rows takes little memory."""
        if needed > len(self._pending):
            height = min(self._leaf_rows, max(needed, 2 * len(self._pending)))
            larger = np.empty((height, self.n_columns + 1), order="F")
            larger[: self._n_pending] = self._pending[: self._n_pending]
            self._pending = larger

    def _reduce_leaf(self) -> None:
        """Bring the pending rows into the triangle."""
        if self._n_pending:
            leaf = np.asfortranarray(self._pending[: self._n_pending])
            self._annihilate(leaf, 0)
            self._n_pending = 0

    def _annihilate(self, block: FloatArray, n_trapezoidal: int) -> None:
        """R of [R; block]; the last `n_trapezoidal` rows of `block` (overwritten) are upper trapezoidal."""
        width = self.n_columns + 1
        if self._triangle is None:
            self._triangle = np.zeros((width, width), order="F")
        self._triangle, _, _, info = lapack.dtpqrt(
            n_trapezoidal, min(_PANEL, width), self._triangle, block, overwrite_a=1, overwrite_b=1
        )
        if info != 0:  # only a wrong argument, never the numbers
            raise ValueError(f"LAPACK tpqrt refused argument {-info}")

    @property
    def triangle(self) -> FloatArray:
        """R of [rows | values], shape (k, n_columns + 1) with k <= n_columns + 1, diagonal not negative.

        R with this sign is unique where the columns are independent, hence the same for every grouping of the rows.
        """
        width = self.n_columns + 1
        if self._triangle is None and self._n_pending >= width:
            self._reduce_leaf()
        if self._triangle is not None:
            self._reduce_leaf()
            self._pending = np.empty((0, width), order="F")
            r = np.triu(self._triangle)
        elif self._n_pending:
            r = np.asarray(scipy.linalg.qr(self._pending[: self._n_pending], mode="r")[0])
        else:
            return np.zeros((0, width))
        flip = np.diagonal(r) < 0.0
        r[: len(flip)][flip] *= -1.0
        return r

    def absorb(self, other: RFactor) -> None:
        """Take in all rows of another factor of as many columns; `other` is left as it is."""
        self._take(other.triangle, other.n_rows)

    def _take(self, triangle: FloatArray, n_rows: int) -> None:
        if len(triangle) == self.n_columns + 1:
            self._annihilate(np.array(triangle, order="F"), len(triangle))
        else:
            self._append(triangle[:, :-1], triangle[:, -1], 1.0)
        self.n_rows += n_rows

    def residual_norm(self, coefficients_k: ArrayLike) -> float:
        """|rows c - values| for any coefficients, without the data."""
        r = self.triangle
        return float(np.linalg.norm(r[:, :-1] @ np.asarray(coefficients_k, dtype=float) - r[:, -1]))


def combine(weighted: Iterable[tuple[RFactor, float]]) -> RFactor:
    """One factor of all rows, each part's squared residuals multiplied by its weight: a refit without data.

    Raises
    ------
    DataError
        Nothing is given, the numbers of columns differ, or a weight is negative.
    """
    parts = list(weighted)
    if not parts:
        raise DataError("nothing to fit: no observations were given")
    widths = sorted({factor.n_columns for factor, _ in parts})
    if len(widths) > 1:
        raise DataError(f"factors with {' and '.join(map(str, widths))} columns cannot be combined")
    total = RFactor(widths[0])
    for factor, weight in parts:
        if not (np.isfinite(weight) and weight >= 0.0):
            raise DataError(f"a weight must be finite and not negative, not {weight}")
        if weight > 0.0:
            total._take(np.sqrt(weight) * factor.triangle, factor.n_rows)
    return total


def tsqr_reduce(factor: RFactor, comm: MPI.Comm) -> RFactor | None:
    """Factor of the rows of all ranks, on rank 0; None elsewhere. `factor` is used up.

    Collective on ``comm``. A binary tree: in step s rank r takes the factor of rank r + 2^s, so that the order of the
    operations, and with it the result to the last bit, is fixed by the number of ranks.

    Raises
    ------
    DataError
        The ranks' factors have different numbers of columns (on all ranks).

    References
    ----------
    Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, A206 (2012).
    """
    widths = comm.allgather(factor.n_columns)
    if len(set(widths)) > 1:
        raise DataError(f"the ranks' least-squares problems differ in their number of columns: {widths}")
    step = 1
    while step < comm.size:
        if comm.rank % (2 * step) == step:
            _send(factor, comm, comm.rank - step)
            return None
        if comm.rank + step < comm.size:
            factor._take(*_receive(factor.n_columns + 1, comm, comm.rank + step))
        step *= 2
    return factor


def _send(factor: RFactor, comm: MPI.Comm, rank: int) -> None:
    """Send the upper triangle, packed by columns: half of the square."""
    r = np.asfortranarray(factor.triangle)
    comm.Send(np.array([len(r), factor.n_rows], dtype=np.int64), dest=rank)
    if len(r):
        comm.Send(np.concatenate([r[: k + 1, k] for k in range(r.shape[1])]), dest=rank)


def _receive(width: int, comm: MPI.Comm, rank: int) -> tuple[FloatArray, int]:
    """What `_send` sent: the triangle, shape (k, width), and the number of rows it stands for."""
    header = np.empty(2, dtype=np.int64)
    comm.Recv(header, source=rank)
    height, n_rows = int(header[0]), int(header[1])
    r = np.zeros((height, width), order="F")
    if height:
        lengths = np.minimum(np.arange(1, width + 1), height)
        packed = np.empty(int(lengths.sum()))
        comm.Recv(packed, source=rank)
        first = 0
        for k, length in enumerate(lengths):
            r[:length, k] = packed[first : first + length]
            first += length
    return r, n_rows


@dataclass(frozen=True)
class LeastSquaresResult:
    """Solution of a least-squares problem by rank-revealing QR, with what is needed to judge it."""

    coefficients: FloatArray  # (n_columns,)
    rank: int  # columns kept by the tolerance
    residual_norm: float  # |rows c - values|, of the weighted rows
    value_norm: float  # |values|, of the weighted rows
    column_norms: FloatArray  # (n_columns,) Euclidean norms of the weighted columns
    pivots: NDArray[np.int64]  # (n_columns,) columns in the order in which they were chosen
    diagonal: FloatArray  # (min(n_rows, n_columns),) |R_jj| of the (scaled) columns, decreasing to 1e-8
    n_rows: int
    tolerance: float
    # (n_columns, rank), L with L L^T the inverse of A^T A on the directions kept; None if it was not asked for
    inverse_factor: FloatArray | None = None

    @property
    def condition(self) -> float:
        """Largest over smallest kept diagonal of R: a lower estimate of the condition number that was solved with."""
        return float(self.diagonal[0] / self.diagonal[self.rank - 1]) if self.rank else 1.0


def unit_scale(column_norms: FloatArray) -> FloatArray:
    """What columns are divided by to have unit norm; columns that are nothing but rounding are not made larger."""
    largest = column_norms.max()
    return np.where(column_norms > _ROUNDING * largest, column_norms, largest)


def solve_rrqr(
    factor: RFactor, tolerance: float, column_scaling: bool = True, inverse: bool = False
) -> LeastSquaresResult:
    """Least squares by rank-revealing (column-pivoted) QR of the small triangular factor.

    With A = rows, D the column norms (or 1), A D^-1 P = Q [R11 R12; 0 R22], the rank r is the number of diagonal
    entries of R above ``tolerance * |R_00|`` and R22 is dropped. Of all solutions of the remaining problem the one of
    least |D c| is taken: it does not hang on which of several equivalent columns a pivot happened to choose, as the
    basic solution (the other coefficients 0) does, and so not on rounding or the number of ranks.

    Parameters
    ----------
    factor : RFactor
    tolerance : float
        Relative to the largest diagonal entry of R; 0 <= tolerance < 1. The effective one is not below the rounding
        of the factorisation, n_columns * 2.2e-16.
    column_scaling : bool
        Scale columns to unit norm first. On the raw matrix 1e-6 truncates the rank to 10-40.
    inverse : bool
        Keep `inverse_factor`, of n_columns x rank numbers.

    Raises
    ------
    DataError
        There are no rows, all rows are zero, or the tolerance is out of range.
    """
    if not 0.0 <= tolerance < 1.0:
        raise DataError(f"the tolerance of the least squares must be in [0, 1), not {tolerance}")
    n = factor.n_columns
    augmented = factor.triangle
    if len(augmented) == 0:
        raise DataError("nothing to fit: the least-squares problem has no rows")
    r, values = augmented[:n, :n], augmented[:n, n]
    column_norms = np.linalg.norm(r, axis=0)
    if not column_norms.any():
        raise DataError("nothing to fit: all rows of the least-squares problem are zero")
    scale = unit_scale(column_norms) if column_scaling else np.ones(n)
    shorter = 1.0 - _TIE_BREAK * np.arange(n) / n
    projected, pivoted, pivots = scipy.linalg.qr_multiply(r * (shorter / scale), values, mode="right", pivoting=True)
    pivoted = pivoted / shorter[pivots]  # it chose the pivots and has no place in the solution
    diagonal = np.abs(np.diagonal(pivoted))
    rank = int(np.count_nonzero(diagonal > max(tolerance, n * np.finfo(float).eps) * diagonal[0]))
    scaled = np.empty(n)
    scaled[pivots] = _least_norm(pivoted[:rank], projected[:rank])
    coefficients = scaled / scale
    inverse_factor = None
    if inverse:
        inverse_factor = np.empty((n, rank))
        sign = np.where(np.diagonal(pivoted)[:rank] < 0.0, -1.0, 1.0)  # unique, whatever the reflections chose
        inverse_factor[pivots] = _least_norm(pivoted[:rank], np.diag(sign))
        inverse_factor /= scale[:, None]
    if factor.n_rows < n:
        logger.warning("fewer rows (%d) than columns (%d): taking the solution of least norm", factor.n_rows, n)
    logger.info("least squares: %d rows, %d columns, rank %d at tolerance %.1e", factor.n_rows, n, rank, tolerance)
    return LeastSquaresResult(
        coefficients=coefficients,
        rank=rank,
        residual_norm=float(np.linalg.norm(augmented[:, :n] @ coefficients - augmented[:, n])),
        value_norm=float(np.linalg.norm(augmented[:, n])),
        column_norms=column_norms,
        pivots=np.asarray(pivots, dtype=np.int64),
        diagonal=diagonal,
        n_rows=factor.n_rows,
        tolerance=tolerance,
        inverse_factor=inverse_factor,
    )


def _least_norm(r: Any, b: FloatArray) -> FloatArray:
    """Shortest x with r x = b for an upper trapezoidal r (rank, n) of full row rank, columns of b one by one."""
    rank, n = r.shape
    if rank == n:
        return np.asarray(scipy.linalg.solve_triangular(r, b))
    z, t = scipy.linalg.qr(r.T, mode="economic")
    return np.asarray(z @ scipy.linalg.solve_triangular(t, b, trans="T"))


def memory_estimate(n_columns: int, n_ranks: int, n_full_factors: int = 1) -> int:
    """Bytes on the fullest rank (rank 0) while factors are built, reduced and solved; to be told before the work.

    Parameters
    ----------
    n_columns : int
    n_ranks : int
    n_full_factors : int
        Factors kept apart that have at least as many rows as columns on a rank.
    """
    square = 8 * (n_columns + 1) ** 2
    build = n_full_factors * 2 * square  # R and a leaf of equal size
    reduce = n_full_factors * 2 * square + (3 if n_ranks > 1 else 0) * square  # the partner's: packed, square, copy
    solve = n_full_factors * square + 6 * square  # combined R, its copy, scaled, pivoted; Q and T of the least norm
    return max(build, reduce, solve)
