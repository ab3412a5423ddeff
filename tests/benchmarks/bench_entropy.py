"""Formation entropy of a vacancy: Krylov spaces with an error bar against all eigenvalues, and against shifted solves.

Processor time of one process (or the sum over ranks), in the same run.

python -m tests.benchmarks.bench_entropy [cubic cells along the edge, 8 by default] [Cu or Si]
mpirun -n 2 python -m tests.benchmarks.bench_entropy 32 Si --large      (no dense algebra; steps, seconds, memory)
pytest -s tests/benchmarks/bench_entropy.py
"""

import sys
from time import process_time

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_reference import entropy_reference
from parmlip.mechanics.memory import PeakMemory
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.site_entropy import site_entropies
from parmlip.mechanics.spectrum import spectrum
from parmlip.mechanics.total_entropy import Work, total_entropy
from parmlip.potentials import stillinger_weber
from parmlip.potentials.eam import builtin

# law, lattice, lattice constant, whether the Hessian is stored
CASES = {
    "Cu": (builtin("Cu-Mishin2001"), "fcc", 3.615, False),
    "Si": (stillinger_weber.builtin("Si-SW"), "diamond", 5.430949777364731, True),
}


def vacancy(symbol, edge, comm):
    """Relaxed vacancy: energy with short pair lists, displacement."""
    law, lattice, a, _ = CASES[symbol]
    cell = apply_defects(build_supercell(LATTICES[lattice], a, (edge,) * 3, (symbol,)), [Vacancy((0, 0, 0))])
    energy = Energy(law, cell, comm=comm)
    start_nd = np.zeros((energy.sites.n_owned, 3))
    u_nd = relax(energy, start_nd, Relax(), green=bulk_green(energy)).u_nd
    return Energy(law, cell, comm=comm, margin=0.02), u_nd


def direct(energy, u_nd, stored, **work):
    """S_f, the parts, and processor seconds of this process."""
    begin = process_time()
    reference = entropy_reference(energy.law, energy.supercell, comm=energy.comm)
    matrix = (hessian.assembled if stored else hessian.operator)(energy, u_nd)
    with RelativeHessian(matrix, energy.law, energy.supercell, energy.sites) as relative:
        total = total_entropy(relative, energy, u_nd, Work(**work))
    matrix.destroy()
    return reference.formation(total.value), total, process_time() - begin


def compare(symbol="Cu", edge=8, tolerance=0.005):
    """Ratio of the times of dense algebra and Krylov spaces; the difference over the error bar."""
    energy, u_nd = vacancy(symbol, edge, MPI.COMM_SELF)
    direct(energy, u_nd, CASES[symbol][3], max_probes=4)  # compiled
    found, total, fast = direct(energy, u_nd, CASES[symbol][3], tolerance=tolerance, krylov_tolerance=1e-7)
    reference = entropy_reference(energy.law, energy.supercell, comm=energy.comm)
    begin = process_time()
    modes = spectrum(energy, u_nd, n_zero=3, n_negative=0, what="the cell")
    slow = process_time() - begin
    exact = modes.entropy - reference.n_def / reference.n_hom * reference.entropy
    print(
        f"{symbol}, {energy.supercell.n_sites} sites: {found:.5f} +- {total.error:.5f} k_B in {fast:.2f} s "
        f"({len(total.near_site_s)} near sites, {len(total.probe_value_k)} probes, {total.n_vectors} vectors, "
        f"{total.steps} steps); all eigenvalues {exact:.5f} in {slow:.1f} s: {slow / fast:.0f} times as long"
    )
    return slow / fast, (found - exact) / total.error


def methods(symbol="Cu", edge=6):
    """Processor time of the same few vectors by "ritz", "contour" and "ksp"."""
    energy, u_nd = vacancy(symbol, edge, MPI.COMM_SELF)
    few = {"near_radius": 0.8 * CASES[symbol][2], "max_probes": 4, "tolerance": 1e-6}
    runs = {name: direct(energy, u_nd, CASES[symbol][3], method=name, **few) for name in ("ritz", "contour", "ksp")}
    for name, (value, total, seconds) in runs.items():
        print(
            f"{symbol}, {energy.supercell.n_sites} sites, {total.n_vectors} vectors by {name}: {value:.12f}, "
            f"{seconds:.2f} s"
        )
    return runs


def large(symbol, edge, comm, tolerance=0.005):
    """Steps for 1e-10 per site, error bar, processor seconds and memory of all ranks."""
    peak = PeakMemory(comm)
    energy, u_nd = vacancy(symbol, edge, comm)
    n = energy.supercell.n_sites
    matrix = (hessian.assembled if CASES[symbol][3] else hessian.operator)(energy, u_nd)
    with RelativeHessian(matrix, energy.law, energy.supercell, energy.sites) as relative:
        steps = site_entropies(relative, np.array([-1, 0, n // 2]), tolerance=1e-10, batch=9).steps
    matrix.destroy()
    value, total, seconds = direct(energy, u_nd, CASES[symbol][3], tolerance=tolerance, batch=6)
    seconds = comm.allreduce(seconds)
    memory = (peak.growth() or 0) / n
    if comm.rank == 0:
        print(
            f"{symbol}, {n} sites: {steps} Lanczos steps for 1e-10 of a site; {value:.5f} +- {total.error:.5f} k_B by "
            f"{total.n_vectors} vectors, {seconds:.0f} s of {comm.size} processes, {memory / 1e3:.1f} kB a site"
        )


@pytest.mark.benchmark
def test_an_error_bar_of_5e_3_costs_a_fiftieth_of_all_eigenvalues():
    faster, off = compare("Cu", 10)
    assert faster > 50.0
    assert abs(off) < 4.0


@pytest.mark.benchmark
def test_one_krylov_space_is_cheaper_than_a_solve_for_every_shift():
    runs = methods()
    assert runs["ksp"][0] == pytest.approx(runs["contour"][0], abs=1e-9)
    assert runs["ksp"][2] > 3.0 * runs["contour"][2]


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    which = sys.argv[2] if len(sys.argv) > 2 else "Cu"
    if "--large" in sys.argv:
        large(which, size, MPI.COMM_WORLD)
    else:
        compare(which, size)
        methods(which)
