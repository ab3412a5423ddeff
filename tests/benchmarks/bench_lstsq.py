"""Least squares at the papers' sizes: rows in blocks, two ranks, against one LAPACK QR of the whole matrix.

    python -m tests.benchmarks.bench_lstsq                                       # against LAPACK, 8,000 x 1,000
    mpirun -n 2 python -m tests.benchmarks.bench_lstsq --rows 41600 --columns 2849
    mpirun -n 2 python -m tests.benchmarks.bench_lstsq --rows 76201 --columns 5456

Memory does not depend on the number of rows (beyond the number of columns): 12,000 rows show that of 76,201.
Random rows are made block by block. Told are elapsed and processor seconds of the factor, of the tree and of the
solvers, and the largest resident memory of all ranks together. Larger sizes leave LAPACK, which needs all of the
matrix, out.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import scipy.linalg
from mpi4py import MPI

from parmlip.numerics.lstsq import RFactor, memory_estimate, tsqr_reduce
from parmlip.numerics.regression import regress, solver_memory

BLOCK = 512


def block(first: int, n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([1, first])
    rows = rng.standard_normal((n_rows, n_columns))
    return rows, rows[:, :10].sum(axis=1) + 0.1 * rng.standard_normal(n_rows)


def factor_of(n_rows: int, n_columns: int, comm: MPI.Comm) -> tuple[RFactor, float, float]:
    """The rank's factor, elapsed and processor seconds without the making of rows."""
    factor, wall, cpu = RFactor(n_columns), 0.0, 0.0
    for first in range(comm.rank * BLOCK, n_rows, comm.size * BLOCK):
        rows, values = block(first, min(BLOCK, n_rows - first), n_columns)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        factor.add(rows, values)
        wall, cpu = wall + time.perf_counter() - begin, cpu + time.process_time() - begin_cpu
    return factor, wall, cpu


def against_lapack(n_rows: int, n_columns: int) -> None:
    """Medians of five runs in turn."""
    comm = MPI.COMM_SELF
    parts = [block(first, min(BLOCK, n_rows - first), n_columns) for first in range(0, n_rows, BLOCK)]
    whole = np.column_stack([np.vstack([r for r, _ in parts]), np.concatenate([v for _, v in parts])])
    ours, theirs = [], []
    for _ in range(5):
        factor, _, cpu = factor_of(n_rows, n_columns, comm)
        begin = time.process_time()
        r = factor.triangle
        ours.append(cpu + time.process_time() - begin)
        matrix = np.asfortranarray(whole)
        begin = time.process_time()
        other = scipy.linalg.qr(matrix, mode="r", overwrite_a=True, check_finite=False)[0][: n_columns + 1]
        theirs.append(time.process_time() - begin)
    error = np.abs(np.abs(np.diagonal(r)) - np.abs(np.diagonal(other))).max() / np.abs(other).max()
    a, b = np.median(ours), np.median(theirs)
    print(f"{n_rows} x {n_columns}, processor seconds: blocks {a:.2f}, LAPACK geqrf {b:.2f}, ratio {a / b:.2f}; "
          f"difference {error:.1e}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--columns", type=int, default=1000)
    parser.add_argument("--solvers", nargs="*", default=["rrqr"])
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    n_rows, n_columns = options.rows, options.columns
    if comm.rank == 0:
        # before anything large is there; the other ranks build a factor and send it, the solvers work on rank 0
        factors = memory_estimate(n_columns, comm.size)
        first = max(factors, *(solver_memory(n_columns, s) + 8 * (n_columns + 1) ** 2 for s in options.solvers))
        others = (comm.size - 1) * min(factors, 5 * 8 * (n_columns + 1) ** 2)
        blocks = comm.size * 8 * BLOCK * n_columns
        in_all = first + others + blocks
        print(f"told: at most {first / 2**30:.2f} GiB on rank 0, {in_all / 2**30:.2f} GiB in all, and 0.15 GiB a rank "
              "for Python", flush=True)  # fmt: skip
        if n_rows * n_columns <= 10_000_000:
            against_lapack(n_rows, n_columns)
    begin = time.perf_counter()
    factor, wall, cpu = factor_of(n_rows, n_columns, comm)
    built = comm.allreduce(np.array([wall, cpu]), op=MPI.SUM) / comm.size
    middle = time.perf_counter()
    total = tsqr_reduce(factor, comm)
    reduced = time.perf_counter() - middle
    if comm.rank == 0:
        whole = time.perf_counter() - begin
        print(f"{n_rows} x {n_columns}, {comm.size} ranks: factors {built[0]:.1f} s ({built[1]:.1f} s of processor a "
              f"rank), tree {reduced:.1f} s, with the making of rows {whole:.1f} s", flush=True)  # fmt: skip
    memory(comm, "after the tree")
    if total is not None:
        for solver in options.solvers:
            start = time.perf_counter()
            found = regress(total, solver)
            error = np.abs(found.coefficients[:10] - 1.0).max()
            print(f"{solver}: {time.perf_counter() - start:.1f} s, told {solver_memory(n_columns, solver) / 2**30:.2f} "
                  f"GiB, rank {found.rank}, error of the true coefficients {error:.1e}", flush=True)  # fmt: skip
    memory(comm, "after the solvers")


def memory(comm: MPI.Comm, when: str) -> None:
    peak = comm.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    if peak is not None:
        print(f"memory {when}: {sum(peak):.2f} GiB, " + " + ".join(f"{p:.2f}" for p in peak), flush=True)


if __name__ == "__main__":
    main()
