"""Equilibria: displacements at which the forces vanish and from which the energy was only ever lowered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Relax
from parmlip.errors import ConvergenceError, GeometryError
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen, without_translation
from parmlip.mechanics.lbfgs import LbfgsDirection
from parmlip.mechanics.line_search import TWITCH, Rounding, State, evaluate, largest, measured_rounding, search
from parmlip.mechanics.newton import NewtonDirection
from parmlip.mechanics.total_energy import TotalEnergy
from parmlip.numerics.lattice_fourier import UnstableLattice

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

# Forces at rest, and energies that steps compare, are within this factor of their measured rounding.
_FLOOR: Final = 10.0
_LARGEST: Final = 1e-4  # eV / angstrom: more is no rounding, but forces that jump
_STALLED: Final = 10  # steps after which it is asked whether the forces are rounding
_USUAL: Final = 1e-10  # eV, rounding of energies that `search` always grants
_HEADER: Final = "iteration          energy (eV)  max force (eV/A)   step (A)  inner  seconds"


@dataclass(frozen=True)
class Iteration:
    """One line of the history."""

    energy: float  # E(u) - E(0), eV
    max_force: float  # eV / angstrom
    step: float  # largest component of the step that led here, angstrom
    inner: int  # iterations of the inner solver that gave the step
    seconds: float  # since the start


@dataclass(frozen=True)
class Equilibrium:
    """End of a relaxation (of a failed one too: `converged` tells)."""

    u_nd: FloatArray  # (n_owned, d) displacement of the owned sites, angstrom
    energy: float  # E(u) - E(0), eV, the same on every rank
    f_nd: FloatArray  # (n_owned, d) forces left, eV / angstrom
    max_force: float  # their largest component on any rank
    converged: bool  # to `force_tolerance`, or to the rounding of the law's forces
    method: str
    history: tuple[Iteration, ...]  # the start, then one entry per step

    @property
    def iterations(self) -> int:
        """Steps taken."""
        return len(self.history) - 1

    @property
    def inner_iterations(self) -> tuple[int, ...]:
        """Inner iterations of each step."""
        return tuple(line.inner for line in self.history[1:])


class Direction(Protocol):
    """What gives descent directions."""

    def __call__(self, state: State, force_tolerance: float, /) -> tuple[FloatArray, int, bool]:
        """Direction, inner iterations, whether negative curvature was met. Collective."""

    def accepted(self, before: State, after: State, /) -> None:
        """Hear of a step that was taken. Collective."""


def relax(
    energy: Energy | TotalEnergy,
    u0_nd: FloatArray,
    settings: Relax,
    *,
    green: BulkGreen | None = None,
    what: str = "relaxation",
    each_iteration: Callable[[Iteration], None] | None = None,
) -> Equilibrium:
    """The equilibrium reached downhill from `u0_nd`.

    Collective on ``energy.comm``.

    Parameters
    ----------
    energy : Energy or TotalEnergy
        The latter is always relaxed by L-BFGS, without a preconditioner: force constants by differences would cost as
        many evaluations as the relaxation of a cell that such a law can do.
    u0_nd : ndarray, shape (n_owned, d)
        Start, angstrom. In a periodic cell its mean displacement is kept: translations cost no energy. Clamped sites
        stay where it has them.
    settings : Relax
        `method` newton or lbfgs; stops when the largest force component is at most `force_tolerance`, or, with a
        warning, where no step lowers it further and it is rounding, at most 1e-4: large coefficients that cancel have
        that.
        `hessian` "auto" is matrix-free with a Green's function, assembled (for algebraic multigrid) without.
    green : BulkGreen, optional
        Preconditioner, made by `bulk_green` if left out. It need not be that of the same law.
    what : str
        Names the relaxation in messages.
    each_iteration : callable, optional
        Called on every rank after every iteration; may raise (on all ranks) to stop.

    Raises
    ------
    ConvergenceError
        `result` is the Equilibrium that was reached; also where forces jump.
    GeometryError
        The start is not finite or outside the law's range.
    """
    start_time = time.perf_counter()
    if isinstance(energy, TotalEnergy):  # no Hessians, no force constants
        direction: Direction = LbfgsDirection(energy.sites, None)
    else:
        green = green if green is not None else bulk_green(energy)
        direction = _direction(energy, green, settings)
    method = "lbfgs" if isinstance(direction, LbfgsDirection) else settings.method
    if not np.isfinite(largest(u0_nd, energy.comm)):
        raise GeometryError(f"{what}: the start holds a displacement that is not finite")
    state = evaluate(energy, u0_nd)
    history: list[Iteration] = []
    logger.info("%s: %s, %d sites", what, method, energy.sites.n_sites)
    logger.info("%s", _HEADER)

    def record(step: float, inner: int) -> None:
        line = Iteration(state.energy, state.max_force, step, inner, time.perf_counter() - start_time)
        logger.info(
            "%9d %20.12f %17.6e %10.3e %6d %8.2f",
            len(history), line.energy, line.max_force, line.step, line.inner, line.seconds,
        )  # fmt: skip
        history.append(line)
        if each_iteration is not None:
            each_iteration(line)

    def ended(converged: bool) -> Equilibrium:
        return Equilibrium(state.u_nd, state.energy, state.f_nd, state.max_force, converged, method, tuple(history))

    noise = 0.0  # eV
    least, stalled = state.max_force, 0  # steps since the largest force was clearly less than ever before
    record(0.0, 0)
    while state.max_force > settings.force_tolerance:
        if len(history) > settings.max_iterations:
            problem = f"not converged after {settings.max_iterations} iterations ([relax] max_iterations)"
            raise _failed(what, problem, ended(False), settings.force_tolerance)
        if stalled == _STALLED and isinstance(energy, Energy):
            stalled = 0
            if _at_rest(measured_rounding(energy, state), state, settings, what):
                return ended(True)
        s_nd, inner, indefinite = direction(state, settings.force_tolerance)
        if indefinite:
            logger.debug("negative curvature after %d inner iterations", inner)
        trial = search(energy, state, _centred(energy, s_nd), step_cap=settings.step_cap, noise=noise)
        if trial is None:  # negative curvature at the first step, or a direction spoilt by rounding
            trial = search(energy, state, _downhill(energy, green, state), step_cap=settings.step_cap, noise=noise)
        if trial is None and isinstance(energy, Energy):
            rounding = measured_rounding(energy, state)
            if _at_rest(rounding, state, settings, what):
                return ended(True)
            if state.max_force <= _FLOOR * rounding.force:
                raise _failed(what, forces_jump(rounding.force, TWITCH), ended(False), settings.force_tolerance)
            if _FLOOR * rounding.energy > 2.0 * noise and _FLOOR * rounding.energy > _USUAL:
                noise = _FLOOR * rounding.energy
                logger.info("energies are known to %.1e eV: the search goes by the forces", rounding.energy)
                continue
        if trial is None:
            problem = f"after {len(history) - 1} iterations no lower energy was found along the forces"
            raise _failed(what, problem, ended(False), settings.force_tolerance)
        direction.accepted(state, trial)
        step = largest(trial.u_nd - state.u_nd, energy.comm)
        state = trial
        stalled = 0 if state.max_force < 0.5 * least else stalled + 1
        least = min(least, state.max_force)
        record(step, inner)
    return ended(True)


def _at_rest(rounding: Rounding, state: State, settings: Relax, what: str) -> bool:
    """Whether the forces are rounding; said if so."""
    if state.max_force > min(_FLOOR * rounding.force, _LARGEST):
        return False
    logger.warning(
        "%s: ends at %.1e eV/A, where forces are rounding (%.1e); [relax] force_tolerance = %g is out of this law's "
        "reach",
        what, state.max_force, rounding.force, settings.force_tolerance,
    )  # fmt: skip
    return True


def forces_jump(change: float, twitch: float) -> str:
    """What is wrong where forces change by `change`, eV / angstrom, by moves of `twitch`, angstrom; for messages."""
    return (
        f"forces jump here, by {change:.1e} eV/A where sites move by {twitch:.0e} A: the law is not smooth about this "
        "state (pairs cross the end of its list, sites the places it was expanded about)"
    )


def bulk_green(energy: Energy) -> BulkGreen | None:
    """The preconditioner of an energy; None, with a word in the log, where there is no grid or the bulk is unstable.

    Collective on ``energy.comm``.
    """
    if energy.supercell.grid is None:
        logger.info("no perfect grid is known for this configuration: algebraic multigrid instead of Green's function")
        return None
    try:
        return BulkGreen(energy.law, energy.supercell, energy.sites, energy.clamped_n)
    except UnstableLattice as unstable:
        logger.warning("%s: algebraic multigrid instead of its Green's function", unstable)
        return None


def _direction(energy: Energy, green: BulkGreen | None, settings: Relax) -> Direction:
    if settings.method == "lbfgs":
        return LbfgsDirection(energy.sites, green)
    matrix_free = settings.hessian == "matrix_free" or (settings.hessian == "auto" and green is not None)
    return NewtonDirection(energy, green, matrix_free=matrix_free)


def _downhill(energy: Energy | TotalEnergy, green: BulkGreen | None, state: State) -> FloatArray:
    """The preconditioned forces."""
    return green(state.f_nd) if green is not None else _centred(energy, 0.05 * state.f_nd)


def _centred(energy: Energy | TotalEnergy, s_nd: FloatArray) -> FloatArray:
    """A step without its translation, where the cell repeats along every direction that moves."""
    free = all(energy.supercell.periodic[: energy.dimension])
    return without_translation(s_nd, energy.sites) if free else s_nd


def _failed(what: str, problem: str, result: Equilibrium, force_tolerance: float) -> ConvergenceError:
    return ConvergenceError(
        f"{what}: {problem}; the largest force is {result.max_force:.3e} eV/A (force_tolerance {force_tolerance:.1e}), "
        f"the energy difference {result.energy:.9g} eV",
        result,
    )
