"""Order of the work: chain check, sweep, resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.pipeline import alike, check_chain, check_same, plan, run, swept_steps
from parmlip.pipeline_stages import STAGES

INPUT = """
[run]
output = "{output}"
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-EAM4"
[simulation]
cell = [4, 4, 4]
[[training]]
cell = [2, 2, 2]
"""
SWEEP = "sweep.surrogate.total_degree=[6, 8]"


def study_of(path: Path = Path("run.h5"), *overrides: str):
    return loads(INPUT.format(output=path), overrides)


def tracing(calls, wrong=None):
    """The stage table with stages that write down that they ran; `wrong` is one that fails."""

    def stage(name):
        def work(study, results, comm):
            calls.append((name, results.point))
            if (name, results.point) == wrong:
                raise ConvergenceError("no convergence")
            before = [results.read(need, "number") for need in STAGES[name].needs]
            return {"number": Field(study.surrogate.total_degree + sum(before))}

        return work

    return {name: dataclasses.replace(stage_, run=stage(name)) for name, stage_ in STAGES.items()}


def test_only_what_depends_on_a_swept_table_is_done_at_each_point():
    assert swept_steps(study_of()) == frozenset()
    assert swept_steps(study_of(Path("run.h5"), SWEEP)) == {
        "train", "match", "relax_surrogate", "compare", "qmmm", "advise", "entropy_surrogate", "predict_entropy",
            "rates_surrogate",
    }  # fmt: skip
    for key, first in (("training.cell=[[2, 2, 2]]", "label"), ("reference.taper=[[4.0, 5.0]]", "build")):
        assert first in swept_steps(study_of(Path("run.h5"), f"sweep.{key}"))
    tasks = [(task.name, task.index) for task in plan(study_of(Path("run.h5"), SWEEP))]
    assert tasks == [
        ("build", None), ("reference", None), ("label", None), ("relax_reference", None),
        ("train", 0), ("relax_surrogate", 0), ("compare", 0),
        ("train", 1), ("relax_surrogate", 1), ("compare", 1),
        ("report", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run.stages=['relax']"], 'stages: "relax" needs "build" before it; write ["build", "reference", "train", '),
        (["run.stages=['build', 'reference', 'compare']"], '"compare" needs "relax" before it; write ["build", "ref'),
        (["run.stages=['reference', 'build']"], '"build" comes before "reference"; write ["build", "reference"]'),
        (["relax.laws=['reference']"], '[relax] laws = ["reference"]: stage "compare" needs both'),
    ],
)  # fmt: skip
def test_an_impossible_chain_is_refused(overrides, message):
    with pytest.raises(ConfigError) as caught:
        check_chain(study_of(Path("run.h5"), *overrides))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("crystal", 'missing table [crystal]: stage "build" needs it'),
        ("reference", 'missing table [reference]: stage "build" needs it'),
        ("simulation", 'missing table [simulation]: stage "build" needs it'),
        ("training", 'missing table [[training]]: stage "train" needs it'),
    ],
)
def test_a_missing_table_is_told_with_the_stage_that_needs_it(table, message):
    study = study_of()
    study = dataclasses.replace(study, tables={k: v for k, v in study.tables.items() if k != table})
    with pytest.raises(ConfigError) as caught:
        check_chain(study)
    assert str(caught.value) == message


def test_a_chain_without_surrogate_needs_no_training():
    study = study_of(Path("run.h5"), "run.stages=['build', 'reference', 'relax', 'report']", "relax.laws=['reference']")
    check_chain(study)
    assert [task.name for task in plan(study)] == ["build", "reference", "relax_reference", "report"]


@pytest.mark.mpi(2, 3)
def test_a_failed_run_is_resumed_where_it_failed_with_identical_results(comm, shared_tmp):
    whole, broken = shared_tmp / "whole.h5", shared_tmp / "broken.h5"
    calls: list = []
    run(study_of(whole, SWEEP), comm, stages=tracing(calls))
    assert len(calls) == 11
    first: list = []
    with pytest.raises(ConvergenceError):
        run(study_of(broken, SWEEP), comm, stages=tracing(first, wrong=("relax_surrogate", 1)))
    second: list = []
    run(study_of(broken, SWEEP), comm, resume=True, stages=tracing(second))
    assert first[-2:] == [("relax_surrogate", 1), ("report", None)]  # the other points and the report are not lost
    assert first[:-2] + second == calls
    if comm.rank == 0:
        for name, point in calls:
            at = point if name in ("train", "relax_surrogate", "compare") else None
            assert ResultFile(whole).read(name, "number", at) == ResultFile(broken).read(name, "number", at)
        assert "resuming: 8 of 11 steps are complete" in broken.with_suffix(".log").read_text()
    comm.barrier()


@pytest.mark.mpi(2)
def test_an_existing_output_is_neither_lost_nor_taken_for_another_input(comm, shared_tmp):
    path = shared_tmp / "run.h5"
    run(study_of(path), comm, stages=tracing([]))
    with pytest.raises(ConfigError, match="exists; use --overwrite, or --resume to go on with it"):
        run(study_of(path), comm, stages=tracing([]))
    with pytest.raises(ConfigError, match="exclude each other"):
        run(study_of(path), comm, resume=True, overwrite=True, stages=tracing([]))
    with pytest.raises(ConfigError, match=r"--resume: surrogate.total_degree was 10 in .* and is 4 now"):
        run(study_of(path, "surrogate.total_degree=4"), comm, resume=True, stages=tracing([]))
    calls: list = []
    run(study_of(path, "run.threads=2", "report.figure=false"), comm, resume=True, stages=tracing(calls))
    assert calls == [("report", None)]
    run(study_of(path, "surrogate.total_degree=4"), comm, overwrite=True, stages=tracing(calls))
    unasked = {"match", "qmmm", "advise", "entropy", "entropy_surrogate", "predict_entropy", "rates", "rates_surrogate"}
    assert len(calls) == 1 + len(STAGES) - len(unasked | {"locality", "qmmm"})


@pytest.mark.mpi(2)
def test_a_replaced_result_is_only_gone_when_there_is_a_new_one(comm, shared_tmp):
    path, aside = shared_tmp / "run.h5", shared_tmp / "run.h5.replaced"
    run(study_of(path), comm, stages=tracing([]))
    other = study_of(path, "surrogate.total_degree=4")
    with pytest.raises(ConvergenceError, match="no convergence"):
        run(other, comm, overwrite=True, stages=tracing([], wrong=("build", None)))
    comm.barrier()
    if comm.rank == 0:
        assert ResultFile(path).read("build", "number") == 10
        assert not aside.exists()
        path.rename(aside)  # a run was killed in its first step
    comm.barrier()
    calls: list = []
    run(study_of(path), comm, resume=True, stages=tracing(calls))
    assert calls == [("report", None)]
    run(other, comm, overwrite=True, stages=tracing([]))
    if comm.rank == 0:
        assert ResultFile(path).read("build", "number") == 4
        assert not aside.exists()
    comm.barrier()


def test_a_finished_run_can_be_continued_by_further_stages(comm, tmp_path):
    path = tmp_path / "run.h5"
    run(study_of(path, "run.stages=['build', 'reference', 'train']"), comm, stages=tracing([]))
    calls: list = []
    run(study_of(path, "run.stages=['relax', 'compare']"), comm, resume=True, stages=tracing(calls))
    assert [name for name, _ in calls] == ["relax_reference", "relax_surrogate", "compare"]


@pytest.mark.mpi(2)
def test_a_result_that_is_not_a_number_is_an_error_that_names_the_stage(comm, shared_tmp):
    stages = tracing([])
    values = {"nested": Field({"forces": np.array([1.0, np.nan, np.nan])})}
    stages["reference"] = dataclasses.replace(stages["reference"], run=lambda study, results, comm: values)
    with pytest.raises(ConvergenceError, match=r"stage reference: result 'nested.forces' has 2 NaN of 3 numbers"):
        run(study_of(shared_tmp / "run.h5"), comm, stages=stages)


@pytest.mark.mpi(2)
def test_an_output_that_cannot_be_written_is_told_before_any_work(comm, shared_tmp):
    calls: list = []
    with pytest.raises(ConfigError, match="there is no directory"):
        run(study_of(shared_tmp / "absent" / "run.h5"), comm, stages=tracing(calls))
    if comm.rank == 0:
        (shared_tmp / "dir.h5").mkdir()
    comm.barrier()
    with pytest.raises(ConfigError, match="is a directory"):
        run(study_of(shared_tmp / "dir.h5"), comm, overwrite=True, stages=tracing(calls))
    assert calls == []


def test_lists_of_tables_are_compared_member_by_member():
    stored = study_of().as_toml()
    check_same(study_of(), stored)
    with pytest.raises(ConfigError, match=r"training.0.samples was 100 in run.h5 and is 7 now"):
        check_same(study_of(Path("run.h5"), "training.samples=7"), stored)
    with pytest.raises(ConfigError, match=r"crystal.c_over_a was absent"):
        check_same(study_of(Path("run.h5"), "crystal.lattice=hcp", "crystal.c_over_a=1.6"), stored)


def test_a_step_is_done_once_for_all_points_that_agree_in_what_it_depends_on(tmp_path):
    calls = []
    path = tmp_path / "run.h5"
    study = study_of(path, SWEEP, "sweep.relax.force_tolerance=[1e-3, 1e-4]")
    run(study, MPI.COMM_SELF, stages=tracing(calls))
    assert [at for name, at in calls if name == "train"] == [0, 2]
    assert [at for name, at in calls if name == "relax_surrogate"] == [0, 1, 2, 3]
    file = ResultFile(path)
    numbers = [file.read("train", "number", i) for i in range(4)]
    assert numbers == [numbers[i] for i in (0, 0, 2, 2)]
    assert numbers[0] != numbers[2]
    calls.clear()
    run(study_of(path, SWEEP, "sweep.relax.force_tolerance=[1e-3, 1e-4]"), MPI.COMM_SELF, resume=True,
        stages=tracing(calls))  # fmt: skip
    assert calls == [("report", None)]


def test_a_point_takes_the_variant_of_a_step_that_its_own_values_ask_for(tmp_path):
    calls = []
    stages = tracing(calls)
    pick, controlled = STAGES["train"].instead

    def work(study, results, comm):
        calls.append(("train_controlled", results.point))
        return {"number": Field(0)}

    stages["train"] = dataclasses.replace(stages["train"], instead=(pick, dataclasses.replace(controlled, run=work)))
    kinds = 'sweep.surrogate.kind, surrogate.states=[["ace", "equilibrium"], ["taylor", "lattice"]]'
    run(study_of(tmp_path / "run.h5", kinds), MPI.COMM_SELF, stages=stages)
    assert [call for call in calls if call[0].startswith("train")] == [("train", 0), ("train_controlled", 1)]


def test_points_that_differ_in_no_key_of_a_step_are_alike():
    study = study_of(Path("run.h5"), SWEEP, "sweep.relax.force_tolerance=[1e-3, 1e-4]")
    same = alike(study)
    assert [same["train", i] for i in range(4)] == [[], [0], [], [2]]
    assert [same["relax_surrogate", i] for i in range(4)] == [[], [], [], []]
    assert same["build", 3] == [0, 1, 2]


def test_points_whose_fits_observe_other_things_have_labels_of_their_own():
    """Else the rows of the elastic response that the second fit wants would not be labelled."""
    cells, losses = "sweep.training.cell=[[2, 2, 2], [3, 3, 3]]", 'sweep.fit.elasticity=["none", "linear"]'
    same = alike(study_of(Path("run.h5"), "sweep={}", cells, losses, "sweep.fit.tolerance=[1e-8, 1e-6]"))
    assert [same["label", i] for i in range(8)] == [[], [0], [], [2], [], [4], [], [6]]


def test_a_point_that_fails_does_not_end_the_others(tmp_path):
    calls: list = []
    study = study_of(tmp_path / "run.h5", SWEEP)
    with pytest.raises(ConvergenceError, match=r"1 of 2 points of the sweep failed; first train \(point 0: surrogate"):
        run(study, MPI.COMM_SELF, stages=tracing(calls, wrong=("train", 0)))
    assert calls[-5:] == [("train", 0), ("train", 1), ("relax_surrogate", 1), ("compare", 1), ("report", None)]
    file = ResultFile(tmp_path / "run.h5")
    assert file.complete("compare", 1)
    assert not file.complete("train", 0)
