"""log det of a Hessian without its translations, by sparse factorisation: for any cell, as long as the factors fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from parmlip.errors import ConvergenceError

# MUMPS' controls: its determinant; memory 50 % beyond its estimate; and what PETSc wants for the signs of the pivots,
# no parallel root front and null pivots looked for.
_CONTROLS = {33: 1, 14: 50, 13: 1, 24: 1}


@dataclass(frozen=True)
class LogDeterminant:
    """Of one factorisation; the same on every rank."""

    value: float  # log of the product of the eigenvalues that are not zero
    entries: float  # numbers in the factors


def log_determinant(matrix: PETSc.Mat, dimension: int) -> LogDeterminant:
    """log det+ of an assembled Hessian by MUMPS' L D L^T.

    With the translations as the null space, the product of the other eigenvalues is N^d times the determinant of what
    is left when one site is held (all minors of such a matrix are alike), so that nothing singular is factorised.
    Factors of three-dimensional crystals grow as N^(4/3).

    Collective on ``matrix.comm``.

    Raises
    ------
    ConvergenceError
        The factorisation failed, or there are negative eigenvalues (their number is that of the held cell, which is
        the cell's own or one for each component less).
    """
    n_sites = matrix.getSize()[0] // dimension
    held = matrix.duplicate(copy=True)
    held.zeroRowsColumns(np.arange(dimension, dtype=PETSc.IntType), diag=1.0)
    pc = PETSc.PC().create(comm=matrix.comm)
    try:
        pc.setOperators(held)
        pc.setType(PETSc.PC.Type.CHOLESKY)
        pc.setFactorSolverType("mumps")
        pc.setFactorSetUpSolverType()
        factor = pc.getFactorMatrix()
        for control, setting in _CONTROLS.items():
            factor.setMumpsIcntl(control, setting)
        pc.setUp()
        failed = factor.getMumpsInfog(1)
        if failed < 0:
            raise ConvergenceError(
                f"the sparse factorisation of {n_sites} sites failed (MUMPS error {failed}, "
                f'{factor.getMumpsInfog(2)}): the factors may not fit into memory; use more nodes or method = "contour"'
            )
        negative = factor.getInertia()[0]
        if negative:
            raise ConvergenceError(
                f"{negative} negative mode(s) in the factors of the Hessian: the state is not a minimum, its "
                "vibrational entropy is not defined"
            )
        mantissa, exponent = factor.getMumpsRinfog(12), factor.getMumpsInfog(34)
        entries = float(factor.getMumpsInfog(29))
        value = float(np.log(mantissa) + exponent * np.log(2.0) + dimension * np.log(n_sites))
        return LogDeterminant(value, entries if entries >= 0.0 else -1e6 * entries)
    finally:
        pc.destroy()
        held.destroy()
