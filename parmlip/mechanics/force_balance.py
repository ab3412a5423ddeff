"""Balance of forces that are no gradient: Newton-Krylov, or quasi-Newton where derivatives are not known."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.config import Relax
from parmlip.errors import ConvergenceError, GeometryError
from parmlip.io.reference_cache import NEAR
from parmlip.mechanics.force_mixing import HybridForces
from parmlip.mechanics.garbage import collect_garbage
from parmlip.mechanics.green import BulkGreen, GreenPreconditioner
from parmlip.mechanics.line_search import TWITCH, dot, largest
from parmlip.mechanics.relax import bulk_green, forces_jump

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_SUFFICIENT: Final = 1e-4  # of the step that is asked of the residual norm
_TRIALS: Final = 12
_MEMORY: Final = 20  # differences that the quasi-Newton method keeps
_CURVED: Final = 1e-3  # of the force along a step: steps along which it falls by less are not learnt from
_REVERSED: Final = 0.9  # of the force along a step: as much of it against the step at its end is too far
_SHORTEST: Final = 0.1  # of a step that was too long
_PATIENCE: Final = 20  # steps of the quasi-Newton method without a smaller residual, after which it has come to its end
_FLOOR: Final = 10.0  # forces at rest are within this factor of their measured rounding
_LARGEST: Final = 1e-4  # eV / angstrom: more is no rounding, but forces that jump
_INNER: Final = 300  # iterations of GMRES at most
_LOOSEST, _TIGHTEST = 0.05, 1e-4  # relative residuals of the inner solves
# Of the quasi-Newton method, whose QM forces cost more than any inner solve: states stay as symmetric as they were, of
# which tight binding makes use.
_EXACT: Final = 1e-10
_HEADER: Final = "iteration    residual (eV/A)  max force (eV/A)   step (A)  inner  seconds"


@dataclass(frozen=True)
class BalanceIteration:
    """One line of the history."""

    residual: float  # Euclidean norm of all forces, eV / angstrom
    max_force: float  # largest component, eV / angstrom
    step: float  # largest component of the step that led here, angstrom
    inner: int  # iterations of the inner solver
    seconds: float


@dataclass(frozen=True)
class Balance:
    """End of a search for balanced forces (of a failed one too: `converged` tells)."""

    u_nd: FloatArray  # (n_owned, d) whole displacement, angstrom
    f_nd: FloatArray  # (n_owned, d) forces left, eV / angstrom
    max_force: float  # their largest component on any rank
    converged: bool
    method: str  # newton or quasi-newton
    history: tuple[BalanceIteration, ...]  # the start, then one entry per step

    @property
    def iterations(self) -> int:
        """Steps taken."""
        return len(self.history) - 1


@dataclass(frozen=True)
class _State:
    u_nd: FloatArray
    f_nd: FloatArray
    norm: float
    max_force: float


def balance_forces(hybrid: HybridForces, u0_nd: FloatArray, settings: Relax, *, what: str) -> Balance:
    """The state with F^H(u) = 0, (3.16), found from `u0_nd`.

    Where QM forces have derivatives, by Newton's method: J s = F by GMRES, right-preconditioned with the MM law's
    Green's function of the perfect crystal, or where there is none (no lattice, or an unstable one) with multigrid on
    the MM Hessian, and steps are judged by the norm of the residual force; else by the directions of L-BFGS from
    s = H_MM^-1 F, whose steps are judged by the work of the forces along them (trapezoidal rule). There is no energy,
    but away from the interface forces are gradients, and cores far from balance lead residuals uphill: about an edge in
    tight-binding silicon Anderson's method on the same s stays at 0.1 eV / angstrom for 60 calls of QM forces, of which
    L-BFGS takes 28 to 1e-3; about a vacancy both take 9 to 1e-5. Collective on ``hybrid.comm``.

    For an edge in discs of 3,447 and 9,664 sites Green's function takes 15 to 43 inner iterations, multigrid 4 to 14 in
    1.8 times the processor time.

    Parameters
    ----------
    hybrid : HybridForces
    u0_nd : ndarray, shape (n_owned, d)
        Start, with the predictor's values on clamped sites.
    settings : Relax
        `force_tolerance`: largest force component; `max_iterations`; `step_cap`.

    Raises
    ------
    ConvergenceError
        `result` is the Balance that was reached.

    References
    ----------
    Eisenstat and Walker, SIAM J. Sci. Comput. 17, 16 (1996), for the tolerance of inner solves; Nocedal and Wright,
    Numerical Optimization (2006), algorithm 7.4, for directions of L-BFGS.
    """
    green = bulk_green(hybrid.energy)
    solver = _Newton(hybrid, green, settings) if hybrid.has_jacobian else _QuasiNewton(hybrid, green)
    try:
        return _balanced(hybrid, u0_nd, settings, solver, what)
    finally:
        solver.destroy()


def _balanced(
    hybrid: HybridForces, u0_nd: FloatArray, settings: Relax, solver: _Newton | _QuasiNewton, what: str
) -> Balance:
    begin = time.perf_counter()
    state = _evaluate(hybrid, u0_nd)
    logger.info("%s: %s, %d sites", what, solver.name, hybrid.energy.sites.n_sites)
    logger.info("%s", _HEADER)
    history: list[BalanceIteration] = []

    def record(step: float, inner: int) -> None:
        line = BalanceIteration(state.norm, state.max_force, step, inner, time.perf_counter() - begin)
        logger.info(
            "%9d %18.9e %17.6e %10.3e %6d %8.2f",
            len(history), line.residual, line.max_force, line.step, line.inner, line.seconds,
        )  # fmt: skip
        history.append(line)

    def ended(converged: bool) -> Balance:
        return Balance(state.u_nd, state.f_nd, state.max_force, converged, solver.name, tuple(history))

    def failed(problem: str) -> ConvergenceError:
        return ConvergenceError(
            f"{what}: {problem}; the largest force is {state.max_force:.3e} eV/A (force_tolerance "
            f"{settings.force_tolerance:.1e})",
            ended(False),
        )

    record(0.0, 0)
    while state.max_force > settings.force_tolerance:
        if len(history) > settings.max_iterations:
            raise failed(f"forces not balanced after {settings.max_iterations} iterations ([relax] max_iterations)")
        s_nd, inner = solver(state)
        spent = solver.patience is not None and _stalled([line.residual for line in history], solver.patience)
        trial = None if spent else _search(hybrid, state, s_nd, settings.step_cap, solver.shortened)
        if trial is None:
            rounding = _rounding(hybrid, state)
            if state.max_force <= min(_FLOOR * rounding, _LARGEST):
                logger.warning(
                    "%s: ends at %.1e eV/A, where forces are rounding (%.1e); [relax] force_tolerance = %g is out of "
                    "reach",
                    what, state.max_force, rounding, settings.force_tolerance,
                )  # fmt: skip
                return ended(True)
            if state.max_force <= _FLOOR * rounding:
                raise failed(forces_jump(rounding, _twitch(hybrid)))
            raise failed(f"after {len(history) - 1} iterations no step lowers the residual force")
        step = largest(trial.u_nd - state.u_nd, hybrid.comm)
        state = trial
        record(step, inner)
    return ended(True)


def _evaluate(hybrid: HybridForces, u_nd: FloatArray) -> _State:
    f_nd = hybrid.forces(u_nd)
    return _State(u_nd, f_nd, float(np.sqrt(dot(f_nd, f_nd, hybrid.comm))), largest(f_nd, hybrid.comm))


def _stalled(residuals: list[float], patience: int) -> bool:
    """Whether none of the last `patience` steps has led to a smaller residual than there was before."""
    return len(residuals) > patience and min(residuals[-patience:]) >= min(residuals[:-patience])


def _search(
    hybrid: HybridForces, state: _State, s_nd: FloatArray, step_cap: float, shortened: Callable[..., float]
) -> _State | None:
    """The first state u + t s that `shortened(state, trial, s, t)` leaves as long as it is; None if it is none."""
    size = largest(s_nd, hybrid.comm)
    if not np.isfinite(size) or size == 0.0:
        return None
    t = min(1.0, step_cap / size)
    for _ in range(_TRIALS):
        try:
            trial = _evaluate(hybrid, state.u_nd + t * s_nd)
        except GeometryError:  # sites closer than a law allows: raised on all ranks alike
            t *= 0.5
            continue
        shorter = shortened(state, trial, s_nd, t)
        if shorter == t:
            return trial
        t = shorter
    return None


def _rounding(hybrid: HybridForces, state: _State) -> float:
    """Largest change of a force component where nothing but the rounding does, eV / angstrom."""
    rng, twitch = np.random.default_rng((hybrid.comm.rank, 1)), _twitch(hybrid)
    moved_nd = state.u_nd + rng.uniform(-twitch, twitch, state.u_nd.shape)
    return largest(hybrid.forces(moved_nd) - state.f_nd, hybrid.comm)


def _twitch(hybrid: HybridForces) -> float:
    """Moves that are nothing, angstrom: of laws whose answers are kept, more than one answer is for."""
    return TWITCH if hybrid.has_jacobian else 10.0 * NEAR


class _Newton:
    """Newton's directions by GMRES, whose tolerance follows the residual."""

    name = "newton"
    patience = None  # every step lowers the residual

    def __init__(self, hybrid: HybridForces, green: BulkGreen | None, settings: Relax) -> None:
        self._hybrid = hybrid
        self._green = green
        self._target = settings.force_tolerance
        self._previous = np.inf
        self._tolerance = 0.01

    def __call__(self, state: _State) -> tuple[FloatArray, int]:
        if np.isfinite(self._previous):
            chosen = 0.9 * (state.norm / self._previous) ** 2
            self._tolerance = min(_LOOSEST, max(chosen, _TIGHTEST, 0.3 * self._target / state.max_force))
        self._previous = state.norm
        mm = self._hybrid.mm_hessian(state.u_nd)
        jacobian = self._hybrid.jacobian(state.u_nd, mm)
        try:
            return solved(jacobian, mm, state.f_nd, self._tolerance, self._green, comm=self._hybrid.comm)
        finally:
            jacobian.destroy()
            mm.destroy()

    def shortened(self, state: _State, trial: _State, _s_nd: FloatArray, t: float) -> float:
        """`t` if the residual norm is at most (1 - 1e-4 t) of that before, else half of it."""
        return t if trial.norm <= (1.0 - _SUFFICIENT * t) * state.norm else 0.5 * t

    def destroy(self) -> None:
        """Nothing is kept."""


class _QuasiNewton:
    """Directions of L-BFGS from s = H_MM^-1 F: derivatives of the QM forces are learnt from steps.

    Learnt is what makes forces fall along a step, so that directions go along the forces whatever states led there.
    """

    name = "quasi-newton"
    patience: int | None = _PATIENCE

    def __init__(self, hybrid: HybridForces, green: BulkGreen | None) -> None:
        self._hybrid = hybrid
        self._green = green
        self._mm: PETSc.Mat | None = None
        # differences of u and of -F, and the inverse of their product
        self._steps: deque[tuple[FloatArray, FloatArray, float]] = deque(maxlen=_MEMORY)
        self._last: _State | None = None  # before the step

    def __call__(self, state: _State) -> tuple[FloatArray, int]:
        comm = self._hybrid.comm
        if self._mm is None:  # one for all
            self._mm = self._hybrid.mm_hessian(state.u_nd)
        if self._last is not None:
            self._learn(state, self._last)
        p_nd, parts = state.f_nd.copy(), []
        for du_nd, dg_nd, inverse in reversed(self._steps):
            parts.append(inverse * dot(du_nd, p_nd, comm))
            p_nd -= parts[-1] * dg_nd
        s_nd, inner = solved(None, self._mm, p_nd, _EXACT, self._green, comm=comm)
        for (du_nd, dg_nd, inverse), part in zip(self._steps, reversed(parts), strict=True):
            s_nd += (part - inverse * dot(dg_nd, s_nd, comm)) * du_nd
        self._last = state
        uphill = dot(state.f_nd, s_nd, comm) < 0.0  # a Hessian that is not positive
        return -s_nd if uphill else s_nd, inner

    def shortened(self, state: _State, trial: _State, s_nd: FloatArray, t: float) -> float:
        """`t` if the forces do work on the way to the trial, else where the force along it is nought, if linear."""
        before, after = (dot(x.f_nd, s_nd, self._hybrid.comm) for x in (state, trial))
        return t if after >= -_REVERSED * before else t * max(before / (before - after), _SHORTEST)

    def _learn(self, state: _State, before: _State) -> None:
        du_nd, dg_nd = state.u_nd - before.u_nd, before.f_nd - state.f_nd
        comm = self._hybrid.comm
        product = dot(du_nd, dg_nd, comm)
        if product > _CURVED * dot(du_nd, before.f_nd, comm):
            self._steps.append((du_nd, dg_nd, 1.0 / product))

    def destroy(self) -> None:
        """Free the matrix."""
        if self._mm is not None:
            self._mm.destroy()


def solved(
    jacobian: PETSc.Mat | None,
    mm: PETSc.Mat,
    f_nd: FloatArray,
    tolerance: float,
    green: BulkGreen | None = None,
    *,
    comm: MPI.Comm,
) -> tuple[FloatArray, int]:
    """s with J s = f by GMRES, or H_MM s = f if `jacobian` is None; the iterations. Collective on ``comm``."""
    collect_garbage(comm)
    solver = PETSc.KSP().create(comm=comm)
    try:
        solver.setOperators(mm if jacobian is None else jacobian, mm)
        solver.setType(PETSc.KSP.Type.GMRES)
        solver.setGMRESRestart(_INNER)
        solver.setPCSide(PETSc.PC.Side.RIGHT)
        solver.setTolerances(rtol=tolerance, atol=0.0, divtol=1e10, max_it=_INNER)
        pc = solver.getPC()
        if green is None:
            pc.setType(PETSc.PC.Type.GAMG)
        else:
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(GreenPreconditioner(green))
        rhs, solution = mm.createVecs()
        rhs.getArray()[:] = f_nd.reshape(-1)
        solver.solve(rhs, solution)
        s_nd = solution.getArray(readonly=True).reshape(f_nd.shape).copy()
        iterations = int(solver.getIterationNumber())
        rhs.destroy()
        solution.destroy()
    finally:
        solver.destroy()
    return s_nd, iterations
