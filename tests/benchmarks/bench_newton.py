"""Newton and CG iterations, time and memory of one vacancy against the number of sites, matrix-free.

    [mpirun -n 2] python -m tests.benchmarks.bench_newton [largest number of sites]
    pytest -s tests/benchmarks/bench_newton.py

Peers in the same run, interleaved size by size: the same Newton with an assembled Hessian and PETSc's algebraic
multigrid (smallest size: the Hessian takes 40 kB a site), and matrix-free CG without preconditioner (up to 20,000
sites). Memory is what a process of its own grows by, from before the energy is built, on one rank. The measured
prototype of the method took 4 Newton and 13 CG steps at every size.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics import relax as relaxation
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.memory import bytes_per_site
from parmlip.mechanics.newton import NewtonDirection
from parmlip.potentials.eam import builtin

# law, lattice, conventional cells along an edge: about 2e3, 1.6e4 and 1.3e5 sites
CASES = [("W-EAM4", "bcc", (10, 20, 40)), ("Cu-Mishin2001", "fcc", (8, 16, 32))]
MULTIGRID_LIMIT, PLAIN_LIMIT = 4_000, 20_000
SETTINGS = Relax(force_tolerance=1e-8)


def case(name, lattice, edge):
    """Law and cell with one vacancy."""
    law = builtin(name)
    shape, a0 = relaxed_lattice(law, LATTICES[lattice], law.species[:1])
    perfect = build_supercell(shape, a0, (edge,) * 3, law.species[:1])
    return law, apply_defects(perfect, [Vacancy(at=(0, 0, 0))])


def print_growth(name, lattice, edge):
    """In a process of its own: kB per site by which the largest resident set grows."""
    peaks = []
    for cells in (4, edge):  # the small one loads libraries and compiled kernels
        law, supercell = case(name, lattice, cells)
        timed(Energy(law, supercell, comm=MPI.COMM_SELF))
        # Not getrusage: its maximum includes that of the parent at the fork.
        status = Path("/proc/self/status").read_text().splitlines()
        peaks.append(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
    print((peaks[1] - peaks[0]) * 1.024 / supercell.n_sites)


def growth(comm, *names):
    """kB per site measured by `print_growth`, or "-" on several ranks."""
    if comm.size > 1:
        return "-"
    command = [sys.executable, __file__, "growth", *map(str, names)]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
    return f"{float(done.stdout):.1f}"


def timed(energy, **options):
    """An equilibrium and the seconds that it took, the preconditioner's set-up included."""
    start = time.perf_counter()
    found = relaxation.relax(energy, np.zeros((energy.sites.n_owned, energy.dimension)), SETTINGS, **options)
    return found, time.perf_counter() - start


def without_green(energy, *, matrix_free):
    """The peers: the same outer iteration with another inner solver."""
    given = relaxation.bulk_green, relaxation._direction
    relaxation.bulk_green = lambda _: None
    relaxation._direction = lambda e, green, _: NewtonDirection(e, green, matrix_free=matrix_free)
    try:
        return timed(energy)
    finally:
        relaxation.bulk_green, relaxation._direction = given


def line(comm, name, n_sites, found, seconds, memory=""):
    if comm.rank == 0:
        inner = " ".join(map(str, found.inner_iterations))
        print(
            f"{name:>26} {n_sites:>8} {found.iterations:>6} {sum(found.inner_iterations):>5}  {inner:<16} "
            f"{found.energy:>16.10f} {seconds:>8.2f} {1e6 * seconds / n_sites:>9.1f}  {memory}",
            flush=True,
        )


def measure(comm, largest=150_000):
    """All lines; returns {law: [(sites, Newton, CG)]}."""
    if comm.rank == 0:
        print(
            f"{'':>26} {'sites':>8} {'Newton':>6} {'CG':>5}  {'per step':<16} {'E(u)-E(0) (eV)':>16} {'seconds':>8} "
            f"{'us/site':>9}  kB/site (estimate)"
        )
    counts = {}
    for name, lattice, edges in CASES:
        for edge in edges:
            law, supercell = case(name, lattice, edge)
            if supercell.n_sites > largest:
                continue
            energy = Energy(law, supercell, comm=comm)
            found, seconds = timed(energy)
            estimate = bytes_per_site(law, supercell, energy.margin, assembled=False) / 1e3
            memory = f"{growth(comm, name, lattice, edge)} ({estimate:.1f})"
            line(comm, f"{name} Green's function", supercell.n_sites, found, seconds, memory)
            counts.setdefault(name, []).append((supercell.n_sites, found.iterations, sum(found.inner_iterations)))
            if supercell.n_sites < MULTIGRID_LIMIT:
                line(comm, "multigrid, assembled", supercell.n_sites, *without_green(energy, matrix_free=False))
            if supercell.n_sites < PLAIN_LIMIT:
                line(comm, "plain CG", supercell.n_sites, *without_green(energy, matrix_free=True))
    return counts


@pytest.mark.benchmark
def test_iteration_counts_stay_level_with_the_number_of_sites():
    for rows in measure(MPI.COMM_WORLD, largest=20_000).values():
        newton, cg = zip(*[row[1:] for row in rows], strict=True)
        assert max(newton) - min(newton) <= 1
        assert max(cg) - min(cg) <= 3


if __name__ == "__main__":
    if sys.argv[1:2] == ["growth"]:
        print_growth(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        measure(MPI.COMM_WORLD, *map(int, sys.argv[1:]))
