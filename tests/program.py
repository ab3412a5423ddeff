"""The program in the process of the tests: a start's imports and compiled kernels, seconds of it, are paid once."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import time
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from mpi4py import MPI

from parmlip import pipeline
from parmlip.cli import main
from parmlip.config import load
from parmlip.parallel import logs


def parmlip(directory: Path, *arguments: object) -> CompletedProcess[str]:
    """Exit code and output of `parmlip ARGUMENTS` called in a directory.

    Collective on all ranks of the run, of which each has its own output. What hangs on processes (signals, threads,
    ranks that die) is not the same here: such tests start the program.
    """
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    environment, before = dict(os.environ), Path.cwd()
    os.chdir(directory)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        logs.stop()
        os.chdir(before)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())


def results(path: Path) -> dict[str, Any]:
    """Every scalar and short list of a result file, as scripts get them; on one rank."""
    done = parmlip(path.parent, "report", path.name, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_for_all(comm: MPI.Comm) -> None:
    """A barrier that sleeps: one that polls takes the processor from the rank that the others wait for."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.005)


def alone_and_together(text: str, directory: Path, comm: MPI.Comm) -> tuple[Path, Path]:
    """Result files of an input, done by rank 0 by itself and by all ranks. Collective on ``comm``."""
    importlib.import_module("parmlip.stages")  # starts PETSc, which all ranks do together or wait for ever
    where = [directory / name for name in ("alone", "together")]
    if comm.rank == 0:
        for path in where:
            path.mkdir()
            (path / "run.toml").write_text(text)
        pipeline.run(load(where[0] / "run.toml", [f"run.output='{where[0]}/run.h5'"]), MPI.COMM_SELF)
        logs.stop()
    wait_for_all(comm)
    done = parmlip(where[1], "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return where[0] / "run.h5", where[1] / "run.h5"


def error_lines(done: CompletedProcess[str], comm: MPI.Comm) -> list[str]:
    """What all ranks told as an error, the same on every rank; a traceback is none. Collective on ``comm``."""
    told = "".join(comm.allgather(done.stderr))
    assert "Traceback" not in told, told
    return [line for line in told.splitlines() if line.startswith("parmlip: error:")]
