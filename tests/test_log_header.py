"""What a run says before it begins."""

from __future__ import annotations

import logging

import pytest
from ase.build import bulk
from mpi4py import MPI

from parmlip import pipeline_header
from parmlip.cli_files import TEMPLATES
from parmlip.config import load, loads
from parmlip.construct_warnings import charge_warning
from parmlip.evaluate import evaluate

INPUT = """
[crystal]
lattice = "bcc"
species = ["W"]

[reference]
parameters = "W-Zhou"
taper = [5.0, 6.0]

[simulation]
cell = [8, 8, 8]
defects = [{ kind = "vacancy", at = [0, 0, 0] }]

[[training]]
cell = [3, 3, 3]
rattle = 0.03

[[training]]
cell = [4, 4, 4]
name = "bulk"

[fit]
solver = "blr"
weights = { force = 2.0, virial = 0.0 }

[sweep]
"surrogate.total_degree" = [6, 8]
"""
TIGHT_BINDING = '[reference]\nkind = "tight_binding"\nparameters = "Si-NRLTB"\ncharge = CHARGE\n'


def header(study):
    return pipeline_header.header(study, MPI.COMM_SELF)


def test_only_keys_that_are_given_or_changed_are_told_each_on_a_line_that_set_would_take():
    study = loads(INPUT, ["relax.method=lbfgs"])
    told = [line.removeprefix("    ") for line in header(study) if line.startswith("    ")]
    keys = [line.partition(" = ")[0] for line in told]
    assert keys == [
        "run.output", "crystal.lattice", "crystal.species", "reference.parameters", "reference.taper",
        "simulation.cell", "simulation.defects", "training.0.cell", "training.0.rattle", "training.0.name",
        "training.1.cell", "training.1.name", "fit.weights", "fit.solver", "relax.method",
        'sweep."surrogate.total_degree"',
    ]  # fmt: skip
    assert "fit.weights = { force = 2.0, virial = 0.0 }" in told
    assert 'fit.solver = "blr"' in told  # the default, but given
    assert 'training.1.name = "bulk"' in told
    empty = "[crystal]\n[reference]\n[simulation]\n[[training]]\n[[training]]\n"
    assert loads(empty, told) == study


def test_the_compilation_is_told_before_as_long_as_a_kernel_of_the_law_is_not_cached(monkeypatch, tmp_path):
    class Kernel:
        py_func = staticmethod(header)

        class stats:
            cache_path = tmp_path

    study = loads(INPUT)
    told = "compiling kernels, once on this machine: about half a minute"
    monkeypatch.setattr(pipeline_header, "_KERNELS", {"eam": Kernel})
    assert header(study)[-1] == told
    code = header.__code__
    (tmp_path / f"test_log_header.header-{code.co_firstlineno}.py399.nbi").touch()
    if pipeline_header._is_cached(pipeline_header.neighbours._sweep):
        assert told not in header(study)
    assert pipeline_header._is_cached(Kernel)
    assert pipeline_header._is_cached(header)  # nothing is compiled


@pytest.mark.parametrize(
    ("kind", "parameters", "symbol"),
    [
        ("eam", "W-Zhou", "W"),
        ("stillinger_weber", "Si-SW", "Si"),
        ("bond_order", "Si-Tersoff1989", "Si"),
        ("tight_binding", "Si-NRLTB", "Si"),
    ],
)
def test_the_kernels_that_are_looked_for_are_cached_by_a_run_of_their_law(kind, parameters, symbol):
    study = loads(f'[run]\nstages = ["build"]\n[reference]\nkind = "{kind}"\nparameters = "{parameters}"\n')
    evaluate(study, [bulk(symbol, cubic=True)], "reference", None, MPI.COMM_SELF, None)
    assert pipeline_header.compiled(study)


@pytest.mark.parametrize(("charge", "number"), [("1", "an odd"), ("-3.0", "an odd"), ("0.5", "no whole")])
def test_a_charge_that_leaves_an_electron_without_a_partner_is_told(charge, number, caplog):
    study = loads(TIGHT_BINDING.replace("CHARGE", charge))
    told = f"[reference] charge = {float(charge)}: leaves {number} number of electrons"
    assert any(line.startswith(told) for line in header(study))
    atoms = bulk("Si", cubic=True)
    logging.getLogger("parmlip").propagate = True
    evaluate(study, [atoms], "reference", None, MPI.COMM_SELF, None)
    assert any(record.getMessage().startswith(told) for record in caplog.records)


@pytest.mark.parametrize("text", ["charge = 0.0", "charge = 2", "fermi_level = 6.0"])
def test_pairs_of_electrons_and_a_fixed_level_are_no_matter(text):
    assert charge_warning(loads(TIGHT_BINDING.replace("charge = CHARGE", text))) is None
    assert charge_warning(load(TEMPLATES / "quickstart.toml")) is None
