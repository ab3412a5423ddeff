"""A fit with real rows from end to end, at the sizes of the point-defect paper, each part timed by itself.

    python -m tests.benchmarks.bench_fit                          # smaller, against QR of the gathered matrix
    mpirun -n 2 python -m tests.benchmarks.bench_fit --whole      # 41,600 rows (200 configurations), 2,849 functions

The paper's 41,600 rows are 200 (1 + 3 N) with N = 69 sites: an energy and three force components a site of a periodic
triangular cell of two-atom rectangles about L = 8 r0 with a vacancy, 2,849 functions of order 4 and degree 18; its fit
took 256.6 s (Ortner and Wang 2022, table of the fits). Labels are those of an embedded-atom law of tungsten. With the
coefficients comes how well they give the labels back, so that a wrong fit is not a fast one.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import scipy.linalg
from mpi4py import MPI

from parmlip.fit.dataset import labelled
from parmlip.fit.design import build_factors, fit
from parmlip.fit.observations import OBSERVATIONS, Configuration, Evaluation
from parmlip.numerics.lstsq import RFactor, memory_estimate, tsqr_reduce
from parmlip.numerics.regression import solver_memory
from parmlip.parallel.comm import in_step
from parmlip.potentials.ace import ACEBasis
from parmlip.potentials.eam import builtin

PAPER_SECONDS = 256.6
R0 = 2.74  # angstrom
CUTOFF = 5.0
WEIGHTS = {"energy": 100.0, "force": 1.0}


def cell_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell vectors and sites of n x ceil(n / sqrt(3)) rectangles of the triangular lattice without the first site.

    For n = 7, L = 8 r0, these are the paper's 69 sites.
    """
    rows = int(np.ceil(n / np.sqrt(3.0)))
    cell_cc = np.diag([n * R0, rows * np.sqrt(3.0) * R0, 20.0])
    corners = np.array([[i * R0, j * np.sqrt(3.0) * R0, 0.0] for i in range(n) for j in range(rows)])
    sites = np.vstack([corners, corners + [0.5 * R0, 0.5 * np.sqrt(3.0) * R0, 0.0]])
    return cell_cc, sites[1:]


def configurations(number: int) -> list[Configuration]:
    """Vacancy cells rattled by 0.1 angstrom in three dimensions; energies against the cell that is not rattled."""
    cell_cc, sites_ac = cell_of(7)
    made = []
    for i in range(number):
        moved_ac = sites_ac + np.random.default_rng([1, i]).uniform(-0.1, 0.1, sites_ac.shape)
        made.append(
            Configuration(
                cell_cc, (True, True, False), moved_ac, ("W",) * len(sites_ac), reference_positions_ac=sites_ac
            )
        )
    return made


def slowest(seconds: float, comm: MPI.Comm) -> float:
    return float(comm.allreduce(seconds, op=MPI.MAX))


def rows_apart(basis: ACEBasis, dataset, comm: MPI.Comm) -> tuple[float, float, float]:
    """Elapsed seconds of rows, of their reduction and of the tree, on the slowest rank; the work of `build_factors`."""
    factors = {name: RFactor(basis.n_basis) for name in WEIGHTS}
    references: dict[bytes, np.ndarray] = {}
    made = reduced = 0.0
    with in_step(comm, "making rows"):
        for number in range(comm.rank, len(dataset), comm.size):
            begin = time.perf_counter()
            evaluation = Evaluation(basis, dataset.configurations[number], references)
            parts = [(name, OBSERVATIONS[name].rows(evaluation)) for name in WEIGHTS]
            middle = time.perf_counter()
            for name, rows_ok in parts:
                values_o = OBSERVATIONS[name].values(dataset.configurations[number], dataset.labels[number])
                factors[name].add(rows_ok, values_o)
            made, reduced = made + middle - begin, reduced + time.perf_counter() - middle
    comm.Barrier()
    begin = time.perf_counter()
    for factor in factors.values():
        tsqr_reduce(factor, comm)
    return slowest(made, comm), slowest(reduced, comm), slowest(time.perf_counter() - begin, comm)


def against_lapack(basis: ACEBasis, dataset, ours: np.ndarray) -> None:
    """numpy's QR and scipy's lstsq of the gathered matrix and the factors, in turn: medians of three."""
    references: dict[bytes, np.ndarray] = {}
    rows, values = [], []
    for c, labels in zip(dataset.configurations, dataset.labels, strict=True):
        evaluation = Evaluation(basis, c, references)
        for name, weight in WEIGHTS.items():
            rows.append(np.sqrt(weight) * OBSERVATIONS[name].rows(evaluation))
            values.append(np.sqrt(weight) * OBSERVATIONS[name].values(c, labels))
    matrix, right = np.vstack(rows), np.concatenate(values)
    seconds: dict[str, list[float]] = {"factors": [], "numpy qr": [], "scipy lstsq": []}
    for _ in range(3):
        begin = time.process_time()
        factor = RFactor(basis.n_basis)
        for part, value in zip(rows, values, strict=True):
            factor.add(part, value)
        _ = factor.triangle
        seconds["factors"].append(time.process_time() - begin)
        begin = time.process_time()
        np.linalg.qr(matrix, mode="r")
        seconds["numpy qr"].append(time.process_time() - begin)
        begin = time.process_time()
        theirs = scipy.linalg.lstsq(matrix, right, cond=1e-12, lapack_driver="gelsy")[0]
        seconds["scipy lstsq"].append(time.process_time() - begin)
    told = ", ".join(f"{name} {np.median(s):.2f}" for name, s in seconds.items())
    residual = [np.linalg.norm(matrix @ c - right) for c in (ours, theirs)]
    print(f"peers, {matrix.shape[0]} x {matrix.shape[1]}, processor seconds: {told}; residual of the fit "
          f"{residual[0]:.6e}, of scipy's {residual[1]:.6e}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole", action="store_true", help="200 configurations, degree 18 (2,849 functions)")
    parser.add_argument("--configurations", type=int)
    parser.add_argument("--degree", type=int, help="total degree, order 4")
    parser.add_argument("--solver", default="rrqr")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    number = options.configurations or (200 if options.whole else 40)
    degree = options.degree or (18 if options.whole else 12)
    basis = ACEBasis(("W",), correlation_order=4, total_degree=degree, cutoff=CUTOFF, r0=R0, r_in=0.5 * R0)
    begin = time.perf_counter()
    n_basis = basis.n_basis
    basis.design(*_smallest(basis))  # compiles, or loads what was compiled
    ready = slowest(time.perf_counter() - begin, comm)
    states = configurations(number)
    n_rows = number * (1 + 3 * states[0].n_sites)
    if comm.rank == 0:
        told = max(memory_estimate(n_basis, comm.size, 2), solver_memory(n_basis, options.solver))
        print(f"{n_rows} x {n_basis} on {comm.size} ranks; told: at most {told / 2**30:.2f} GiB on rank 0; couplings "
              f"and kernels {ready:.1f} s", flush=True)  # fmt: skip
    comm.Barrier()
    begin = time.perf_counter()
    dataset = labelled(builtin("W-EAM4"), states, comm=comm)
    labels = slowest(time.perf_counter() - begin, comm)
    begin = time.perf_counter()
    factors = build_factors(basis, dataset, tuple(WEIGHTS), comm=comm)
    design = slowest(time.perf_counter() - begin, comm)
    begin = time.perf_counter()
    found = fit(factors, WEIGHTS, solver=options.solver, tolerance=1e-8, comm=comm)
    solve = slowest(time.perf_counter() - begin, comm)
    peak = comm.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    parts = rows_apart(basis, dataset, comm)
    if comm.rank == 0:
        total = labels + design + solve
        print(f"end to end {total:.1f} s: labels {labels:.1f}, rows and factors {design:.1f}, {options.solver} "
              f"{solve:.1f}" + (f"; the paper's fit took {PAPER_SECONDS} s" if n_rows >= 41600 else ""))  # fmt: skip
        print("rows and factors again, apart: rows {:.1f} s, their reduction {:.1f} s, tree {:.1f} s".format(*parts))
        print(f"rank {found.rank}, residual {found.residual_norm / found.value_norm:.2e} of the values' norm; memory "
              f"{sum(peak or []):.2f} GiB")  # fmt: skip
        if n_rows * n_basis <= 10_000_000:
            against_lapack(basis, dataset, found.coefficients)


def _smallest(basis: ACEBasis):
    from parmlip.fit.observations import environments

    state = configurations(1)[0]
    around, site_p = environments(state, basis.species, basis.cutoff)
    return around, site_p, state.n_sites


if __name__ == "__main__":
    main()
