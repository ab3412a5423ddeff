"""Newton and CG iterations, time and memory of one vacancy against the number of sites, matrix-free.

    [mpirun -n 2] python tests/benchmarks/bench_newton.py [largest number of sites]
    pytest -s tests/benchmarks/bench_newton.py

Peers in the same run, interleaved size by size: the same Newton with an assembled Hessian and PETSc's algebraic
multigrid (smallest size: the Hessian takes 40 kB a site), and matrix-free CG without preconditioner (up to 20,000
sites). Memory is the growth of the largest resident set over that before the energy was built (Linux). The measured prototype of the method took 4 Newton and 13 CG steps at every size.
"""

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


def resident(comm, which):
    """Resident memory of all ranks, bytes: now (VmRSS) or the largest since `forget_peak` (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return comm.allreduce(1024 * next(int(line.split()[1]) for line in lines if line.startswith(which)))


def forget_peak():
    """The largest resident set starts anew at the present one."""
    Path("/proc/self/clear_refs").write_text("5")


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
        law = builtin(name)
        shape, a0 = relaxed_lattice(law, LATTICES[lattice], law.species[:1])
        for edge in edges:
            supercell = apply_defects(
                build_supercell(shape, a0, (edge,) * 3, law.species[:1]), [Vacancy(at=(0, 0, 0))]
            )
            if supercell.n_sites > largest:
                continue
            forget_peak()
            before = resident(comm, "VmRSS")
            energy = Energy(law, supercell, comm=comm)
            found, seconds = timed(energy)
            used = (resident(comm, "VmHWM") - before) / supercell.n_sites / 1e3
            estimate = bytes_per_site(law, supercell, energy.margin, assembled=False) / 1e3
            line(comm, f"{name} Green's function", supercell.n_sites, found, seconds, f"{used:.1f} ({estimate:.1f})")
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
    measure(MPI.COMM_WORLD, *map(int, sys.argv[1:]))
