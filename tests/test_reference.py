"""Laws of whole structures as a user meets them: labels, kept results, runs that are killed, calculators that fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from parmlip.config import load, loads
from parmlip.errors import ConfigError
from parmlip.evaluate_total import evaluate_total
from parmlip.io.answers import ask
from parmlip.io.hdf5 import scalars
from parmlip.pipeline import check_same
from parmlip.potentials.external import ase_law
from parmlip.potentials.tight_binding import builtin
from tests import program

ROOT = Path(__file__).resolve().parent.parent
EMT_INPUT = '[reference]\nkind = "ase"\ncalculator = "ase.calculators.emt.EMT"\n'
# EMT that takes its time, writes down that it was asked, and fails where it is told to.
SLOW = """
import os, time
from ase.calculators.emt import EMT

class Slow(EMT):
    def __init__(self, seconds=0.0, fails_at=None, **options):
        super().__init__(**options)
        self.seconds, self.fails_at = seconds, fails_at

    def calculate(self, atoms=None, *given):
        with open("asked", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(self.seconds)
        if self.fails_at is not None and len(atoms) == self.fails_at:
            raise RuntimeError("the licence expired")
        super().calculate(atoms, *given)
"""


# A program of its own, which knows its structure from a file that ASE writes.
FILED = """
import sys
import ase.io
from ase.calculators.calculator import FileIOCalculator
from ase.calculators.emt import EMT

class Filed(FileIOCalculator):
    implemented_properties = ["energy", "forces"]
    _legacy_default_command = f"{sys.executable} {__file__} > said"

    def write_input(self, atoms, *given):
        super().write_input(atoms, *given)
        ase.io.write(f"{self.directory}/atoms.xyz", atoms, format="extxyz")  # ASE would write on rank 0 alone

    def read_results(self):
        found = ase.io.read(f"{self.directory}/found.xyz")
        self.results = {"energy": found.get_potential_energy(), "forces": found.get_forces()}

if __name__ == "__main__":
    atoms = ase.io.read("atoms.xyz")
    atoms.calc = EMT()
    atoms.get_forces()
    ase.io.write("found.xyz", atoms, format="extxyz")
"""


def structures(count, *, with_odd=None):
    made = []
    for i in range(count):
        atoms = bulk("Cu", cubic=True) * ((2, 1, 1) if i == with_odd else (1, 1, 1))
        atoms.rattle(0.05, seed=i)
        atoms.info["config_type"] = "rattled"
        made.append(atoms)
    return made


@pytest.fixture
def here(comm, shared_tmp, monkeypatch):
    """A directory, the same on all ranks, with inputs and a calculator's module."""
    monkeypatch.syspath_prepend(str(shared_tmp))
    if comm.rank == 0:
        (shared_tmp / "emt.toml").write_text(EMT_INPUT)
        (shared_tmp / "slow.toml").write_text(
            '[reference]\nkind = "ase"\ncalculator = "slow.Slow"\noptions = { seconds = 0.2 }\n'
        )
        (shared_tmp / "slow.py").write_text(SLOW)
        (shared_tmp / "filed.py").write_text(FILED)
        ase.io.write(shared_tmp / "in.xyz", structures(12), format="extxyz", parallel=False)
    comm.barrier()
    yield shared_tmp
    for name in ("slow", "filed"):
        sys.modules.pop(name, None)


@pytest.fixture
def parmlip(here, mpirun):
    """`parmlip(*arguments, ranks=)`: the program in the processes of the tests, or under an mpirun of its own."""

    def run(*arguments, ranks=0):
        if ranks:
            words = [sys.executable, "-m", "parmlip", *map(str, arguments)]
            return mpirun(ranks, *words, timeout=110, cwd=here, env={"PYTHONPATH": f"{ROOT}:{here}"})
        return program.parmlip(here, *arguments)

    return run


def asked(here):
    return len((here / "asked").read_text().splitlines()) if (here / "asked").exists() else 0


def given(atoms):
    return atoms.cell.array, tuple(map(bool, atoms.pbc)), atoms.positions, tuple(atoms.get_chemical_symbols())


@pytest.mark.mpi
def test_labels_are_the_same_on_any_number_of_ranks_and_group_sizes(comm):
    cells = [given(atoms) for atoms in structures(7)]
    law = ase_law("ase.calculators.emt.EMT")
    alone = [law.evaluate(*cell) for cell in cells]
    for size in (1, 2, comm.size):
        found = ask(law, cells, comm=comm, what="labels", ranks_per_group=size).results
        assert all(a.energy == b.energy and (a.forces_ac == b.forces_ac).all() for a, b in zip(found, alone))


@pytest.mark.mpi
def test_tight_binding_goes_through_the_farm_and_the_cache(comm, shared_tmp):
    text = '[reference]\nkind = "tight_binding"\nparameters = "Si-NRLTB"\nelectronic_temperature = 0.1\n'
    study = loads(text, ["run.output=tb.h5", f"reference.cache='{shared_tmp}/tb.cache.h5'"])
    silicon = bulk("Si", cubic=True)
    silicon.rattle(0.05, seed=1)
    first, answers = evaluate_total(study, [silicon], comm=comm, keep=True)
    again, kept = evaluate_total(study, [silicon], comm=comm, keep=True)
    other = study.with_value("reference.electronic_temperature", 0.2)
    _, different = evaluate_total(other, [silicon], comm=comm, keep=True)
    assert (answers.n_kept, kept.n_kept, different.n_kept) == (0, 1, 0)
    alone = builtin("Si-NRLTB", electronic_temperature=0.1).evaluate(*given(silicon))
    assert first[0].calc.results["energy"] == again[0].calc.results["energy"] == alone.energy
    assert (again[0].calc.results["forces"] == alone.forces_ac).all()


@pytest.mark.mpi(2)
def test_verb_writes_what_ase_says_under_its_keys_or_with_a_prefix(here, parmlip, comm):
    run = parmlip("reference", "emt.toml", "in.xyz", "-o", "out.xyz")
    assert run.returncode == 0, run.stderr
    assert comm.bcast("12 structures: 0 kept from before, 12 computed" in run.stdout)
    run = parmlip("reference", "emt.toml", "in.xyz", "-o", "ref.xyz", "--prefix", "REF_")
    assert comm.bcast("12 structures: 12 kept from before, 0 computed" in run.stdout)
    plain, prefixed = (ase.io.read(here / name, index=":", parallel=False) for name in ("out.xyz", "ref.xyz"))
    for atoms, other, start in zip(plain, prefixed, structures(12), strict=True):
        start.positions = atoms.positions
        start.calc = EMT()
        energy = start.get_potential_energy(force_consistent=True)
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), start.get_forces(), atol=1e-7)
        np.testing.assert_allclose(atoms.get_stress(), start.get_stress(), atol=1e-7)
        assert other.info["REF_energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(other.arrays["REF_forces"], atoms.get_forces(), atol=1e-7)


@pytest.mark.parametrize("prefix", ["", "REF_"])
def test_virials_that_a_structure_brings_are_not_given_out_as_the_laws(here, parmlip, prefix):
    slab = bulk("Cu", cubic=True) * (2, 2, 2)
    slab.pbc = (True, True, False)  # no stress
    slab.info |= {"virial": np.eye(3), f"{prefix}stress": np.eye(3), f"{prefix}virial": np.eye(3), "name": "slab"}
    ase.io.write(here / "slab.xyz", slab, parallel=False)
    run = parmlip("reference", "emt.toml", "slab.xyz", "-o", "out.xyz", *(["--prefix", prefix] if prefix else []))
    assert run.returncode == 0, run.stderr
    atoms = ase.io.read(here / "out.xyz", parallel=False)
    kept = {*atoms.info, *({} if atoms.calc is None else atoms.calc.results)}
    assert not [name for name in kept if "virial" in name.lower() or "stress" in name.lower()]
    assert "name" in kept


def test_evaluate_takes_such_a_law_and_leaves_no_cache(here, parmlip):
    assert parmlip("evaluate", "emt.toml", "in.xyz", "-o", "out.xyz").returncode == 0
    assert not (here / "emt.cache.h5").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_run_loses_at_most_what_was_in_flight(here, parmlip, ranks):
    words = [sys.executable, "-m", "parmlip", "reference", "slow.toml", "in.xyz", "-o", "out.xyz"]
    if ranks > 1:
        words = ["mpirun", "-n", str(ranks), *words]
    script = f". {ROOT}/jobs/env.sh && exec {' '.join(words)}"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_"))}
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=here, env={**env, "PYTHONPATH": f"{ROOT}:{here}"}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60.0
        while asked(here) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        for pid in set((here / "asked").read_text().split()):  # the ranks: mpirun gives them groups of their own
            os.kill(int(pid), signal.SIGKILL)
        process.wait()
    before = asked(here)
    assert 5 <= before < 12
    assert not (here / "out.xyz").exists()
    run = parmlip("reference", "slow.toml", "in.xyz", "-o", "out.xyz")
    assert run.returncode == 0, run.stderr
    assert asked(here) <= 12 + ranks
    assert len(ase.io.read(here / "out.xyz", index=":", parallel=False)) == 12


@pytest.mark.parametrize("ranks", [0, 3])
def test_calculator_that_fails_on_one_rank_ends_the_job_and_keeps_the_rest(here, parmlip, ranks):
    ase.io.write(here / "in.xyz", structures(9, with_odd=6), format="extxyz", parallel=False)
    (here / "slow.toml").write_text(
        '[reference]\nkind = "ase"\ncalculator = "slow.Slow"\noptions = { seconds = 0.05, fails_at = 8 }\n'
    )
    run = parmlip("reference", "slow.toml", "in.xyz", "-o", "out.xyz", ranks=ranks)
    assert run.returncode == 4, run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("parmlip: error:")]
    assert "configuration 6 on rank" in line
    assert "calculator slow.Slow failed: RuntimeError: the licence expired" in line
    assert not (here / "out.xyz").exists()
    before = asked(here)
    assert parmlip("reference", "slow.toml", "in.xyz", "-o", "out.xyz").returncode == 4
    assert asked(here) == before + 1  # the configuration that fails comes first of what is left, and is asked alone


BAD_INPUTS = [
    ("ase.calculators.emt.EMTT", "", "has no class EMTT; did you mean 'EMT'?"),
    ("ase.calculators.emtt.EMT", "", "cannot be imported"),
    ("ase.calculators.emt.EMT", "asap_cutof = true", "options.asap_cutof: ase.calculators.emt.EMT has no such keyword"),
]


@pytest.mark.mpi(2)
@pytest.mark.parametrize(("calculator", "option", "message"), BAD_INPUTS)
def test_wrong_calculator_is_one_line_and_exit_code_2(here, parmlip, comm, calculator, option, message):
    if comm.rank == 0:
        text = f'[reference]\nkind = "ase"\ncalculator = "{calculator}"\n[reference.options]\n{option}\n'
        (here / "bad.toml").write_text(text)
    comm.barrier()
    run = parmlip("reference", "bad.toml", "in.xyz", "-o", "out.xyz")
    assert run.returncode == 2, run.stderr
    (line,) = program.error_lines(run, comm)
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "ase"', "needs 'calculator'"),
        ('kind = "ase"\ncalculator = "a.B"\nk_points = [2, 2, 2]', 'is for kind = "tight_binding"'),
        ('kind = "eam"\nparameters = "W-Zhou"\noptions = { x = 1 }', 'is for kind = "ase"'),
        ('kind = "tight_binding"', 'one of "Si-NRLTB"'),
        ('kind = "tight_binding"\nparameters = "Si-NRLTB"\nk_points = [0, 1, 1]', "must be at least 1"),
    ],
)
def test_keys_of_another_kind_are_refused(text, message):
    with pytest.raises(ConfigError) as error:
        loads(f"[reference]\n{text}\n")
    assert message in str(error.value)


@pytest.mark.parametrize("change", ["fit.constraints=['elastic']", "fit.weights={ energy = 1.0, site_energy_1 = 1.0 }"])
def test_what_needs_site_energies_is_refused_before_any_work(change):
    with pytest.raises(ConfigError, match='kind = "tight_binding"'):
        load(ROOT / "inputs" / "laws" / "si_tight_binding.toml", [change])


def test_pipeline_with_a_calculator_finds_the_vacancy(here, parmlip):
    source = (ROOT / "inputs" / "laws" / "cu_emt.toml").read_text()
    (here / "cu.toml").write_text(
        source.replace("cell = [4, 4, 4]", "cell = [3, 3, 3]").replace("[2, 2, 2] }]", "[1, 1, 1] }]")
    )
    run = parmlip("cu.toml", "--set", "report.figure=false", ranks=2)
    assert run.returncode == 0, run.stderr
    found = scalars(here / "cu.h5")
    crystal = bulk("Cu", cubic=True, a=found["build.lattice_constant"]) * (2, 2, 2)
    crystal.calc = EMT(asap_cutoff=True)
    assert abs(crystal.get_stress()[:3]).max() < 1e-8
    assert found["reference.bulk_energy"] == pytest.approx(crystal.get_potential_energy() / 32, abs=1e-12)
    assert found["relax_reference.max_force"] < 1e-5
    assert found["compare.same_basin"]
    assert found["compare.formation_energy_error"] < 0.01
    assert not (here / "cu.cache.h5.new").exists()
    run = parmlip("cu.toml", "--set", "report.figure=false", "--overwrite")
    assert run.returncode == 0, run.stderr
    assert "0 computed" in run.stdout
    assert scalars(here / "cu.h5")["relax_reference.energy"] == found["relax_reference.energy"]


def test_result_file_of_before_a_key_existed_is_resumed_with_its_default():
    study = load(ROOT / "inputs" / "quickstart.toml")
    stored = "\n".join(line for line in study.as_toml().splitlines() if not line.startswith(("convention", "hessian")))
    assert stored != study.as_toml().rstrip()
    check_same(study, stored)
    with pytest.raises(ConfigError, match="seed was 1 in .* and is 2 now"):
        check_same(study.with_value("run.seed", 2), stored)


@pytest.mark.mpi(2)
@pytest.mark.parametrize("ranks_per_calculator", [0, 1])
def test_calculators_with_programs_have_a_directory_for_each_group(here, parmlip, comm, ranks_per_calculator):
    if comm.rank == 0:
        text = f'[reference]\nkind = "ase"\ncalculator = "filed.Filed"\nranks_per_calculator = {ranks_per_calculator}\n'
        (here / "filed.toml").write_text(text)
        ase.io.write(here / "in.xyz", structures(3), format="extxyz", parallel=False)
    comm.barrier()
    run = parmlip("reference", "filed.toml", "in.xyz", "-o", "out.xyz")
    assert run.returncode == 0, run.stderr
    groups = sorted(path.name for path in (here / "filed.calculators").iterdir())
    assert groups == [f"group-{i}" for i in range(comm.size if ranks_per_calculator else 1)]
    for atoms in ase.io.read(here / "out.xyz", index=":", parallel=False):
        alone = atoms.copy()
        alone.calc = EMT()
        np.testing.assert_allclose(atoms.get_forces(), alone.get_forces(), atol=1e-6)
