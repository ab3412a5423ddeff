"""The order of the work: chain check, sweep, resume; the table of stages is in `pipeline_stages`."""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mpi4py import MPI

import parmlip
from parmlip.config import Point, Study
from parmlip.config_schema import show
from parmlip.errors import ConfigError, ConvergenceError, DataError
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.io.results import Results, check_point
from parmlip.parallel import logs
from parmlip.parallel.comm import on_root
from parmlip.parallel.logs import timed, timer_table
from parmlip.pipeline_header import commit, header
from parmlip.pipeline_output import bring_back, check_place, is_begun, let_go, published_text, refuse_nan, set_aside
from parmlip.pipeline_same import check_same, files_told, kept_files
from parmlip.pipeline_stages import STAGES, Stage
from parmlip.pipeline_work import Turn, side_by_side, work_through

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A step to be done, at a point of the sweep or (None) once."""

    name: str
    point: Point | None

    @property
    def index(self) -> int | None:
        """Number of the point."""
        return None if self.point is None else self.point.index

    def __str__(self) -> str:
        if self.point is None:
            return self.name
        values = ", ".join(f"{key} = {show(value)}" for key, value in self.point.values.items())
        return f"{self.name} (point {self.point.index}: {values})"


def steps_of(study: Study, stages: Mapping[str, Stage] = STAGES) -> list[str]:
    """Names of the steps that `[run] stages` asks for, in the order of the table."""
    return [name for name, step in stages.items() if step.stage in study.run.stages and step.wanted(study)]


def swept_steps(study: Study, stages: Mapping[str, Stage] = STAGES) -> frozenset[str]:
    """Steps that depend on a swept table, directly or through what they need."""
    tables = {dotted.split(".")[0] for dotted in study.swept_keys} | set(study.swept_keys)
    swept: set[str] = set()
    for name, step in _of(study, stages).items():  # the table is in an order in which needs come first
        if not step.gathers and (tables & {*step.tables, *step.optional} or swept & set(step.needs)):
            swept.add(name)
    return frozenset(swept)


def alike(study: Study, stages: Mapping[str, Stage] = STAGES) -> dict[tuple[str, int], list[int]]:
    """For every step and point of the sweep the earlier points at which it gives the same.

    They agree in all swept keys on which the step, or what it needs, depends, and in what else it asks for.
    """
    found: dict[tuple[str, int], list[int]] = {}
    known: dict[tuple[str, str], list[int]] = {}
    for point in study.points():
        tables: dict[str, set[str]] = {}
        for name, step in _of(point.study, stages).items():
            tables[name] = {*step.tables, *step.optional}.union(*(tables[need] for need in step.needs))
            values = {k: v for k, v in point.values.items() if k in tables[name] or k.split(".")[0] in tables[name]}
            same = known.setdefault((name, json.dumps([values, step.also(point.study)], sort_keys=True)), [])
            found[name, point.index] = list(same)
            same.append(point.index)
    return found


def plan(study: Study, stages: Mapping[str, Stage] = STAGES) -> list[Task]:
    """All tasks in the order of work: what is done once, the sweep point by point, what gathers."""
    chosen, swept = steps_of(study, stages), swept_steps(study, stages)
    tasks = [Task(name, None) for name in chosen if name not in swept and not stages[name].gathers]
    tasks += [Task(name, point) for point in study.points() for name in chosen if name in swept]
    return tasks + [Task(name, None) for name in chosen if stages[name].gathers]


def check_chain(study: Study, done: frozenset[str] = frozenset(), stages: Mapping[str, Stage] = STAGES) -> None:
    """Raise `ConfigError` unless every step's needs come before it or are `done`, and its tables are there."""
    asked, stages = study.run.stages, _of(study, stages)
    order = list(dict.fromkeys(step.stage for step in stages.values()))
    for before, after in zip(asked, asked[1:], strict=False):
        if order.index(before) > order.index(after):
            right = [stage for stage in order if stage in asked]
            raise ConfigError(f'[run] stages: "{after}" comes before "{before}"; write {show(right)}')
    chosen = steps_of(study, stages)
    for name in chosen:
        step = stages[name]
        for need in step.needs:
            if need in done or need in chosen:
                continue
            if stages[need].stage in asked:  # asked for, but this input does not want it
                laws = show(list(study.relax.laws))
                raise ConfigError(f'[relax] laws = {laws}: stage "{step.stage}" needs both "reference" and "surrogate"')
            otherwise = f", {step.otherwise}" if need == step.needs[-1] and step.otherwise else ""
            raise ConfigError(
                f'[run] stages: "{step.stage}" needs "{stages[need].stage}" before it; '
                f"write {show([s for s in order if s in asked or s in _all_needs(step.stage, study, stages)])}"
                f"{otherwise}"
            )
        for table in step.tables:
            if table.split(".")[0] not in study.tables:
                brackets = "[[training]]" if table == "training" else f"[{table}]"
                raise ConfigError(f'missing table {brackets}: stage "{step.stage}" needs it')
    if not chosen:
        raise ConfigError(f"[run] stages = {show(list(asked))}: there is nothing to do")


def _of(study: Study, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    return {name: step.of(study) for name, step in stages.items()}


def _all_needs(stage: str, study: Study, stages: Mapping[str, Stage]) -> set[str]:
    """Stages that `stage` needs, through all steps."""
    needs = {need for step in stages.values() if step.stage == stage and step.wanted(study) for need in step.needs}
    direct = {stages[need].stage for need in needs} - {stage}
    return direct.union(*(_all_needs(other, study, stages) for other in direct))


def run(
    study: Study,
    comm: MPI.Comm,
    *,
    overwrite: bool = False,
    resume: bool = False,
    stages: Mapping[str, Stage] = STAGES,
) -> None:
    """Do what the input asks for and write `[run] output`.

    Collective on ``comm``.

    Raises
    ------
    ConfigError
        The chain cannot work, the output exists, or the file to be resumed belongs to another input.
    ConvergenceError, GeometryError
        A step failed. At a point of a sweep it is raised when all other points are done and reported.
    """
    done = on_root(comm, "opening the result file", _open_output, study, comm.size, overwrite, resume, stages)
    on_root(comm, "opening the log", _start_log, study, resume, comm)
    if comm.rank != 0:
        logs.start(comm=comm)
    try:
        _work(study, comm, done, resume, stages)
    except BaseException:
        if comm.rank == 0:
            bring_back(study)
        raise


def _work(
    study: Study, comm: MPI.Comm, done: set[tuple[str, int | None]], resume: bool, stages: Mapping[str, Stage]
) -> None:
    """All steps that are not `done`."""
    for line in header(study, comm):
        _logger.info("%s", line)
    results = Results(study.output, swept_steps(study, stages), comm=comm)
    tasks = plan(study, stages)
    left = [task for task in tasks if (task.name, task.index) not in done]
    if resume and len(left) < len(tasks):
        _logger.info("resuming: %d of %d steps are complete in %s", len(tasks) - len(left), len(tasks), study.output)

    same = alike(study, stages)

    def do(task: Task, group: MPI.Comm, turn: Turn) -> None:
        begin = time.perf_counter()
        if task.point is not None:
            earlier = same[task.name, task.point.index]
            source = on_root(group, "reading results", _first_complete, study.output, task.name, earlier)
            if source is not None:
                _logger.info("    as at point %d", source)

                def share(source: int, point: Point) -> None:
                    with turn():
                        ResultFile(study.output).share_stage(task.name, source, point.index, point.values)
                        let_go(study)

                on_root(group, "writing results", share, source, task.point)
                return
        with timed(f"stage {task.name}"):
            of_point = task.point.study if task.point else study
            at = Results(study.output, results.swept, task.index, comm=group)
            fields = stages[task.name].of(of_point).run(of_point, at, group)

            def write() -> None:
                with turn():
                    _write(study.output, task, fields, time.perf_counter() - begin)
                    let_go(study)

            on_root(group, "writing results", write)

    failed: dict[int | None, str] = {}  # points of the sweep that ended, and why
    first, total = len(tasks) - len(left) + 1, len(tasks)
    for of_sweep, part in itertools.groupby(left, lambda task: task.point is not None):
        some = list(part)
        if of_sweep:
            failed = side_by_side(some, do, study.run.groups, first=first, total=total, comm=comm)
        else:
            work_through(some, do, first=first, total=total, comm=comm)
        first += len(some)
    for line in timer_table(comm=comm):
        _logger.info("%s", line)
    _logger.info("results are in %s", study.output)
    if failed:
        of = len(study.points())
        raise ConvergenceError(f"{len(failed)} of {of} points of the sweep failed; first {next(iter(failed.values()))}")


def refit(study: Study, source: Path, comm: MPI.Comm, *, overwrite: bool = False) -> None:
    """Do what the input asks for, from the training rows on, with the factors that `source` has of them.

    Collective on ``comm``. What does not hang on the fit is taken over; what does is left for the stages asked for, or
    for a later run with ``resume``.

    Raises
    ------
    ConfigError
        Another key than those of the fit differs from the input of `source`, or the output exists.
    """
    on_root(comm, "opening the result file", _open_refit, study, source, overwrite)
    run(study, comm, resume=True)


def _open_refit(study: Study, source: Path, overwrite: bool) -> None:
    """Make the output: `source` without what hangs on the fit, but with the factors."""
    file = ResultFile(source)
    stored = str(file.meta()["config"])
    check_same(study, stored, source, files=kept_files(file))
    if not any(name == "train" for name, _, _ in file.stages()):
        raise DataError(f'result file {source} has no fitted surrogate; run the stage "train" first')
    before = tomllib.loads(stored)["fit"]
    if study.fit.homogeneous != before["homogeneous"]:
        raise ConfigError("[fit] homogeneous: is a part of the training set and cannot change in a refit")
    if study.fit.decay != before.get("decay", 0.0):
        raise ConfigError("[fit] decay: is in the stored rows and cannot change in a refit")
    if study.fit.decomposition != before.get("decomposition", "relative"):
        raise ConfigError("[fit] decomposition: is in the stored labels and cannot change in a refit")
    if study.output.resolve() == source.resolve():
        raise ConfigError(f"-o {study.output}: is the result file itself")
    if study.output.exists() and not overwrite:
        raise ConfigError(f"-o {study.output}: exists; use --overwrite")
    hanging = {"train"}
    for name, step in STAGES.items():  # needs come first
        if step.gathers or hanging & set(step.needs):
            hanging.add(name)
    emptied = {name: ("factors",) if name == "train" else () for name in hanging}
    file.derive(study.output, emptied, {"config": study.as_toml(), "input": study.text})


def _start_log(study: Study, resume: bool, comm: MPI.Comm) -> None:
    path = study.output.with_suffix(".log")
    try:
        logs.start(path, append=resume, comm=comm)
    except OSError as error:
        raise DataError(f"cannot write the log {path}: {error.strerror}") from None


def _open_output(
    study: Study, ranks: int, overwrite: bool, resume: bool, stages: Mapping[str, Stage]
) -> set[tuple[str, int | None]]:
    """Check the chain, begin or reopen the result file; the steps that it has."""
    bring_back(study)  # of a run that was killed before its first step was complete
    file = ResultFile(study.output)
    exists = study.output.exists()
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other")
    check_place(study)
    if exists and not overwrite and not resume and not is_begun(file):
        raise ConfigError(
            f"[run] output = {show(study.run.output)}: exists; use --overwrite, or --resume to go on with it"
        )
    meta = {"input": study.text, "config": study.as_toml(), "ranks": ranks, "published": published_text(study)}
    if resume and exists:
        kept = kept_files(file)
        check_same(study, str(file.meta()["config"]), files=kept)
        done = {(name, index) for name, index, _ in file.stages()}
        check_chain(study, _done_everywhere(study, done, stages), stages)
        file.update_meta({**meta, "files": files_told(study, kept)})
        return {step for step in done if not stages[step[0]].gathers}  # what gathers sees the new results
    check_chain(study, stages=stages)
    set_aside(study)
    file.create({"version": parmlip.__version__, "commit": commit(), "files": files_told(study), **meta})
    return set()


def _done_everywhere(study: Study, done: set[tuple[str, int | None]], stages: Mapping[str, Stage]) -> frozenset[str]:
    swept, points = swept_steps(study, stages), range(len(study.points()))
    return frozenset(name for name in stages if all((name, i) in done for i in (points if name in swept else [None])))


def _first_complete(output: Path, stage: str, points: Iterable[int]) -> int | None:
    """The first of some points of the sweep that has the stage."""
    file = ResultFile(output)
    return next((i for i in points if file.complete(stage, i)), None)


def _write(output: Path, task: Task, fields: Mapping[str, Field], seconds: float) -> None:
    """Write the fields of a complete step. NaN is looked for here, once for all stages."""
    for name, field in fields.items():
        refuse_nan(str(task), name, field)
    swept = task.point.values if task.point else None
    ResultFile(output).write_stage(task.name, fields, seconds=seconds, point=task.index, swept=swept)


def check(study: Study, comm: MPI.Comm, stages: Mapping[str, Stage] = STAGES) -> list[str]:
    """Check the chain and say what would be done, with estimates of memory and work.

    Collective on ``comm``: rank 0 works.
    """
    # By all ranks: the import starts PETSc, which is collective.
    estimate: Callable[[Study, int], list[str]] = importlib.import_module("parmlip.estimate").estimate

    def work() -> list[str]:
        check_place(study)
        published_text(study)
        check_chain(study, stages=stages)
        tasks = plan(study, stages)
        lines = ["the input is right; resolved:", "", study.as_toml()]
        return [*lines, f"{len(tasks)} steps:", *(f"  {task}" for task in tasks), *estimate(study, comm.size)]

    return on_root(comm, "checking the input", work)


def open_law(study: Study, law: str, point: int | None, comm: MPI.Comm) -> Results | None:
    """The results from which the surrogate is made, at a point of the sweep if there is one; None for the reference.

    Collective on ``comm``.
    """
    if law == "reference":
        _ = study.reference  # raises when the table is missing
        return None
    on_root(comm, "opening the result file", check_point, study.output, point)
    return Results(study.output, frozenset() if point is None else frozenset(["train"]), point, comm=comm)
