"""Files that an input names: results are of what they held, not of their names."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.cli import _study_of_law
from parmlip.config import load
from parmlip.config_schema import toml_document
from parmlip.construct import any_law
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.parallel.comm import on_root
from parmlip.pipeline import check_same, run
from parmlip.pipeline_stages import STAGES

CRYSTAL = {"lattice": "bcc", "species": ["W"], "lattice_constant": 3.165}
SIMULATION = {"cell": [4, 4, 4]}
TRAINING = [{"cell": [2, 2, 2]}]
LAW = {"parameters": "W-EAM4"}
OF_DATA = {
    "run": {"stages": ["build", "train", "relax", "report"]},
    "crystal": CRYSTAL,
    "simulation": SIMULATION,
    "relax": {"laws": ["surrogate"]},
}
OF_LAW = {"crystal": CRYSTAL, "reference": LAW, "simulation": SIMULATION, "training": TRAINING}
# What names the file, in an input; all else in it is as the table has it.
NAMED = {
    "reference.file": OF_LAW | {"reference": {"file": "NAME"}},
    "crystal.file": OF_LAW | {"crystal": {"file": "NAME", "species": ["W"]}},
    "dataset.train": OF_DATA | {"dataset": {"train": ["other.xyz", "NAME"]}},
    "dataset.test": OF_DATA | {"dataset": {"train": ["other.xyz"], "test": ["NAME"]}},
    "qmmm.mm_law": OF_LAW | {"qmmm": {"mm": "law", "mm_law": {"file": "NAME"}}},
    "sweep.reference.file": OF_LAW
    | {"sweep": {"reference.file": ["other.xyz", "NAME"]}, "reference": {"file": "other.xyz"}},
    "sweep.crystal.lattice_constant, reference.file": OF_LAW
    | {
        "sweep": {"crystal.lattice_constant, reference.file": [[3.1, "other.xyz"], [3.2, "NAME"]]},
        "reference": {"file": "other.xyz"},
    },
}


def written(directory: Path, tables, name: str, *overrides: str):
    """The input in a directory beside its files, and the study that it gives."""
    directory.mkdir(exist_ok=True)
    (directory / "other.xyz").write_text("another file")
    path = directory / "in.toml"
    path.write_text(toml_document(tables).replace("NAME", name))
    return load(path, [f"run.output='{directory / 'run.h5'}'", *overrides])


def tracing(calls):
    """The stage table with stages that write down that they ran, and compute nothing."""

    def traced(name, stage):
        def work(study, results, comm):
            calls.append((name, results.point))
            return {"number": Field(1.0)}

        instead = stage.instead and (stage.instead[0], traced(name, stage.instead[1]))
        return dataclasses.replace(stage, run=work, instead=instead)

    return {name: traced(name, stage) for name, stage in STAGES.items()}


@pytest.mark.parametrize("key", NAMED)
def test_results_of_a_file_that_has_changed_are_not_gone_on_with(key, tmp_path):
    (tmp_path / "w.law").write_text("as it was")
    calls = []
    run(written(tmp_path, NAMED[key], "w.law"), MPI.COMM_SELF, stages=tracing(calls))
    done = len(calls)
    run(written(tmp_path, NAMED[key], "w.law"), MPI.COMM_SELF, resume=True, stages=tracing(calls))
    assert calls[done:] == [("report", None)]
    (tmp_path / "w.law").write_text("as it is")
    with pytest.raises(ConfigError) as caught:
        run(written(tmp_path, NAMED[key], "w.law"), MPI.COMM_SELF, resume=True, stages=tracing(calls))
    assert str(caught.value).startswith(f'--resume: {key}: the file "w.law" is not what it was when {tmp_path}/run.h5')
    assert len(calls) == done + 1


@pytest.mark.parametrize("key", NAMED)
def test_a_file_may_be_moved(key, tmp_path):
    (tmp_path / "w.law").write_text("as it was")
    run(written(tmp_path, NAMED[key], "w.law"), MPI.COMM_SELF, stages=tracing([]))
    (tmp_path / "laws").mkdir()
    (tmp_path / "w.law").rename(tmp_path / "laws" / "tungsten")
    moved, calls = written(tmp_path, NAMED[key], "laws/tungsten"), []
    run(moved, MPI.COMM_SELF, resume=True, stages=tracing(calls))
    assert calls == [("report", None)]
    (tmp_path / "laws" / "tungsten").write_text("as it is")
    with pytest.raises(ConfigError, match='"laws/tungsten" is not what it was'):
        written_again = written(tmp_path, NAMED[key], "laws/tungsten")
        run(written_again, MPI.COMM_SELF, resume=True, stages=tracing(calls))
    (tmp_path / "laws" / "another").write_text("another law")
    with pytest.raises(ConfigError, match="use the old value or --overwrite"):
        run(written(tmp_path, NAMED[key], "laws/another"), MPI.COMM_SELF, resume=True, stages=tracing(calls))


def test_results_of_before_contents_were_kept_are_compared_by_names(tmp_path):
    (tmp_path / "w.law").write_text("as it was")
    study = written(tmp_path, NAMED["reference.file"], "w.law")
    check_same(study, study.as_toml())
    with pytest.raises(ConfigError, match=r"reference.file was .*w.law.* and is .*other"):
        check_same(written(tmp_path, NAMED["reference.file"], "other.xyz"), study.as_toml())


def test_a_refit_of_rows_from_a_file_that_has_changed_is_refused(tmp_path):
    (tmp_path / "w.law").write_text("as it was")
    before = written(tmp_path, NAMED["dataset.train"], "w.law")
    source = tmp_path / "run.h5"
    check_same(before, before.as_toml(), source, files=before.contents)
    (tmp_path / "w.law").write_text("as it is")
    now = written(tmp_path, NAMED["dataset.train"], "w.law", "fit.solver=rrqr")
    with pytest.raises(ConfigError, match=r'fit: dataset.train: the file "w.law" is not what it was when .*run.h5 was'):
        check_same(now, before.as_toml(), source, files=before.contents)


@pytest.mark.parametrize("key", ["qmmm.mm_law", "sweep.reference.file", "dataset.test", "crystal.file"])
def test_every_file_that_is_missing_is_told_before_any_work(key, tmp_path):
    with pytest.raises(ConfigError, match=rf"\[\w+\] [\w.]+ = \"absent\": no such file in {tmp_path}"):
        written(tmp_path, NAMED[key], "absent")


@pytest.mark.mpi
def test_all_ranks_know_the_same_contents(comm, shared_tmp):
    if comm.rank == 0:
        (shared_tmp / "w.law").write_text("as it was")
    comm.Barrier()
    study = on_root(comm, "reading the input", written, shared_tmp, NAMED["reference.file"], "w.law")
    run(study, comm, stages=tracing([]))
    kept = on_root(comm, "reading", lambda: json.loads(ResultFile(study.output).meta()["files"]))
    assert comm.allgather(study.contents) == [kept] * comm.size
    assert list(kept) == ["w.law"]


def test_a_result_file_is_used_where_the_files_of_its_input_are_not(tmp_path):
    (tmp_path / "w.law").write_text("as it was")
    study = written(tmp_path, NAMED["reference.file"], "w.law")
    run(study, MPI.COMM_SELF, stages=tracing([]))
    beside = _study_of_law(str(study.output), [])
    assert beside.contents == study.contents
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(study.output, tmp_path / "elsewhere")
    assert _study_of_law(str(tmp_path / "elsewhere" / "run.h5"), []).contents == {}


# ---- results that are kept by structure ------------------------------------------------------------------------------

STRUCTURE = (3.0 * np.eye(3), (True, True, True), np.zeros((1, 3)), ("W",))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.toml").write_text("")
    return tmp_path


def kept_as(**options) -> str:
    """The name under which the result of a structure is kept."""
    reference = {"kind": "ase", "calculator": "ase.calculators.emt.EMT", "options": options}
    Path("in.toml").write_text(toml_document({"reference": reference}))
    law = any_law(load("in.toml"))
    return law.cache.digest(*STRUCTURE)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "W.model"},
        {"pair_coeff": ["* * W.model W"], "pair_style": "eam/alloy"},
        {"pseudo_dir": "pseudo", "pseudopotentials": {"W": "W.UPF"}},
        {"files": ["with space"]},
    ],
    ids=["model", "word", "directory", "name_with_space"],
)
def test_kept_results_are_not_those_of_a_file_that_has_changed(here, options):
    (here / "pseudo").mkdir()
    for path in ("W.model", "pseudo/W.UPF", "with space"):
        (here / path).write_text("as it was")
    before = kept_as(**options)
    assert kept_as(**options) == before
    for path in ("W.model", "pseudo/W.UPF", "with space"):
        (here / path).write_text("as it is")
    assert kept_as(**options) != before


def test_kept_results_are_those_of_a_file_that_has_been_moved(here):
    (here / "W.model").write_text("as it was")
    before = kept_as(model="W.model")
    (here / "models").mkdir()
    (here / "W.model").rename(here / "models" / "one")
    assert kept_as(model="models/one") == before
    assert kept_as(model=str(here / "models" / "one")) == before


def test_what_calculators_write_does_not_change_their_results_names(here):
    before = kept_as(txt="out.txt", command="program < out.txt")
    (here / "out.txt").write_text("iteration 1")
    assert kept_as(txt="out.txt", command="program < out.txt") == before


def test_options_may_be_any_text(here):
    assert kept_as(text="a\0b") != kept_as(text="x" * 5000)
