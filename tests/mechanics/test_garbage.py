"""Memory of solvers that are made again and again."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from petsc4py import PETSc

from parmlip.mechanics.garbage import collect_garbage

SIZE = 200_000  # rows; with its preconditioner's some MB each


def resident():
    """MB of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def solve(comm):
    matrix = PETSc.Mat().createAIJ(((None, SIZE), (None, SIZE)), nnz=1, comm=comm)
    start, end = matrix.getOwnershipRange()
    for i in range(start, end, 1000):
        rows = np.arange(i, min(i + 1000, end), dtype=PETSc.IntType)
        matrix.setValuesIJV(np.arange(len(rows) + 1, dtype=PETSc.IntType), rows, np.ones(len(rows)), rowmap=rows)
    matrix.assemble()
    solver = PETSc.KSP().create(comm=comm)
    solver.setOperators(matrix)
    preconditioner = solver.getPC()  # outlives the solver: its last holder is Python
    preconditioner.setType(PETSc.PC.Type.JACOBI)
    right, x = matrix.createVecs()
    right.set(1.0)
    solver.solve(right, x)
    for held in (right, x, solver, matrix):
        held.destroy()


@pytest.mark.mpi(3)
def test_matrices_of_solvers_that_are_gone_are_freed(comm):
    solve(comm)
    collect_garbage(comm)
    gc.collect()
    before = resident()
    for _ in range(20):
        collect_garbage(comm)
        solve(comm)
    collect_garbage(comm)
    per_solve = SIZE / comm.size * 12 / 2**20  # of the matrix, at least
    assert resident() - before < 0.5 * 20 * per_solve
