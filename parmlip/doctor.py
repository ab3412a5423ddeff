"""What `parmlip doctor` examines: versions, MPI, PETSc, threads, and small computations with known answers."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from mpi4py import MPI

import parmlip
from parmlip.parallel.comm import on_root

OK: Final = "ok"
WARNING: Final = "warning"  # works, but not as well as it could
FAULT: Final = "FAULT"  # runs will fail or be wrong
_ORDER: Final = (OK, WARNING, FAULT)

_PACKAGES: Final = ("numpy", "scipy", "numba", "h5py", "ase", "matplotlib", "mpi4py", "petsc4py")
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_IN_CHILD: Final = "PARMLIP_DOCTOR_RANKS"  # set for the two-rank test that doctor starts itself
_CHILD_LIMIT: Final = 180.0  # seconds


@dataclass(frozen=True)
class Check:
    """One thing examined: `status` is OK, WARNING or FAULT; `remedy` says how to mend what is not OK."""

    name: str
    status: str
    detail: str
    remedy: str = ""

    def line(self) -> str:
        """The check as a line of text."""
        mend = f". To mend: {self.remedy}" if self.remedy else ""
        return f"{self.status:<8}{self.name:<14}{self.detail}{mend}"


def run(comm: MPI.Comm) -> tuple[int, list[str]]:
    """Exit code (1 if there is a fault) and the lines to print, the same on every rank.

    Collective on ``comm``.
    """
    checks = doctor(comm)
    faults = sum(check.status == FAULT for check in checks)
    warnings = sum(check.status == WARNING for check in checks)
    total = f"{len(checks)} checks on {comm.size} rank{'s'[: comm.size > 1]}: faults: {faults}, warnings: {warnings}"
    return int(faults > 0), [*(check.line() for check in checks), total]


def doctor(comm: MPI.Comm) -> list[Check]:
    """All checks, the same list on every rank. On one rank a second program is started for the two-rank test.

    Collective on ``comm``.
    """
    checks = [_agreed(check, comm) for check in (*_versions(), _mpi(), *_petsc(comm), _threads(), _cache())]
    checks.append(_placement(comm))
    if any(check.status == FAULT for check in checks):
        return [*checks, Check("self-tests", WARNING, "not run", "mend the faults above first")]
    for name, test, remedy in (
        ("halo", _halo, "the MPI library does not deliver messages; try its own test programs"),
        ("solver", _solver, "PETSc does not work with this MPI; rebuild petsc4py against it"),
        ("kernels", _kernels, "remove the __pycache__ directories below parmlip/, then reinstall numba"),
        ("surrogate", _surrogate, "remove the __pycache__ directories below parmlip/, then reinstall numba"),
    ):
        checks.append(_tested(name, test, remedy, comm))
    if comm.size == 1:
        checks.append(_two_ranks())
    return checks


def _agreed(check: Check, comm: MPI.Comm) -> Check:
    """The worst of all ranks' checks, with the number of its rank if the ranks differ."""
    everywhere = comm.allgather((_ORDER.index(check.status), check))
    level = max(entry[0] for entry in everywhere)
    rank = next(rank for rank, entry in enumerate(everywhere) if entry[0] == level)
    worst = everywhere[rank][1]
    if all(entry[0] == level for entry in everywhere):
        return worst
    return Check(worst.name, worst.status, f"rank {rank}: {worst.detail}", worst.remedy)


# -- what is installed -------------------------------------------------------------------------------------------------


def _versions() -> list[Check]:
    checks = [Check("parmlip", OK, f"{parmlip.__version__} in {Path(parmlip.__file__).parent}")]
    checks.append(Check("python", OK, f"{platform.python_version()} {sys.executable}"))
    for name in _PACKAGES:
        try:
            checks.append(Check(name, OK, str(importlib.import_module(name).__version__)))
        except ImportError as error:
            checks.append(Check(name, FAULT, f"cannot be imported ({error})", _how_to_install(name)))
    return checks


def _how_to_install(name: str) -> str:
    if name in ("mpi4py", "petsc4py"):
        return "run jobs/setup.sh; on a cluster build it against the loaded modules (README, 'On a cluster')"
    return f"run jobs/setup.sh, or {sys.executable} -m pip install {name}"


def _mpi() -> Check:
    version = MPI.Get_library_version().rstrip("\0").splitlines()[0].strip()
    with contextlib.suppress(ImportError):  # `_petsc` tells it
        importlib.import_module("petsc4py.PETSc")  # loads PETSc's MPI, if it is another one
    libraries = _mpi_libraries(Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else "")
    if len(libraries) > 1:
        return Check(
            "MPI",
            FAULT,
            f"mpi4py and PETSc use different libraries: {' and '.join(libraries)}",
            "build mpi4py and petsc4py with the same mpicc (README, 'On a cluster')",
        )
    return Check("MPI", OK, ", ".join([version, *libraries]))


def _mpi_libraries(maps: str) -> list[str]:
    """Files of the MPI libraries among a process's memory maps, without an implementation's companion libraries."""
    name = re.compile(r"/lib(?:mpi|mpich|mpi_(?:cray|intel|abi|gnu\w*))(?:-\w+)?\.so[.\d]*$")
    return sorted({os.path.realpath(line.split()[-1]) for line in maps.splitlines() if name.search(line)})


def _petsc(comm: MPI.Comm) -> list[Check]:
    try:
        from petsc4py import PETSc
    except ImportError as error:
        too_new = int(np.__version__.split(".")[0]) >= 2
        hint = ", or numpy 2 is too new for it: pip install 'numpy<2'" if too_new else ""
        return [Check("PETSc", FAULT, f"cannot be loaded ({error})", _how_to_install("petsc4py") + hint)]
    version = ".".join(map(str, PETSc.Sys.getVersion()))
    scalar, integer = np.dtype(PETSc.ScalarType), np.dtype(PETSc.IntType)
    vector = PETSc.Vec().create(comm=comm)
    seen = vector.getComm().getSize()
    vector.destroy()
    checks = [Check("PETSc", OK, f"{version}, scalars {scalar}, integers {integer}")]
    if scalar != np.float64:
        checks[0] = Check(
            "PETSc",
            FAULT,
            f"{version} has scalars of type {scalar}, parmlip needs float64",
            "use a real, double-precision build (Debian: python3-petsc4py-real), see PETSC_DIR and PETSC_ARCH",
        )
    if seen != comm.size:
        checks.append(
            Check("communicator", FAULT, f"PETSc sees {seen} ranks, mpi4py {comm.size}", "build both with one MPI")
        )
    return checks


def _threads() -> Check:
    unset = [name for name in _THREADS if os.environ.get(name) != "1"]
    if not unset:
        return Check("threads", OK, "1 a rank")
    given = ", ".join(f"{name}={os.environ[name]}" if name in os.environ else f"{name} not set" for name in unset)
    return Check("threads", WARNING, given, "source jobs/env.sh, or set these variables to 1: ranks compete for cores")


def _cache() -> Check:
    """Compiled kernels are kept beside the source, in NUMBA_CACHE_DIR or in the user's cache: one must be writable."""
    beside = Path(parmlip.__file__).parent / "__pycache__"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(chosen)] if chosen else [beside, Path.home() / ".cache"]
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place):
                return Check("cache", OK, f"compiled kernels are kept ({place} is writable)")
        except OSError:
            continue
    detail = f"compiled kernels cannot be kept: {' and '.join(map(str, places))} not writable"
    return Check("cache", WARNING, detail, "set NUMBA_CACHE_DIR to a writable directory; else every start compiles")


def _placement(comm: MPI.Comm) -> Check:
    """Ranks against cores, host by host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    mine = (socket.gethostname(), cores if comm.size == 1 else max(cores, os.cpu_count() or 1))
    everywhere = comm.allgather(mine)
    ranks = Counter(host for host, _ in everywhere)
    limit = dict(everywhere)
    detail = "; ".join(f"{n} on {host} ({limit[host]} cores)" for host, n in sorted(ranks.items()))
    if any(n > limit[host] for host, n in ranks.items()):
        return Check("ranks", WARNING, detail, "start at most one rank a core: ranks wait for each other in every step")
    return Check("ranks", OK, detail)


# -- computations with known answers -----------------------------------------------------------------------------------


def _tested(name: str, test: Callable[[MPI.Comm], str], remedy: str, comm: MPI.Comm) -> Check:
    """The outcome of a self-test, which returns what it found and raises if it is wrong.

    On several ranks an exception goes on to the caller, who aborts: the other ranks may wait in a collective.
    """
    try:
        return Check(name, OK, test(comm))
    except Exception as error:
        if comm.size > 1:
            raise
        return Check(name, FAULT, f"{type(error).__name__}: {error}", remedy)


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise ArithmeticError(message)


def _halo(comm: MPI.Comm) -> str:
    """Owners' values reach the ghosts, and ghosts' values return to the owners.

    Collective on ``comm``.
    """
    from parmlip.parallel.halo import Halo
    from parmlip.parallel.partition import bisect
    from parmlip.parallel.sites import Sites

    n_sites = 20 * comm.size
    positions_ac = np.zeros((n_sites, 3))
    positions_ac[:, 0] = np.arange(n_sites)
    sites = Sites(bisect(positions_ac, comm.size), comm=comm)
    foreign = np.setdiff1d(np.arange(n_sites), sites.global_n)
    halo = Halo(sites, foreign)
    x_m = np.where(np.arange(halo.n_local) < halo.n_owned, 1.0 + halo.global_m, 0.0)
    halo.forward(x_m)
    wrong = int(np.count_nonzero(x_m != 1.0 + halo.global_m))
    ones_m = np.ones(halo.n_local)
    halo.reverse_add(ones_m)
    wrong += int(np.count_nonzero(ones_m[: halo.n_owned] != comm.size))
    wrong = comm.allreduce(wrong)
    _demand(wrong == 0, f"{wrong} values arrived wrong")
    return f"{comm.allreduce(halo.n_local - halo.n_owned)} ghosts exchanged between {comm.size} ranks and back"


def _solver(comm: MPI.Comm) -> str:
    """Conjugate gradients on a distributed one-dimensional Laplacian, whose solution is known.

    Collective on ``comm``.
    """
    from petsc4py import PETSc

    n = 200
    matrix = PETSc.Mat().createAIJ((n, n), nnz=3, comm=comm)
    first, last = matrix.getOwnershipRange()
    for i in range(first, last):
        columns = [j for j in (i - 1, i, i + 1) if 0 <= j < n]
        matrix.setValues([i], columns, [2.0 if j == i else -1.0 for j in columns])
    matrix.assemble()
    x, b = matrix.createVecs()
    b.set(1.0)
    solver = PETSc.KSP().create(comm=comm)
    try:
        solver.setOperators(matrix)
        solver.setType("cg")
        solver.getPC().setType("jacobi")
        solver.setTolerances(rtol=1e-12, max_it=2 * n)
        solver.solve(b, x)
        row_n = np.arange(first + 1, last + 1)
        exact = 0.5 * row_n * (n + 1 - row_n)
        error = np.array([np.max(np.abs(x.getArray(readonly=True) - exact) / exact, initial=0.0)])
        comm.Allreduce(MPI.IN_PLACE, error, op=MPI.MAX)
        iterations, reason = solver.getIterationNumber(), solver.getConvergedReason()
        _demand(reason > 0 and error[0] < 1e-8, f"conjugate gradients end with error {error[0]:.1e} (reason {reason})")
    finally:
        for handle in (solver, x, b, matrix):
            handle.destroy()
    return f"conjugate gradients on {n} unknowns: {iterations} iterations, error {error[0]:.0e}"


def _kernels(comm: MPI.Comm) -> str:
    """Forces of a rattled tungsten cell against the difference of energies; the Hessian against that of forces.

    Collective on ``comm``. The first call compiles the kernels, which are then kept.
    """
    from parmlip.crystal.lattices import LATTICES
    from parmlip.crystal.supercell import build_supercell
    from parmlip.mechanics import hessian
    from parmlip.mechanics.energy import Energy
    from parmlip.potentials.eam import builtin

    supercell = build_supercell(LATTICES["bcc"], 3.14339, (3, 3, 3), ("W",))
    energy = Energy(builtin("W-EAM4"), supercell, comm=comm)
    rng = np.random.default_rng(1)
    u_nd, v_nd = (energy.sites.restrict(rng.uniform(-0.05, 0.05, (supercell.n_sites, 3))) for _ in range(2))
    step = 1e-3
    ahead, f_ahead = energy.difference_and_forces(u_nd + step * v_nd)
    behind, f_behind = energy.difference_and_forces(u_nd - step * v_nd)
    _, f_nd = energy.difference_and_forces(u_nd)
    slope = comm.allreduce(float(np.sum(f_nd * v_nd)))
    _demand(abs((ahead - behind) / (2.0 * step) + slope) < 1e-6 * abs(slope), "forces are not the slope of the energy")
    matrix = hessian.assembled(energy, u_nd)
    x, y = matrix.createVecs()
    try:
        x.setArray(v_nd.ravel())
        matrix.mult(x, y)
        product_nd = y.getArray(readonly=True).reshape(-1, 3)
        difference = float(np.sum((product_nd + (f_ahead - f_behind) / (2.0 * step)) ** 2))
        scale = comm.allreduce(float(np.sum(product_nd**2)))
        _demand(comm.allreduce(difference) < 1e-10 * scale, "the Hessian is not the slope of the forces")
    finally:
        for handle in (x, y, matrix):
            handle.destroy()
    return f"energy, forces and Hessian of {supercell.n_sites} sites agree"


def _surrogate(comm: MPI.Comm) -> str:
    """The kernels of the cluster expansion agree with each other; rank 0 compiles them, the others load them.

    Collective on ``comm``.
    """
    from parmlip.potentials.ace_warm import warm

    on_root(comm, "compiling the cluster expansion", warm)
    error = comm.allreduce(warm(), op=MPI.MAX)
    _demand(error < 1e-12, f"kernels of the cluster expansion differ by {error:.1e}")
    return f"energy, forces, design rows and Hessian of the cluster expansion agree to {error:.0e}"


def _two_ranks() -> Check:
    """The same examination under mpirun on two ranks."""
    name = "two ranks"
    if os.environ.get(_IN_CHILD):
        return Check(name, FAULT, "mpirun started separate programs: it is not that of mpi4py's MPI", _mend_mpirun())
    mpirun = shutil.which("mpirun") or shutil.which("mpiexec")
    if mpirun is None:
        return Check(name, WARNING, "not tried: no mpirun on PATH", "start it yourself, as srun -n 2 parmlip doctor")
    # os.environ was read before MPI_Init, whose additions make mpirun end without a word
    child = subprocess.Popen(
        [mpirun, "-n", "2", sys.executable, "-m", "parmlip", "doctor"],
        env={**os.environ, _IN_CHILD: "2"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=_CHILD_LIMIT)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.communicate(timeout=10.0)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
        return Check(name, FAULT, f"no answer in {_CHILD_LIMIT:g} s", f"try {mpirun} -n 2 hostname; {_mend_mpirun()}")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if child.returncode:
        faults = [line for line in lines if line.startswith(FAULT)] or lines[-3:]
        return Check(name, FAULT, f"{mpirun} -n 2 ends with {child.returncode}: {' / '.join(faults)}", _mend_mpirun())
    tests = [line.split(maxsplit=2)[2] for line in lines if line.startswith((f"{OK:<8}halo", f"{OK:<8}solver"))]
    return Check(name, OK, "; ".join(tests))


def _mend_mpirun() -> str:
    vendor, version = MPI.get_vendor()
    release = ".".join(map(str, version))
    hint = f"put the mpirun of {vendor} {release} first on PATH"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        hint += ", and as root source jobs/env.sh"
    return hint
