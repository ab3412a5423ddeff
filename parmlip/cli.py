"""The command line: argv -> verb -> exit code. The one COMM_WORLD, the one Abort, the only prints."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from mpi4py import MPI

import parmlip
from parmlip.config import Study, load, loads
from parmlip.config_schema import suggestion, toml_document, toml_value
from parmlip.errors import ConfigError, DataError, Interrupted, ParmlipError, RemoteError
from parmlip.parallel import logs
from parmlip.parallel.comm import on_root
from parmlip.parallel.signals import Outcome, agree, received, stop_on_signals

# Imports that bring numpy, HDF5, numba or PETSc stand inside the verbs: help and errors in the input come at once, and
# the number of threads can still be set.

TEMPLATES: Final = Path(__file__).parent / "templates"
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


class _Parser(argparse.ArgumentParser):
    """Errors are `ConfigError`; help is told by rank 0 alone."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (parmlip --help tells the usage)")

    def print_help(self, file: Any = None) -> None:
        if MPI.COMM_WORLD.rank == 0:
            super().print_help(file)


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
        _tell(comm, USAGE.rstrip())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        _tell(comm, f"parmlip {parmlip.__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb in VERBS:
        return VERBS[verb](rest, comm)
    if verb.endswith(".toml") or (verb.startswith("-") and any(a.endswith(".toml") for a in rest)):
        return _run(arguments, comm)
    raise ConfigError(f"'{verb}' is neither an input file (.toml) nor a verb{suggestion(verb, VERBS)}")


def _tell(comm: MPI.Comm, *lines: str) -> None:
    if comm.rank == 0:
        try:
            print(*lines, sep="\n", flush=True)
        except BrokenPipeError:  # `parmlip info run.h5 | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _add_input(parser: _Parser) -> None:
    parser.add_argument("input", metavar="INPUT.toml")
    parser.add_argument("--set", dest="overrides", metavar="TABLE.KEY=VALUE", action="append", default=[])


def _load(options: argparse.Namespace, comm: MPI.Comm, read: Callable[[str, list[str]], Study] = load) -> Study:
    study = on_root(comm, "reading the input", read, options.input, options.overrides)
    for name in _THREADS:
        os.environ[name] = str(study.run.threads)
    return study


def _run(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(prog="parmlip", description="Run the stages of an input file.")
    _add_input(parser)
    parser.add_argument("--check", action="store_true", help="check, estimate memory and work, and stop")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing result file")
    parser.add_argument("--resume", action="store_true", help="go on after the last complete stage")
    options = parser.parse_args(arguments)
    study = _load(options, comm)
    from parmlip import pipeline

    if options.check:
        for line in pipeline.check(study, comm):
            _tell(comm, line)
        return 0
    pipeline.run(study, comm, overwrite=options.overwrite, resume=options.resume)
    return 0


def _advise(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(
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
    parser = _Parser(
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
    _tell(comm, f"{len(evaluated)} structures written to {options.output}")
    return 0


def _reference(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(
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
    _tell(comm, *lines, f"{len(found)} structures written to {options.output}")
    return 0


def _study_of_law(path: str, overrides: list[str]) -> Study:
    """An input file; or the input that a result file keeps; or one whose reference is a potential file."""
    if path.endswith(".h5"):
        from parmlip.io.hdf5 import ResultFile

        text = str(ResultFile(Path(path)).meta()["config"])
        return loads(text, [*overrides, f"run.output={toml_value(path)}"], Path(path))
    if path.endswith(".yace"):
        reference = {"kind": "ace", "file": str(Path(path).resolve())}
        return loads(toml_document({"reference": reference}), overrides, Path(path))
    return load(path, overrides)


def _export(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(
        prog="parmlip export",
        description="The fitted potential as a file for LAMMPS' pair style pace. Beside it goes a certificate "
        "(NAME.yace.json): range of validity, and how far an independent reader of the file is from the law.",
    )
    parser.add_argument("results", type=Path, metavar="RUN.h5")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="NAME.yace", help="file to be written")
    parser.add_argument("--point", type=int, metavar="I", help="point of the sweep whose surrogate is taken")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        from parmlip.io.fitted import fitted_law
        from parmlip.io.pace import certificate_path, check_target, write_yace

        check_target(options.output, options.overwrite)
        c = write_yace(options.output, fitted_law(options.results, options.point))
        return [
            f"{options.output} written: {', '.join(c['species'])}, {c['n_basis']} functions, valid from "
            f"{c['valid_from']:.4g} to {c['cutoff']:.4g} A",
            f"read back in {c['test_environments']} environments: site energies up to {c['max_energy']:.3g} eV to "
            f"{c['max_energy_deviation']:.1e}, forces up to {c['max_force']:.3g} eV/A to "
            f"{c['max_force_deviation']:.1e}; see {certificate_path(options.output)}",
            "LAMMPS: " + "; ".join(c["lammps"]),
        ]

    _tell(comm, *on_root(comm, "exporting", work))
    return 0


def _fit(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(
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
        return loads(str(ResultFile(options.source).meta()["config"]), given, options.source)

    study = on_root(comm, "reading the result file", read)
    for name in _THREADS:
        os.environ[name] = str(study.run.threads)
    from parmlip import pipeline

    pipeline.refit(study, options.source, comm, overwrite=options.overwrite)
    return 0


def _report(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(prog="parmlip report", description="Figures and a table from a result file.")
    parser.add_argument("results", type=Path, metavar="RUN.h5")
    parser.add_argument("--json", action="store_true", help="numbers and short lists as one JSON object, no figures")
    parser.add_argument("-o", "--output", type=Path, metavar="DIRECTORY", help="where the figures go")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        if options.json:
            from parmlip.report.numbers import numbers

            return [json.dumps(numbers(options.results), indent=1, allow_nan=False)]
        from parmlip.report import draw, table

        directory = options.output or options.results.parent
        if not directory.is_dir():
            raise ConfigError(f"-o {directory}: there is no such directory")
        lines = table(options.results)
        return [*lines, *(f"figure {path}" for path in draw(options.results, directory))]

    _tell(comm, *on_root(comm, "reporting", work))
    return 0


def _info(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(prog="parmlip info", description="What a result file holds.")
    parser.add_argument("results", type=Path, metavar="RUN.h5")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        from parmlip.io.hdf5 import ResultFile

        file = ResultFile(options.results)
        meta = file.meta()
        lines = [f"{key:<8} {meta[key]}" for key in ("version", "commit", "ranks", "start", "end")]
        told: set[str] = set()
        for name, point, seconds in file.stages():
            where = name if point is None else f"point {point}: {name}"
            names = "" if name in told else f": {', '.join(file.names(name, point))}"  # the same at every point
            lines.append(f"{where}: complete, {seconds:.2f} s{names}")
            told.add(name)
        points = [f"point {i}: " + ", ".join(f"{k} = {v}" for k, v in p.items()) for i, p in enumerate(file.points())]
        return [*lines, *points, "", str(meta["config"]).rstrip()]

    _tell(comm, *on_root(comm, "reading the result file", work))
    return 0


def _template(arguments: list[str], comm: MPI.Comm) -> int:
    parser = _Parser(prog="parmlip template", description="A commented input file to start from.")
    parser.add_argument("name", nargs="?", help="without a name: which there are")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="by default NAME.toml")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        texts = {path.stem: path.read_text() for path in sorted(TEMPLATES.glob("*.toml"))}
        if options.name is None:
            lines = [f"{name:<12} {text.splitlines()[0].removeprefix('# ')}" for name, text in texts.items()]
            return [*lines, "keys         prints every table and key, its default and what is right"]
        if options.name == "keys":
            from parmlip.input_keys import key_reference

            return key_reference()
        if options.name not in texts:
            raise ConfigError(f"unknown template '{options.name}'{suggestion(options.name, texts)}")
        path = options.output or Path(f"{options.name}.toml")
        try:
            with open(path, "x") as file:
                file.write(texts[options.name])
        except FileExistsError:
            raise ConfigError(f"{path} exists; choose another name with -o") from None
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from None
        verb, behind = ("", "") if "[simulation]" in texts[options.name] else ("evaluate ", " STRUCTURES -o OUT.xyz")
        return [f"{path} written; run it with: parmlip {verb}{path}{behind}"]

    _tell(comm, *on_root(comm, "writing the template", work))
    return 0


def _doctor(arguments: list[str], comm: MPI.Comm) -> int:
    _Parser(prog="parmlip doctor", description="Check MPI, PETSc, threads and versions.").parse_args(arguments)
    from parmlip import doctor

    code, lines = doctor.run(comm)
    _tell(comm, *lines)
    return int(code)


VERBS: Final[dict[str, Callable[[list[str], MPI.Comm], int]]] = {
    "advise": _advise, "evaluate": _evaluate, "reference": _reference, "export": _export, "fit": _fit,
    "report": _report, "info": _info, "template": _template, "doctor": _doctor,
}  # fmt: skip
