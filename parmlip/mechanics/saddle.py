"""Saddles of index one: found from a guess by following the lowest mode, refined by Newton's method."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.errors import ConvergenceError
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.extremes import RitzValues, ritz_values
from parmlip.mechanics.garbage import collect_garbage
from parmlip.mechanics.green import BulkGreen, GreenPreconditioner, without_translation
from parmlip.mechanics.line_search import State, dot, evaluate, largest, measured_rounding
from parmlip.mechanics.stability import Product

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_NEAR: Final = 0.05  # eV / angstrom: from here on plain Newton steps, if the index is right
_PUSH: Final = 0.1  # angstrom, largest component of the step that leaves a state of higher index
_CAP: Final = 0.1  # angstrom, largest component of a step
_MODE: Final = 0.02  # residual of the mode that is followed, relative to the largest eigenvalue found
_INNER_LIMIT: Final = 500
_FLOOR: Final = 10.0  # forces within this factor of their measured rounding are at rest


@dataclass(frozen=True)
class Mode:
    """A Ritz pair H v = lambda M v outside the translations, v.M v = 1."""

    value: float
    v_nd: FloatArray
    image_nd: FloatArray  # M v


@dataclass(frozen=True)
class Saddle:
    """A stationary state with one negative mode."""

    u_nd: FloatArray  # (n_owned, d) displacement of the owned sites, angstrom
    energy: float  # E(u) - E(0), eV, the same on every rank
    f_nd: FloatArray  # forces left, eV / angstrom
    max_force: float  # their largest component on any rank
    iterations: int
    index: int  # negative eigenvalues: 1
    lowest: tuple[float, float]  # the two lowest eigenvalues relative to the bulk (eV / angstrom^2 without its Green's)
    residuals: tuple[float, float]  # an eigenvalue lies within these of each
    mode: Mode  # the negative one


def find_saddle(
    energy: Energy,
    start_nd: FloatArray,
    along_nd: FloatArray,
    green: BulkGreen | None,
    *,
    force_tolerance: float = 1e-10,
    max_iterations: int = 60,
    breaks: int = 2,
    what: str = "saddle",
) -> Saddle:
    """The saddle reached from `start_nd`: uphill along the lowest mode, downhill in all others.

    Every step solves H s = f. Far from the saddle the sign of the lowest mode (v, lambda) is turned,
    H' = H + 2 |lambda| M v v^T M and f' = f - 2 (v.f) M v, by conjugate gradients on H' (hybrid eigenvector following,
    Munro and Wales, Phys. Rev. B 59, 3969 (1999)); once the forces are small and the second eigenvalue is positive,
    MINRES on H itself gives Newton's method its quadratic convergence. M^-1 is the bulk Green's function, which
    preconditions both, so that the number of products does not depend on the cell's size.

    Collective on ``energy.comm``.

    Parameters
    ----------
    start_nd, along_nd : ndarray, shape (n_owned, d)
        Guess of the saddle and of the direction across it, such as the top of a path and its tangent.
    green : BulkGreen or None
        None: no preconditioner, M = 1.
    force_tolerance : float
        Largest component of the forces, eV / angstrom. Where the law's forces are rounding before, the search ends
        there with a warning.

    breaks : int
        Paths that keep a symmetry may lead to a state of higher index: so often is one left along its second mode.

    Raises
    ------
    ConvergenceError
        Not converged, or the number of negative modes is not one; `result` is the `State` reached.
    GeometryError
        A step brought sites closer than the law allows.
    """
    state, image_nd, steps = evaluate(energy, start_nd), along_nd, 0
    for trial in range(breaks + 1):
        state, steps = _stationary(energy, state, image_nd, green, force_tolerance, steps, max_iterations, what)
        with Product(energy, state.u_nd) as product:
            # From a random start, so that no mode is missed that the followed ones do not have.
            found = _lowest(product, energy, green, None, 1e-4)
        index = _index(found)
        if index < 2 or trial == breaks:
            break
        logger.info("%s: %d negative modes, on along the second", what, index)
        v_nd = found.vectors[1]
        state = evaluate(energy, state.u_nd + v_nd * (_PUSH / largest(v_nd, energy.comm)))
        image_nd = found.images[0]
    values = ", ".join(f"{v:.4g} +- {r:.1g}" for v, r in zip(found.values[:3], found.residuals[:3], strict=True))
    if index != 1:
        raise ConvergenceError(
            f"{what}: the stationary state found has {index} negative modes instead of one (lowest eigenvalues "
            f"{values}); start nearer to the saddle, with more images",
            state,
        )
    logger.info("%s: one negative mode (lowest eigenvalues %s)", what, values)
    mode = Mode(float(found.values[0]), found.vectors[0], found.images[0])
    pair = [(float(a[0]), float(a[1])) for a in (found.values, found.residuals)]
    return Saddle(state.u_nd, state.energy, state.f_nd, state.max_force, steps, index, pair[0], pair[1], mode)


def _stationary(
    energy: Energy,
    state: State,
    image_nd: FloatArray,
    green: BulkGreen | None,
    force_tolerance: float,
    steps: int,
    max_iterations: int,
    what: str,
) -> tuple[State, int]:
    """Where the forces vanish, followed from a state and a guess M v of the mode; the number of steps so far."""
    index_is_one, before = False, np.inf
    for iteration in range(steps, max_iterations + 1):
        logger.info("%s %3d: %.12f eV, force %.6e eV/A", what, iteration, state.energy, state.max_force)
        if state.max_force <= force_tolerance:
            return state, iteration
        if index_is_one and state.max_force > 0.5 * before:
            rounding = measured_rounding(energy, state)
            if state.max_force <= _FLOOR * rounding.force:
                logger.warning(
                    "%s: ends at %.1e eV/A, where forces are rounding (%.1e); the tolerance %g is out of this law's "
                    "reach", what, state.max_force, rounding.force, force_tolerance,
                )  # fmt: skip
                return state, iteration
        if iteration == max_iterations:
            break
        with Product(energy, state.u_nd) as product:
            if not (index_is_one and state.max_force <= 2.0 * before):
                found = _lowest(product, energy, green, image_nd, _MODE)
                image_nd = found.images[0]
                index_is_one = state.max_force <= _NEAR and _index(found) == 1
            if index_is_one:
                s_nd = _solve(energy, product, green, state.f_nd, None, 0.1 * force_tolerance / state.max_force)
            else:
                s_nd = _follow(energy, product, green, state, Mode(float(found.values[0]), found.vectors[0], image_nd))
        s_nd = s_nd * min(1.0, _CAP / max(largest(s_nd, energy.comm), 1e-300))
        before = state.max_force
        state = evaluate(energy, state.u_nd + without_translation(s_nd, energy.sites))
    raise ConvergenceError(
        f"{what}: not converged after {max_iterations} iterations; the largest force is "
        f"{state.max_force:.3e} eV/A (tolerance {force_tolerance:.1e})",
        state,
    )


def lowest_frequency(energy: Energy, u_nd: FloatArray, mass_n: FloatArray, mode: Mode) -> float:
    """The lowest eigenvalue of H v = lambda m v, eV / (angstrom^2 amu): omega^2 of the unstable mode at a saddle.

    Collective on ``energy.comm``.

    Parameters
    ----------
    mass_n : ndarray, shape (n_owned,)
        Masses of the owned sites, amu.
    mode : Mode
        The negative mode of `find_saddle`, from which Lanczos starts.

    Raises
    ------
    ConvergenceError
        Not found to 1e-9 relative.
    """

    def done(found: RitzValues) -> bool:
        # The error of a Ritz value is quadratic in its residual.
        return len(found.values) > 2 and found.residuals[0] <= 1e-5 * abs(found.values[0])

    # Lanczos in the metric of the masses converges to both ends of the spectrum: a hundred steps or so.
    with Product(energy, u_nd) as product:
        found = ritz_values(
            product, lambda w_nd: w_nd / mass_n[:, None], done, energy.sites, energy.dimension,
            max_steps=400, seed=1, start_nd=mass_n[:, None] * mode.v_nd,
        )  # fmt: skip
    if not done(found):
        raise ConvergenceError(
            f"frequency of the unstable mode: {found.values[0]:.6g} +- {found.residuals[0]:.1g} after "
            f"{len(found.values)} Lanczos steps",
            found,
        )
    return float(found.values[0])


def _lowest(
    product: Product, energy: Energy, green: BulkGreen | None, start_nd: FloatArray | None, tolerance: float
) -> RitzValues:
    """Ritz pairs until the lowest two eigenvalues and their signs are known."""

    def done(found: RitzValues) -> bool:
        if len(found.values) < 3:
            return False
        known = np.abs(found.values[:2]) > 2.0 * found.residuals[:2]
        return bool(found.residuals[0] <= tolerance * found.scale and known.all())

    return ritz_values(
        product, green, done, energy.sites, energy.dimension, max_steps=150, seed=1, start_nd=start_nd, n_vectors=2
    )


def _index(found: RitzValues) -> int:
    """Negative eigenvalues; Ritz values bound eigenvalues from above, so that no negative one is false."""
    return int(np.count_nonzero(found.values < 0.0))


def _follow(energy: Energy, product: Product, green: BulkGreen | None, state: State, mode: Mode) -> FloatArray:
    """The step up along the mode and down in all others."""
    along = dot(mode.v_nd, state.f_nd, energy.comm)
    flip = (mode.image_nd, 2.0 * max(-mode.value, 0.0))  # where all is convex, the force alone is turned
    return _solve(energy, product, green, state.f_nd - 2.0 * along * mode.image_nd, flip, 1e-2)


class _Turned:
    """Python context of H + c M v v^T M, or of H."""

    def __init__(self, energy: Energy, product: Product, flip: tuple[FloatArray, float] | None) -> None:
        self.energy, self.product, self.flip = energy, product, flip

    def mult(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = (H + c w w^T) x."""
        x_nd = x.getArray(readonly=True).reshape(-1, self.energy.dimension)
        y_nd = self.product(x_nd)
        if self.flip is not None:
            w_nd, c = self.flip
            y_nd = y_nd + c * dot(w_nd, x_nd, self.energy.comm) * w_nd
        y.getArray()[:] = y_nd.reshape(-1)


def _solve(
    energy: Energy,
    product: Product,
    green: BulkGreen | None,
    rhs_nd: FloatArray,
    flip: tuple[FloatArray, float] | None,
    tolerance: float,
) -> FloatArray:
    """H s = rhs by MINRES, or, with a flipped mode, by CG, which stops at negative curvature."""
    collect_garbage(energy.comm)
    size = (energy.sites.n_owned * energy.dimension, energy.sites.n_sites * energy.dimension)
    matrix = PETSc.Mat().createPython((size, size), _Turned(energy, product, flip), comm=energy.comm)
    matrix.setUp()
    hessian.attach_translations(matrix, energy.dimension)
    solver = PETSc.KSP().create(comm=energy.comm)
    try:
        solver.setOperators(matrix)
        solver.setType(PETSc.KSP.Type.MINRES if flip is None else PETSc.KSP.Type.CG)
        solver.setTolerances(rtol=max(min(tolerance, 1e-2), 1e-10), atol=0.0, divtol=1e10, max_it=_INNER_LIMIT)
        pc = solver.getPC()
        if green is not None:
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(GreenPreconditioner(green))
        else:
            pc.setType(PETSc.PC.Type.NONE)
        rhs, solution = matrix.createVecs()
        rhs.getArray()[:] = without_translation(rhs_nd, energy.sites).reshape(-1)
        solver.solve(rhs, solution)
        s_nd: FloatArray = solution.getArray(readonly=True).reshape(-1, energy.dimension).copy()
        logger.debug("    %d inner iterations, reason %d", solver.getIterationNumber(), solver.getConvergedReason())
        rhs.destroy()
        solution.destroy()
    finally:
        solver.destroy()
        matrix.destroy()
    return s_nd
