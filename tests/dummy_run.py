"""A program for tests of the command line: `parmlip` with stages that compute little and go wrong on request.

Started as a program, or called in the process of the tests (`called`), which is a start less.

The variable DUMMY_FAULT is `stage:what:rank` (see `fault`), DUMMY_LIMIT the largest size of a file in bytes.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import types

import numpy as np
from mpi4py import MPI

from parmlip.errors import ConvergenceError, DataError
from parmlip.io.hdf5 import Field


def fault(stage: str, comm: MPI.Comm) -> None:
    where, _, rest = os.environ.get("DUMMY_FAULT", "").partition(":")
    if where != stage:
        return
    what, _, rank = rest.partition(":")
    mine = rank == "" or int(rank) == comm.rank
    if what == "converge" and mine:
        raise ConvergenceError("no convergence after 7 iterations: residual 1.0e-03, tolerance 1.0e-08")
    if what == "data" and mine:
        raise DataError("the file is bad")
    if what == "bug" and mine:
        raise ValueError("a fault of the program")
    if what == "die" and mine:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait":  # until a signal comes; ready when the file appears
        if comm.rank == 0:
            open("ready", "w").close()
        end = time.monotonic() + 60.0
        while time.monotonic() < end:
            comm.allreduce(1)
            time.sleep(0.01)
    if what in ("data", "bug", "die", "converge"):
        comm.allreduce(1)  # the healthy ranks wait here for the one that failed


def stage(name, values):
    def run(study, results, comm):
        fault(name, comm)
        if os.environ.get("DUMMY_FAULT") == f"{name}:nan":
            return {"energy": Field(np.array([1.0, np.nan]), "eV")}
        return {key: Field(value, "eV") for key, value in values(study, results).items()}

    return run


dummy = types.ModuleType("parmlip.stages")
estimates = types.ModuleType("parmlip.estimate")
estimates.estimate = lambda study, n_ranks: ["memory: little"]
dummy.build = stage("build", lambda study, results: {"n_sites": 53, "x": np.arange(6.0).reshape(2, 3)})
dummy.reference = stage("reference", lambda study, results: {"energy": float(results.read("build", "x").sum())})
dummy.label = stage("label", lambda study, results: {"forces": results.read("build", "x") * 1.1})
dummy.train = stage(
    "train",
    lambda study, results: {"coefficients": np.cos(results.read("label", "forces") * study.surrogate.total_degree)},
)
dummy.relax_reference = stage("relax_reference", lambda study, results: {"energy": results.read("reference", "energy")})
dummy.relax_surrogate = stage(
    "relax_surrogate", lambda study, results: {"energy": float(results.read("train", "coefficients").sum())}
)
dummy.compare = stage(
    "compare",
    lambda study, results: {
        "energy_error": results.read("relax_surrogate", "energy") - results.read("relax_reference", "energy")
    },
)
dummy.report = stage("report", lambda study, results: {"n_points": len(results.points())})
evaluates = types.ModuleType("parmlip.evaluate")
evaluates.evaluate = lambda study, structures, law, results, comm, hessian: structures
MODULES = {"parmlip.stages": dummy, "parmlip.estimate": estimates, "parmlip.evaluate": evaluates}


def called(directory, *arguments, fault=""):
    """Exit code and output of the program with these stages, on one rank."""
    import pytest

    import parmlip
    from tests import program

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUMMY_FAULT", fault)
        for name, module in MODULES.items():
            patch.setitem(sys.modules, name, module)
            patch.setattr(parmlip, name.partition(".")[2], module, raising=False)
        return program.parmlip(directory, *arguments)


if __name__ == "__main__":
    from parmlip.cli import main

    sys.modules.update(MODULES)
    if os.environ.get("DUMMY_LIMIT"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["DUMMY_LIMIT"]), resource.RLIM_INFINITY))
    sys.exit(main())
