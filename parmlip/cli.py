"""The command line: argv -> verb -> exit code. The one Abort; only modules of this layer print or name COMM_WORLD."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from mpi4py import MPI

import parmlip
from parmlip.cli_files import export, info, report, template
from parmlip.cli_parser import Parser, tell
from parmlip.config import Study, load, loads
from parmlip.config_schema import suggestion, toml_document, toml_value
from parmlip.errors import ConfigError, Interrupted, ParmlipError, RemoteError
from parmlip.parallel import logs
from parmlip.parallel.comm import on_root
from parmlip.parallel.signals import Outcome, agree, received, stop_on_signals

# Imports that bring numpy, HDF5, numba or PETSc stand inside the verbs: help and errors in the input come at once, and
# the number of threads can still be set.

_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

USAGE: Final = """\
usage: parmlip INPUT.toml [--check] [--set TABLE.KEY=VALUE]... [--overwrite | --resume]
       parmlip VERB ...
       mpirun -n N parmlip ...

Runs the stages of an input file. Verbs:
  advise INPUT.toml                           how wrong the simulation will be, why, and what to change
  evaluate INPUT.toml STRUCTURES -o OUT.xyz   energies, forces and virials of the reference or the surrogate
  reference INPUT.toml STRUCTURES -o OUT.xyz  a data set labelled by the reference; goes on where it was stopped
  export RUN.h5 -o NAME.yace                  the fitted potential for LAMMPS, with a certificate
  fit --from RUN.h5 --set fit... -o NEW.h5    other weights, solver or constraints, from the stored factors
  report RUN.h5                               figures and a table from a result file; --json for scripts
  info RUN.h5                                 what a result file holds
  template [NAME]                             a commented input file to start from
  doctor                                      checks MPI, PETSc, threads and versions

options:
  --check                 check the input, estimate memory and work, and stop
  --set TABLE.KEY=VALUE   change one key of the input (value as in TOML), or with { key = value } a whole table
  --overwrite             replace an existing result file
  --resume                go on with an interrupted run after its last complete stage
  --version, --help       parmlip VERB --help tells about a verb

exit codes: 0 done, 1 failure, 2 wrong input, 3 geometry, 4 data or files, 5 no convergence, 6 another rank failed,
128 + n stopped by signal n
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code, the same on every rank."""
    world = MPI.COMM_WORLD
    arguments = list(sys.argv[1:] if argv is None else argv)
    # PETSc takes SIGTERM and others for itself where its MPI is not Open MPI
    os.environ["PETSC_OPTIONS"] = (os.environ.get("PETSC_OPTIONS", "") + " -no_signal_handler").strip()
    last_word = world.Dup()
    outcome = Outcome(0)
    try:
        with stop_on_signals():
            try:
                outcome = Outcome(_dispatch(arguments, world))
            except SystemExit as end:  # argparse, after it has printed a verb's help
                outcome = Outcome(int(end.code or 0))
            except Exception as error:
                number = received()
                if number is not None:  # whatever a library that was called made of it
                    outcome = _outcome(Interrupted(number), arguments)
                elif isinstance(error, ParmlipError):
                    outcome = _outcome(error, arguments)
                else:
                    raise
            if outcome.code > 128 and world.rank == 0:  # at once: a launcher that was told to stop may cut output off
                print(f"parmlip: error: {outcome.message}", file=sys.stderr, flush=True)
                logs.note(f"error: {outcome.message}")
        # signals that come from here on have their usual effect: nothing is left to lose
        outcomes = agree(outcome, comm=last_word)
    except BaseException as error:
        _unexpected(error, world)
        return 1
    if outcomes is None:
        print(f"parmlip: error: rank {world.rank}: {outcome.message}", file=sys.stderr, flush=True)
        world.Abort(outcome.code)
    assert outcomes is not None  # Abort does not return
    last_word.Free()
    chosen = max(range(world.size), key=lambda rank: (outcomes[rank].weight, -rank))
    code, message = outcomes[chosen].code, outcomes[chosen].message
    if world.rank == 0 and message and outcome.code <= 128:
        where = "" if outcomes[0].message == message else f"rank {chosen}: "
        print(f"parmlip: error: {where}{message}", file=sys.stderr, flush=True)
        logs.note(f"error: {where}{message}")
    logs.stop()
    return code


def _outcome(error: ParmlipError, arguments: list[str]) -> Outcome:
    message = " ".join(str(error).split())
    if isinstance(error, Interrupted):
        if arguments and arguments[0].endswith(".toml"):
            words = [a for a in arguments if a not in ("--overwrite", "--resume")]
            message += "; complete stages are kept, go on with: parmlip " + shlex.join([*words, "--resume"])
        return Outcome(error.exit_code, message, 3)
    return Outcome(error.exit_code, message, 1 if isinstance(error, RemoteError) else 2)


def _unexpected(error: BaseException, world: MPI.Comm) -> None:
    """A fault of the program: rank and traceback, and the end of all ranks."""
    text = "".join(traceback.format_exception(error))
    print(f"parmlip: unexpected error on rank {world.rank} of {world.size}\n{text}", file=sys.stderr, flush=True)
    if world.size > 1:
        world.Abort(1)


def _dispatch(arguments: list[str], comm: MPI.Comm) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        tell(comm, USAGE.rstrip())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        tell(comm, f"parmlip {parmlip.__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb in VERBS:
        return VERBS[verb](rest, comm)
    if verb.endswith(".toml") or (verb.startswith("-") and any(a.endswith(".toml") for a in rest)):
        return _run(arguments, comm)
    raise ConfigError(f"'{verb}' is neither an input file (.toml) nor a verb{suggestion(verb, VERBS)}")


def _add_input(parser: Parser) -> None:
    parser.add_argument("input", metavar="INPUT.toml")
    parser.add_argument("--set", dest="overrides", metavar="TABLE.KEY=VALUE", action="append", default=[])


def _load(options: argparse.Namespace, comm: MPI.Comm, read: Callable[[str, list[str]], Study] = load) -> Study:
    study = on_root(comm, "reading the input", read, options.input, options.overrides)
    for name in _THREADS:
        os.environ[name] = str(study.run.threads)
    return study


def _run(arguments: list[str], comm: MPI.Comm) -> int:
    parser = Parser(prog="parmlip", description="Run the stages of an input file.")
    _add_input(parser)
    parser.add_argument("--check", action="store_true", help="check, estimate memory and work, and stop")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing result file")
    parser.add_argument("--resume", action="store_true", help="go on after the last complete stage")
    options = parser.parse_args(arguments)
    study = _load(options, comm)
    from parmlip import pipeline

    if options.check:
        for line in pipeline.check(study, comm):
            tell(comm, line)
        return 0
    pipeline.run(study, comm, overwrite=options.overwrite, resume=options.resume)
    return 0


def _advise(arguments: list[str], comm: MPI.Comm) -> int:
    parser = Parser(
        prog="parmlip advise",
        description="Train the surrogate, measure its matching conditions and relax the simulation cell with it alone; "
        "from these tell the bounds of its errors term by term against those that [advise] wants, and write "
        "NAME_advised.toml: the input with the keys changed that the dominating term asks for (values of --set are not "
        "in it).",
    )
    _add_input(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing result file")
    parser.add_argument("--resume", action="store_true", help="go on after the last complete stage")
    options = parser.parse_args(arguments)
    options.overrides = [
        f"run.output={toml_value(Path(options.input).stem + '_advise.h5')}", *options.overrides,
        'run.stages=["build", "reference", "train", "match", "relax", "advise"]', 'relax.laws=["surrogate"]',
    ]  # fmt: skip
    study = _load(options, comm)
    from parmlip import pipeline

    pipeline.run(study, comm, overwrite=options.overwrite, resume=options.resume)
    return 0


def _structures(options: argparse.Namespace, outputs: Sequence[Path | None]) -> Any:
    """What is to be evaluated, once it is clear that the results can be written."""
    from parmlip.io.atoms import read_structures

    for path in outputs:
        if path is not None and path.exists() and not options.overwrite:
            raise ConfigError(f"{path} exists; use --overwrite")
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no directory {path.parent}")
    if options.output.resolve() == options.structures.resolve():
        raise ConfigError(f"-o {options.output}: is the file of the structures itself")
    return read_structures(options.structures)


def _evaluate(arguments: list[str], comm: MPI.Comm) -> int:
    parser = Parser(
        prog="parmlip evaluate",
        description="Energies, forces and virials of given structures, by the laws of an input file, or by the fitted "
        "law of a result file (RUN.h5) or a potential file (NAME.yace) in its place.",
    )
    _add_input(parser)
    parser.add_argument("structures", type=Path, help="structure file that ASE reads; extxyz may hold many")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.xyz", help="extxyz file to be written")
    parser.add_argument("--law", choices=("reference", "surrogate"), help="by default the reference")
    parser.add_argument("--point", type=int, metavar="I", help="point of the sweep whose surrogate is taken")
    parser.add_argument("--hessian", type=Path, metavar="OUT.h5", help="write the Hessians to this file")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    options = parser.parse_args(arguments)
    study = _load(options, comm, _study_of_law)
    which = options.law or ("surrogate" if options.input.endswith(".h5") else "reference")
    if options.input.endswith(".yace") and (which == "surrogate" or options.point is not None):
        raise ConfigError(f"{options.input} holds one law: leave out --law and --point")
    from parmlip import pipeline

    structures = on_root(comm, "reading structures", _structures, options, (options.output, options.hessian))
    results = pipeline.open_law(study, which, options.point, comm)
    logs.start(comm=comm)
    from parmlip.evaluate import evaluate
    from parmlip.io.atoms import write_structures

    evaluated = evaluate(study, structures, which, results, comm, options.hessian)
    on_root(comm, "writing structures", write_structures, options.output, evaluated)
    tell(comm, f"{len(evaluated)} structures written to {options.output}")
    return 0


def _reference(arguments: list[str], comm: MPI.Comm) -> int:
    parser = Parser(
        prog="parmlip reference",
        description="Label a data set with the law of [reference]: energy, forces and virial. Results of laws of whole "
        "structures (ASE calculators, tight binding) are kept in the cache as soon as they are there: the same command "
        "goes on where it was stopped.",
    )
    _add_input(parser)
    parser.add_argument("structures", type=Path, help="structure file that ASE reads; extxyz may hold many")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.xyz", help="extxyz file to be written")
    parser.add_argument("--prefix", default="", metavar="REF_", help="of the labels' keys; by default they are ASE's")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(arguments)
    study = _load(options, comm)
    total = study.reference.is_total

    structures = on_root(comm, "reading structures", _structures, options, (options.output,))
    logs.start(comm=comm)
    from parmlip.evaluate import evaluate
    from parmlip.evaluate_total import evaluate_total, table_by_type, with_prefix
    from parmlip.io.atoms import write_structures

    lines = []
    if total:
        found, answers = evaluate_total(study, structures, comm=comm, keep=True)
        lines = answers.table()
    else:
        found = evaluate(study, structures, "reference", None, comm, None)
    lines += table_by_type(found)
    written = [with_prefix(atoms, options.prefix) for atoms in found] if options.prefix else found
    on_root(comm, "writing structures", write_structures, options.output, written)
    tell(comm, *lines, f"{len(found)} structures written to {options.output}")
    return 0


def _study_of_law(path: str, overrides: list[str]) -> Study:
    """An input file; or the input that a result file keeps; or one whose reference is a potential file."""
    if path.endswith(".h5"):
        from parmlip.io.hdf5 import ResultFile

        text = str(ResultFile(Path(path)).meta()["config"])
        study = loads(text, [*overrides, f"run.output={toml_value(path)}"], Path(path))
        return study.with_contents(all_there=False)
    if path.endswith(".yace"):
        reference = {"kind": "ace", "file": str(Path(path).resolve())}
        return loads(toml_document({"reference": reference}), overrides, Path(path))
    return load(path, overrides)


def _fit(arguments: list[str], comm: MPI.Comm) -> int:
    parser = Parser(
        prog="parmlip fit",
        description="Fit again with other keys of [fit], from the factors in a result file; no rows are made. Only the "
        "stage train is done; add --set run.stages=... for those that follow.",
    )
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="RUN.h5")
    parser.add_argument("--set", dest="overrides", metavar="TABLE.KEY=VALUE", action="append", default=[])
    parser.add_argument("-o", "--output", required=True, metavar="NEW.h5", help="result file to be written")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing result file")
    options = parser.parse_args(arguments)

    def read() -> Study:
        from parmlip.io.hdf5 import ResultFile

        given = ['run.stages=["train"]', f"run.output={toml_value(options.output)}", *options.overrides]
        study = loads(str(ResultFile(options.source).meta()["config"]), given, options.source)
        return study.with_contents(all_there=False)

    study = on_root(comm, "reading the result file", read)
    for name in _THREADS:
        os.environ[name] = str(study.run.threads)
    from parmlip import pipeline

    pipeline.refit(study, options.source, comm, overwrite=options.overwrite)
    return 0


def _doctor(arguments: list[str], comm: MPI.Comm) -> int:
    Parser(prog="parmlip doctor", description="Check MPI, PETSc, threads and versions.").parse_args(arguments)
    from parmlip import doctor

    code, lines = doctor.run(comm)
    tell(comm, *lines)
    return int(code)


VERBS: Final[dict[str, Callable[[list[str], MPI.Comm], int]]] = {
    "advise": _advise, "evaluate": _evaluate, "reference": _reference, "export": export, "fit": _fit,
    "report": report, "info": info, "template": template, "doctor": _doctor,
}  # fmt: skip
