"""Bad input for laws of whole structures, on two ranks: one clear line, an exit code, no hang."""

from __future__ import annotations

import re
import sys

import ase.io
import pytest
from ase.build import bulk

from parmlip.config import loads
from parmlip.errors import ConfigError
from tests import program

# Fails on the rank that is told, or when it is made there.
FAILING = """
import time
from ase.calculators.emt import EMT
from mpi4py import MPI

class Failing(EMT):
    def __init__(self, rank=0, when="asked", **options):
        super().__init__(**options)
        self.fails = MPI.COMM_WORLD.rank == rank
        if self.fails and when == "made":
            raise RuntimeError("no licence here")

    def calculate(self, atoms=None, *given):
        if self.fails:
            raise RuntimeError("the licence expired")
        time.sleep(0.05)  # or one rank may be done before the other has begun
        super().calculate(atoms, *given)

class Stressless(EMT):
    implemented_properties = ["energy", "free_energy", "forces"]
"""
TIGHT_BINDING = '[reference]\nkind = "tight_binding"\nparameters = "Si-NRLTB"\n'
CALCULATOR = '[reference]\nkind = "ase"\ncalculator = "failing.Failing"\n'


def crystal(lattice, symbol, a):
    return (
        f'[run]\nstages = ["build", "reference", "train"]\n[crystal]\nlattice = "{lattice}"\nspecies = ["{symbol}"]\n'
        f"lattice_constant = {a}\n[simulation]\ncell = [1, 1, 1]\n"
        "[[training]]\ncell = [1, 1, 1]\nrelax = false\nsamples = 2\ntest_samples = 0\n"
        "[surrogate]\ncutoff = 4.5\ntotal_degree = 4\ncorrelation_order = 2\n"
    )


@pytest.fixture
def parmlip(comm, shared_tmp, monkeypatch):
    """`parmlip(text, *words)`: the program in the processes of the tests; "INPUT" stands for the file with the text."""
    monkeypatch.syspath_prepend(str(shared_tmp))
    if comm.rank == 0:
        (shared_tmp / "failing.py").write_text(FAILING)
        for symbol in ("Si", "Ge", "Cu"):
            structures = [bulk(symbol, cubic=True) for _ in range(4)]
            for i, atoms in enumerate(structures):
                atoms.rattle(0.03, seed=i)
            ase.io.write(shared_tmp / f"{symbol}.xyz", structures, format="extxyz", parallel=False)
    comm.barrier()

    def run(text, *words):
        if comm.rank == 0:
            (shared_tmp / "in.toml").write_text(text)
        comm.barrier()
        return program.parmlip(shared_tmp, *("in.toml" if word == "INPUT" else word for word in words))

    yield run
    sys.modules.pop("failing", None)


def told(run, code, comm):
    """The one line of the error."""
    assert run.returncode == code, run.stdout + run.stderr
    (line,) = program.error_lines(run, comm)
    return line


EVALUATE = ("evaluate", "INPUT", "Si.xyz", "-o", "out.xyz")


@pytest.mark.mpi(2)
@pytest.mark.parametrize(
    ("keys", "words", "code", "message"),
    [
        ("", ("evaluate", "INPUT", "Ge.xyz", "-o", "out.xyz"), 2, "has no parameters for Ge, only for Si"),
        ("", ("evaluate", "INPUT", "no.xyz", "-o", "out.xyz"), 4, "structure file no.xyz does not exist"),
        ('cache = "no/where.h5"\n', ("reference", "INPUT", "Si.xyz", "-o", "out.xyz"), 2, "there is no directory"),
        ('evaluator = "contour"\ncluster_radius = 5.0\n', EVALUATE, 2, "cluster_radius = 5 must be at least the law's"),
        ("charge = -40.0\n", EVALUATE, 4, "72 electrons do not fit into the 64 places"),
    ],
    ids=["species", "no file", "cache", "cutoff", "electrons"],
)  # fmt: skip
def test_bad_input_of_tight_binding_is_one_line(parmlip, comm, keys, words, code, message):
    assert message in told(parmlip(TIGHT_BINDING + keys, *words), code, comm)


@pytest.mark.mpi(2)
def test_an_odd_electron_in_a_degenerate_level_at_zero_temperature_is_told(parmlip, comm, shared_tmp):
    if comm.rank == 0:
        ase.io.write(shared_tmp / "Si.xyz", [bulk("Si", cubic=True)], format="extxyz", parallel=False)
    comm.barrier()
    line = told(parmlip(TIGHT_BINDING + "electronic_temperature = 0.0\ncharge = 1.0\n", *EVALUATE), 4, comm)
    assert "is degenerate and filled in part" in line
    assert "set a temperature above 0" in line
    for more in ([], ["--hessian", "h.h5"]):  # an odd number is nothing special at a temperature
        run = parmlip(TIGHT_BINDING + "electronic_temperature = 0.1\ncharge = 1.0\n", *EVALUATE, "--overwrite", *more)
        assert run.returncode == 0, run.stderr


@pytest.mark.mpi(2)
@pytest.mark.parametrize(
    ("rank", "when", "hessian"), [(1, "made", False), (0, "asked", False), (1, "asked", False), (1, "asked", True)]
)
def test_a_calculator_that_fails_on_one_rank_ends_all(parmlip, comm, shared_tmp, rank, when, hessian):
    if rank >= comm.size:
        pytest.skip("needs two ranks")
    text = CALCULATOR + f'ranks_per_calculator = 1\noptions = {{ rank = {rank}, when = "{when}" }}\n'
    more = ["--hessian", "h.h5"] if hessian else []
    line = told(parmlip(text, "evaluate", "INPUT", "Cu.xyz", "-o", "out.xyz", *more), 2 if when == "made" else 4, comm)
    assert ("no licence here" if when == "made" else f"on rank {rank}: calculator failing.Failing failed") in line
    assert not (shared_tmp / "out.xyz").exists()
    assert not (shared_tmp / "h.h5").exists()


@pytest.mark.mpi(2)
def test_a_calculator_that_fails_at_lattice_observations_ends_all(parmlip, comm):
    text = (
        CALCULATOR.replace("Failing", "Stressless") + crystal("fcc", "Cu", 3.61)
        + '[fit]\nweights = { energy = 1.0, force = 1.0, cauchy_born_2 = 1.0 }\n'
    )  # fmt: skip
    assert "the law gives no stress" in told(parmlip(text, "INPUT"), 4, comm)


@pytest.mark.parametrize(
    ("reference", "lattice", "message"),
    [
        (TIGHT_BINDING, ("diamond", "Ge", 5.6), "Ge has no parameters in [reference] parameters = \"Si-NRLTB\""),
        (TIGHT_BINDING + "k_points = [2, 2]\n", ("diamond", "Si", 5.4), "[reference] k_points"),
        (TIGHT_BINDING + 'cutoff_variant = "sharp"\n', ("diamond", "Si", 5.4), "[reference] cutoff_variant"),
        (TIGHT_BINDING + "electronic_temperature = -0.1\n", ("diamond", "Si", 5.4), "electronic_temperature = -0.1"),
        (TIGHT_BINDING + 'file = "Si.tb"\n', ("diamond", "Si", 5.4), 'file: is not for kind = "tight_binding"'),
    ],
)  # fmt: skip
def test_an_input_is_checked_before_any_work(reference, lattice, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        loads(reference + crystal(*lattice))
