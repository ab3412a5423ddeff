"""Linear response of an equilibrium: H du = f, with the Hessian where it stands."""

from __future__ import annotations

from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.errors import ConvergenceError
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen, GreenPreconditioner, without_translation

FloatArray = NDArray[np.float64]

_LIMIT: Final = 2000  # iterations of conjugate gradients


class Response:
    """f -> H^-1 f at an equilibrium u, one Hessian for many f; serves as a context manager.

    Conjugate gradients with the bulk's Green function as preconditioner where there is one (then the Hessian is not
    assembled), else algebraic multigrid. Where the cell repeats along every direction that moves, translations are
    taken out of f and of the result.

    Collective on ``energy.comm``, as is every use.

    Parameters
    ----------
    energy : Energy
    u_nd : ndarray, shape (n_owned, d)
        Where the Hessian is taken, angstrom.
    green : BulkGreen, optional
    tolerance : float
        Relative residual, in the norm of the preconditioner, at which a solution ends.
    """

    def __init__(self, energy: Energy, u_nd: FloatArray, green: BulkGreen | None, *, tolerance: float = 1e-8) -> None:
        self.energy = energy
        self.tolerance = tolerance
        self.free = all(energy.supercell.periodic[: energy.dimension])
        self.matrix = hessian.operator(energy, u_nd) if green is not None else hessian.assembled(energy, u_nd)
        self.solver = PETSc.KSP().create(comm=energy.comm)
        self.solver.setOperators(self.matrix)
        self.solver.setType(PETSc.KSP.Type.CG)
        self.solver.setNormType(PETSc.KSP.NormType.NATURAL)
        self.solver.setTolerances(rtol=tolerance, atol=0.0, divtol=1e10, max_it=_LIMIT)
        pc = self.solver.getPC()
        if green is not None:
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(GreenPreconditioner(green))
        else:
            pc.setType(PETSc.PC.Type.GAMG)
        self.rhs, self.solution = self.matrix.createVecs()

    def __call__(self, f_nd: FloatArray) -> FloatArray:
        """Displacement (n_owned, d), angstrom, by forces (n_owned, d), eV / angstrom.

        Raises
        ------
        ConvergenceError
            The Hessian is not positive on this direction (the state is no minimum), or the iterations ran out; on all
            ranks.
        """
        f_nd = self._centred(f_nd)
        self.rhs.getArray()[:] = f_nd.reshape(-1)
        self.solver.solve(self.rhs, self.solution)
        reason = self.solver.getConvergedReason()
        negative = reason == PETSc.KSP.ConvergedReason.DIVERGED_INDEFINITE_MAT
        # a preconditioner made of a negative Hessian would hide it
        negative = negative or (reason > 0 and float(self.rhs.dot(self.solution)) < 0.0)
        if reason < 0 or negative:
            why = f"no convergence (PETSc reason {reason})"
            if negative:
                why = "the Hessian has a negative direction, the state is no minimum"
            raise ConvergenceError(
                f"linear response: {why}, after {self.solver.getIterationNumber()} iterations "
                f"(relative tolerance {self.tolerance:.1e})",
                None,
            )
        return self._centred(self.solution.getArray(readonly=True).reshape(-1, self.energy.dimension).copy())

    def _centred(self, x_nd: FloatArray) -> FloatArray:
        return without_translation(x_nd, self.energy.sites) if self.free else x_nd

    def destroy(self) -> None:
        """Free what PETSc holds. Collective."""
        for held in (self.solver, self.rhs, self.solution, self.matrix):
            held.destroy()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()
