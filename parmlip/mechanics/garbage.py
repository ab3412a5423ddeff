"""PETSc objects that Python has let go of."""

from __future__ import annotations

from mpi4py import MPI
from petsc4py import PETSc


def collect_garbage(comm: MPI.Comm) -> None:
    """Free PETSc objects whose last holder was Python. Collective on ``comm``.

    PETSc keeps them until it is told that all ranks are there. What `KSP.getPC` gives is one if it outlives its solver,
    and with the preconditioner stay the matrices that it was made for: to be called where solvers come and go.
    """
    PETSc.garbage_cleanup(comm)
