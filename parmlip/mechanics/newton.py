"""Newton directions: the Hessian's equations solved inexactly by preconditioned conjugate gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen, GreenPreconditioner
from parmlip.mechanics.line_search import State

FloatArray = NDArray[np.float64]

_FIRST, _LOOSEST, _TIGHTEST = 0.01, 0.05, 1e-5  # relative residuals of the inner solves
_INNER_LIMIT = 500


class NewtonDirection:
    """s with H s = f up to a relative residual that follows the outer convergence.

    The tolerance is Eisenstat and Walker's second choice, SIAM J. Sci. Comput. 17, 16 (1996), eq. (2.6), with
    gamma = 0.9 and alpha = 1.5, on the largest force. At negative curvature CG stops with the descent direction that it
    has by then.

    Preconditioner: the bulk Green's function where there is one; else PETSc's algebraic multigrid with the translations
    as near null space on an assembled Hessian, and none for a matrix-free one.
    """

    def __init__(self, energy: Energy, green: BulkGreen | None, *, matrix_free: bool) -> None:
        self.energy = energy
        self.green = green
        self.matrix_free = matrix_free
        self._pattern: hessian.HessianPattern | None = None
        self._previous = np.inf  # largest force when the last direction was asked for
        self._tolerance = _FIRST

    def __call__(self, state: State, force_tolerance: float) -> tuple[FloatArray, int, bool]:
        """The direction (n_owned, d), CG iterations, and whether CG met negative curvature.

        Collective on ``energy.comm``.
        """
        self._tighten(state.max_force, force_tolerance)
        matrix = self._hessian(state.u_nd)
        solver = PETSc.KSP().create(comm=self.energy.comm)
        try:
            solver.setOperators(matrix)
            solver.setType(PETSc.KSP.Type.CG)
            solver.setNormType(PETSc.KSP.NormType.NATURAL)
            solver.setTolerances(rtol=self._tolerance, atol=0.0, divtol=1e10, max_it=_INNER_LIMIT)
            self._precondition(solver.getPC())
            rhs, solution = matrix.createVecs()
            rhs.getArray()[:] = state.f_nd.reshape(-1)
            solver.solve(rhs, solution)
            indefinite = solver.getConvergedReason() == PETSc.KSP.ConvergedReason.DIVERGED_INDEFINITE_MAT
            s_nd = solution.getArray(readonly=True).reshape(-1, self.energy.dimension).copy()
            iterations = int(solver.getIterationNumber())
            rhs.destroy()
            solution.destroy()
        finally:
            solver.destroy()
            matrix.destroy()
        return s_nd, iterations, bool(indefinite)

    def accepted(self, _before: State, _after: State) -> None:
        """Newton's method keeps nothing of a step."""

    def _tighten(self, max_force: float, force_tolerance: float) -> None:
        if np.isfinite(self._previous):
            chosen = 0.9 * (max_force / self._previous) ** 1.5
            kept = 0.9 * self._tolerance**1.5
            chosen = max(chosen, kept) if kept > 0.1 else chosen
            # No finer than what the last step needs: half the force tolerance.
            self._tolerance = min(_LOOSEST, max(chosen, _TIGHTEST, 0.3 * force_tolerance / max_force))
        self._previous = max_force

    def _hessian(self, u_nd: FloatArray) -> PETSc.Mat:
        if self.matrix_free:
            return hessian.operator(self.energy, u_nd)
        self.energy.environments(u_nd)  # renews the pair lists if need be, so that the pattern below is theirs
        if self._pattern is None or self._pattern.builds != self.energy.builds:
            self._pattern = hessian.HessianPattern(self.energy)
        return hessian.assembled(self.energy, u_nd, self._pattern)

    def _precondition(self, pc: PETSc.PC) -> None:
        if self.green is not None:
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(GreenPreconditioner(self.green))
        elif self.matrix_free:
            pc.setType(PETSc.PC.Type.NONE)
        else:
            pc.setType(PETSc.PC.Type.GAMG)
