"""Strong scaling of design rows, factors, energies and forces on one and two ranks, and a model of weak scaling.

    python -m tests.benchmarks.bench_scaling [--rounds 5] [--latency 2e-6] [--bandwidth 10e9]

starts `mpirun -n 1` and `mpirun -n 2` of itself in turn and prints medians of elapsed times and their ratios. One rank
alone and each of two ranks at once also do one and the same piece of work without any communication ("same work"): what
that loses is the machine's (shared caches, memory, other programs), and no parallel program on it does better.

On a machine that others use, processor time says more than elapsed time (waiting ranks spin, so it is no flattery).

The model gives each rank the same work. Measured are: times on one rank, the number and bytes of messages and of
collective calls (counted while the code runs on two ranks), the ghosts and neighbours of the worst rank in the code's
own partition of a crystal for so many ranks, the bytes of a triangular factor and the time to merge two. Assumed are
latency (s) and bandwidth (B/s) of the network: a collective call costs log2(ranks) latencies.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

REPEATS = (10, 10, 10)  # conventional bcc cells: 2000 sites
N_CONFIGURATIONS, CELL = 32, (3, 3, 3)  # of 54 sites
EVALUATIONS = 20
LATTICE_CONSTANT = 3.1434


def counted(comm):
    """A communicator that counts messages, collective calls and bytes."""
    from mpi4py import MPI

    class Counted(MPI.Intracomm):
        def __new__(cls, comm):
            return super().__new__(cls, comm)

    def wrap(name, kind):
        original = getattr(MPI.Intracomm, name)

        def call(self, *args, **keys):
            self.count[kind] += 1
            if kind == "messages":
                buffer = args[0][0] if isinstance(args[0], list) else args[0]
                self.count["bytes"] += buffer.nbytes
            return original(self, *args, **keys)

        setattr(Counted, name, call)

    for name in ("Isend", "Send"):
        wrap(name, "messages")
    for name in ("Allreduce", "allreduce", "allgather", "Allgatherv", "bcast", "Bcast", "alltoall", "Alltoallv"):
        wrap(name, "collectives")
    out = Counted(comm)
    out.count = Counter()
    return out


def elapsed(comm, function):
    """Elapsed and processor seconds of the slowest rank; the latter include what a rank spins while it waits."""
    comm.Barrier()
    start, start_cpu = time.perf_counter(), time.process_time()
    function()
    cpu = time.process_time() - start_cpu
    comm.Barrier()
    return np.array([time.perf_counter() - start, max(comm.allgather(cpu))])


def measure():
    """What one run on some ranks tells, as a dictionary on rank 0."""
    from ase.build import bulk
    from mpi4py import MPI

    from parmlip.crystal.lattices import lattice_named
    from parmlip.crystal.supercell import build_supercell
    from parmlip.fit.dataset import Dataset
    from parmlip.fit.design import build_factors
    from parmlip.fit.observations import Configuration, Evaluation, Labels
    from parmlip.mechanics.energy import Energy
    from parmlip.numerics.lstsq import RFactor
    from parmlip.potentials.ace import ACE, ACEBasis

    comm = MPI.COMM_WORLD
    basis = ACEBasis(("W",), 3, 16, cutoff=5.5, r0=2.72)
    law = ACE(basis, np.random.default_rng(0).normal(size=basis.n_basis))
    supercell = build_supercell(lattice_named("bcc"), LATTICE_CONSTANT, REPEATS, ("W",))
    communicator = counted(comm)
    energy = Energy(law, supercell, comm=communicator)
    rng = np.random.default_rng(1)
    u_nd = 0.02 * rng.standard_normal((supercell.n_sites, 3))[energy.sites.global_n]

    cells = [bulk("W", "bcc", a=LATTICE_CONSTANT, cubic=True) * CELL for _ in range(N_CONFIGURATIONS)]
    for number, cell in enumerate(cells):
        cell.rattle(0.05, seed=number)
    configurations = tuple(
        Configuration(np.array(c.cell), (True, True, True), c.positions, ("W",) * len(c)) for c in cells
    )
    labels = tuple(Labels(0.0, rng.standard_normal((len(c), 3))) for c in cells)
    dataset = Dataset(configurations, labels)
    mine = configurations[comm.rank :: comm.size]

    def rows(some):
        for configuration in some:
            _ = Evaluation(basis, configuration).design

    energy.difference_and_forces(u_nd)
    rows(mine[:1])
    out = {}
    communicator.count.clear()
    out["forces"] = elapsed(comm, lambda: [energy.difference_and_forces(u_nd) for _ in range(EVALUATIONS)])
    out["forces"] /= EVALUATIONS
    out["force_counts"] = {k: v / EVALUATIONS for k, v in communicator.count.items()}
    around = energy.environments(u_nd)
    out["kernel"] = elapsed(comm, lambda: [law.site_gradients(around) for _ in range(EVALUATIONS)]) / EVALUATIONS
    out["most_pairs"] = comm.allreduce(len(around.r_pc), op=MPI.MAX) * comm.size / comm.allreduce(len(around.r_pc))
    out["rows"] = elapsed(comm, lambda: rows(mine))
    out["same work"] = elapsed(comm, lambda: rows(configurations[: N_CONFIGURATIONS // 2]))
    communicator.count.clear()
    out["factors"] = elapsed(comm, lambda: build_factors(basis, dataset, comm=communicator))
    counts = comm.gather(dict(communicator.count))
    out["factor_counts"] = {k: max(c.get(k, 0) for c in counts) for c in counts for k in c} if counts else {}
    parts = [RFactor(basis.n_basis) for _ in range(2)]
    for part in parts:
        part.add(rng.standard_normal((2 * basis.n_basis, basis.n_basis)), rng.standard_normal(2 * basis.n_basis))
        _ = part.triangle
    out["merge"] = elapsed(comm, lambda: parts[0].absorb(parts[1]))
    out = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in out.items()}
    return out if comm.rank == 0 else None


def halo_of_worst_rank(n_ranks):
    """Ghosts and neighbouring ranks of the rank with most ghosts; every rank has the sites of `REPEATS` cells."""
    from scipy.spatial import cKDTree

    from parmlip.crystal.lattices import lattice_named
    from parmlip.crystal.supercell import build_supercell
    from parmlip.mechanics.energy import MARGIN
    from parmlip.parallel.partition import bisect

    repeats = np.array(REPEATS)
    for i in range(n_ranks.bit_length() - 1):
        repeats[i % 3] *= 2
    supercell = build_supercell(lattice_named("bcc"), LATTICE_CONSTANT, repeats.tolist(), ("W",))
    box = np.diag(supercell.cell_cc)
    x_ac = np.mod(supercell.positions_ac + 1e-6, box)
    owner_a = bisect(supercell.positions_ac, n_ranks)
    ghosts, neighbours = 0, 0
    for rank in range(min(n_ranks, 8)):  # the boxes are alike
        near = cKDTree(x_ac[owner_a == rank], boxsize=box).query(x_ac, distance_upper_bound=5.5 + MARGIN)[0]
        halo_a = np.isfinite(near) & (owner_a != rank)
        ghosts = max(ghosts, int(halo_a.sum()))
        neighbours = max(neighbours, len(np.unique(owner_a[halo_a])))
    return ghosts, neighbours


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="one run on the ranks that mpirun gives")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency", type=float, default=2e-6, help="of the network, s")
    parser.add_argument("--bandwidth", type=float, default=10e9, help="of the network for each rank, bytes / s")
    options = parser.parse_args()
    if options.measure:
        result = measure()
        if result is not None:
            print(json.dumps(result), flush=True)
        return
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        sys.exit("no mpirun on the path")
    runs = {1: [], 2: []}
    for _ in range(options.rounds):
        for n_ranks, results in runs.items():
            command = [mpirun, "-n", str(n_ranks), sys.executable, str(Path(__file__)), "--measure"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            if done.returncode:
                sys.exit(done.stderr)
            results.append(json.loads(done.stdout.splitlines()[-1]))

    def of(function, n_ranks, key, clock=0):
        return function(r[key][clock] for r in runs[n_ranks])

    n_sites = 2 * math.prod(REPEATS)
    print(
        f"#B 668, W; {n_sites} sites for E+F, {N_CONFIGURATIONS} configurations of {2 * math.prod(CELL)} sites for rows"
    )
    names = {
        "kernel": "E+F, kernel only",
        "forces": "E+F, mechanics.energy.Energy",
        "rows": "design rows",
        "factors": "fit.design.build_factors",
    }
    print(f"{'ms; medians':30s} {'elapsed: 1':>10s} {'2 ranks':>8s} {'speed-up':>8s} {'best':>6s} {'CPU: 1':>10s} "
          f"{'2 ranks':>8s} {'speed-up':>8s}")  # fmt: skip
    for key, name in names.items():
        one, two, cpu_one, cpu_two = (1e3 * of(statistics.median, n, key, c) for c in range(2) for n in (1, 2))
        best = of(min, 1, key) / of(min, 2, key)
        print(f"{name:30s} {one:10.1f} {two:8.1f} {one / two:8.2f} {best:6.2f} {cpu_one:10.1f} {cpu_two:8.1f} "
              f"{cpu_one / cpu_two:8.2f}")  # fmt: skip
    loss = [of(statistics.median, 2, "same work", c) / of(statistics.median, 1, "same work", c) for c in range(2)]
    print(f"same work on each of two ranks takes {loss[0]:.2f} times as long as on one alone (processor time "
          f"{loss[1]:.2f}): no program is faster than {2 / loss[0]:.2f} ({2 / loss[1]:.2f}) here")  # fmt: skip
    print(f"load: the fuller rank has {runs[2][0]['most_pairs']:.3f} of the mean number of pairs")
    merge, counts, factor = of(min, 1, "merge"), runs[2][0]["force_counts"], runs[2][0]["factor_counts"]
    print(f"2 ranks, E+F: {counts}; build_factors, worst rank: {factor}; merging two factors {1e3 * merge:.1f} ms")

    latency, bandwidth = options.latency, options.bandwidth
    print(f"\nweak scaling, model: latency {latency:g} s, bandwidth {bandwidth:g} B/s; each rank {n_sites} sites, or "
          f"{N_CONFIGURATIONS} configurations")  # fmt: skip
    print(f"{'ranks':>5s} {'ghosts':>7s} {'neighbours':>10s} {'kB/E+F':>8s} {'E+F ms':>8s} {'efficiency':>10s} "
          f"{'factors s':>9s} {'efficiency':>10s}")  # fmt: skip
    per_factor, n_factors = factor["bytes"] / (factor["messages"] / 2), factor["messages"] / 2
    for n_ranks in (1, 2, 4, 8, 16, 32, 64):
        steps = math.ceil(math.log2(n_ranks))
        ghosts, neighbours = halo_of_worst_rank(n_ranks) if n_ranks > 1 else (0, 0)
        volume = 2 * 24 * ghosts  # displacements out, gradients back
        exchange = 2 * neighbours * latency + volume / bandwidth + counts["collectives"] * steps * latency
        tree = steps * (n_factors * (2 * latency + per_factor / bandwidth + merge))
        forces, factors = of(min, 1, "forces"), of(min, 1, "factors")
        print(f"{n_ranks:5d} {ghosts:7d} {neighbours:10d} {volume / 1e3:8.1f} "
              f"{1e3 * (forces + exchange):8.2f} {forces / (forces + exchange):10.3f} {factors + tree:9.2f} "
              f"{factors / (factors + tree):10.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
