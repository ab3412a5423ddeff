"""Linear regression on the small triangular factor: rank-revealing QR, truncated SVD, ridge, Bayesian ridge, ARD.

All of them see the rows only through `RFactor.triangle` = [R, v]: |rows c - values| = |R c - v| for every c. Equality
constraints are eliminated first (`Constraints.project`), so every solver meets them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import ArrayLike, NDArray

from parmlip.errors import ConvergenceError, DataError
from parmlip.numerics.lstsq import FloatArray, RFactor, solve_rrqr, unit_scale

logger = logging.getLogger(__name__)

SOLVERS: Final = ("rrqr", "svd", "ridge", "blr", "ard")
# Constraints whose part independent of the others is smaller than this, relative to `scale_e`, are the same constraint.
_DEPENDENT: Final = 1e-9
_ARD_ITERATIONS: Final = 1000
_TINY: Final = float(np.finfo(float).tiny)
_EPS: Final = float(np.finfo(float).eps)
# Columns that the evidence does not want are pruned the worst first, this part of them at a time: of two nearly equal
# columns one must stay.
_ARD_PRUNED: Final = 0.25


@dataclass(frozen=True, eq=False)
class Constraints:
    """Linear equations rows c = values that a fit meets exactly."""

    rows_ek: FloatArray  # (n_equations, n_columns)
    values_e: FloatArray
    scale_e: FloatArray  # (n_equations,) norm of rows beside which a row is negligible (zero but for rounding)

    @classmethod
    def of(cls, rows_ek: ArrayLike, values_e: ArrayLike) -> Constraints:
        """Equations whose rows are all meant as they stand."""
        rows, values = np.atleast_2d(np.asarray(rows_ek, dtype=float)), np.atleast_1d(np.asarray(values_e, dtype=float))
        if rows.shape[:1] != values.shape:
            raise DataError(f"constraints of shape {rows.shape} with values of shape {values.shape}")
        return cls(rows, values, np.maximum(np.linalg.norm(rows, axis=1), _TINY))

    def error(self, coefficients_k: ArrayLike) -> float:
        """Largest |rows c - values|, relative to the largest |value| (absolute if all are zero)."""
        largest = float(np.max(np.abs(self.values_e), initial=0.0))
        error_e = np.abs(self.rows_ek @ np.asarray(coefficients_k, dtype=float) - self.values_e)
        return float(np.max(error_e, initial=0.0)) / (largest or 1.0)


@dataclass(frozen=True, eq=False)
class Regression:
    """Coefficients with what is needed to judge them."""

    coefficients: FloatArray  # (n_columns,)
    solver: str
    rank: int  # columns or singular values kept, equations of constraints included
    degrees_of_freedom: float  # trace of the map from values to fitted values; at most rank
    residual_norm: float  # |rows c - values|, of the weighted rows
    value_norm: float
    column_norms: FloatArray  # (n_columns,) Euclidean norms of the weighted columns
    n_rows: int
    hyperparameters: dict[str, float] = field(default_factory=dict)
    iterations: int = 0
    converged: bool = True
    # (n_columns, m), L of the covariance L L^T of the coefficients; None if it was not asked for
    covariance_factor: FloatArray | None = None

    @property
    def open_told(self) -> str:
        """What a rank below the number of columns means, in brackets; empty where there is nothing to tell."""
        left = len(self.coefficients) - self.rank
        if left <= 0 or self.solver == "ard":  # its rank is that of the columns it kept
            return ""
        return f" ({left} combinations of them are not determined by these rows; the solver keeps them small)"


@dataclass(frozen=True, eq=False)
class _Reduced:
    """The problem |matrix y - values| of what constraints leave free; c = (fixed + free y) / scale."""

    matrix: FloatArray
    values: FloatArray
    scale_k: FloatArray
    fixed_k: FloatArray
    free_ky: FloatArray | None  # orthonormal columns; None: no constraints, the identity
    n_fixed: int
    # what brings a point that meets the constraints but for rounding nearer to them
    refined: Callable[[FloatArray], FloatArray] = lambda x: x

    def lift(self, y: FloatArray) -> FloatArray:
        """Coefficients of free parameters (n,) or deviations (n, m) of the coefficients for deviations of y."""
        free = y if self.free_ky is None else self.free_ky @ y
        return self.refined(self.fixed_k + free) / self.scale_k if y.ndim == 1 else free / self.scale_k[:, None]


def regress(
    factor: RFactor,
    solver: str = "rrqr",
    *,
    tolerance: float = 1e-6,
    column_scaling: bool = True,
    prior_k: ArrayLike | None = None,
    constraints: Constraints | None = None,
    covariance: bool = False,
) -> Regression:
    """Coefficients by one of `SOLVERS`, from the factor alone.

    With G = diag(prior_k) and s the singular values of R G^-1:

    - "rrqr", "svd": least squares on the directions above `tolerance` times the largest; columns scaled to unit norm.
    - "ridge": minimises |R c - v|^2 + (tolerance s_0)^2 |G c|^2.
    - "blr": c ~ N(0, (alpha G^2)^-1), noise 1 / beta of the weighted rows; alpha and beta maximise the evidence.
    - "ard": one prior precision for each column; columns that the evidence does not support are pruned to zero.

    Parameters
    ----------
    factor : RFactor
    solver : str
    tolerance : float
        In [0, 1).
    column_scaling : bool
        Scale columns to unit norm; without `prior_k` also the prior of "ridge" and "blr" is in these units.
    prior_k : array, shape (n_columns,), optional
        Positive scales of the prior of "ridge" and "blr", such as the roughness of each basis function.
    constraints : Constraints, optional
        Met exactly; the prior then is that of coefficients which meet them.
    covariance : bool
        Keep the covariance factor ("blr" and "ard" have it anyway). Of "ridge" it is the posterior's for its own prior,
        of "rrqr" and "svd" that of least squares on the directions kept, for the noise that the residual tells:
        |R c - v|^2 / (rows - degrees of freedom). What truncation leaves out is not in it.

    Raises
    ------
    DataError
        There are no rows, the constraints contradict each other, a prior is not positive.
    ConvergenceError
        The hyperparameters did not converge; `result` has the last state.

    References
    ----------
    MacKay, Neural Computation 4, 415 (1992); Tipping, J. Mach. Learn. Res. 1, 211 (2001).
    """
    n = factor.n_columns
    if solver not in SOLVERS:
        raise DataError(f"unknown solver {solver!r}; known are {', '.join(SOLVERS)}")
    if not 0.0 <= tolerance < 1.0:
        raise DataError(f"the tolerance of the least squares must be in [0, 1), not {tolerance}")
    augmented = factor.triangle
    if len(augmented) == 0:
        raise DataError("nothing to fit: the least-squares problem has no rows")
    column_norms = np.linalg.norm(augmented[:, :n], axis=0)
    if not column_norms.any():
        raise DataError("nothing to fit: all rows of the least-squares problem are zero")
    unit = unit_scale(column_norms) if column_scaling else np.ones(n)
    if constraints is not None and not len(constraints.values_e):
        constraints = None
    if solver == "rrqr" and constraints is None:
        found = solve_rrqr(factor, tolerance, column_scaling, covariance)
        judged = _judged(factor, found.coefficients, solver, found.rank, float(found.rank), {}, None)
        return _with_noise(judged, found.inverse_factor)
    if solver == "ard":
        return _ard(factor, augmented, unit, constraints)
    scale = unit
    if prior_k is not None and solver in ("ridge", "blr"):
        scale = np.asarray(prior_k, dtype=float)
        if scale.shape != (n,) or not (np.isfinite(scale).all() and (scale > 0.0).all()):
            raise DataError(f"the scales of the prior must be {n} finite positive numbers")
    reduced = _project(augmented[:, :n], augmented[:, n], scale, constraints)
    if solver == "rrqr":
        return _rrqr(factor, reduced, tolerance, covariance)
    whole = augmented[:, :n] / scale if solver == "ridge" and constraints is not None else None
    return _spectral(factor, reduced, solver, tolerance, whole, covariance)


def solver_memory(n_columns: int, solver: str, covariance: bool = False) -> int:
    """Bytes that `regress` needs at most, beside the factor."""
    squares = {"rrqr": 6, "svd": 7, "ridge": 7, "blr": 8, "ard": 9}  # with constraints, their null space included
    kept = 2 if covariance and solver not in ("blr", "ard") else 0
    return (squares[solver] + kept) * 8 * (n_columns + 1) ** 2


def _project(r: FloatArray, values: FloatArray, scale_k: FloatArray, constraints: Constraints | None) -> _Reduced:
    """The problem in x = scale c, with x = x0 + Z y where x0 is the shortest that meets the constraints."""
    matrix = r / scale_k
    n = len(scale_k)
    if constraints is None:
        return _Reduced(matrix, values, scale_k, np.zeros(n), None, 0)
    if constraints.rows_ek.shape[1] != n:
        raise DataError(f"constraints for {constraints.rows_ek.shape[1]} coefficients, but there are {n}")
    # Each equation is divided by its scale, measured like its row in the scaled coefficients.
    rows = constraints.rows_ek / scale_k
    norms = np.linalg.norm(constraints.rows_ek, axis=1)
    ratio = np.divide(np.linalg.norm(rows, axis=1), norms, out=np.zeros_like(norms), where=norms > 0.0)
    size = constraints.scale_e * np.where(ratio > 0.0, ratio, 1.0)
    q, t, pivots = scipy.linalg.qr((rows / size[:, None]).T, pivoting=True)
    diagonal = np.abs(np.diagonal(t))
    m = int(np.count_nonzero(diagonal > _DEPENDENT))
    targets = constraints.values_e / size

    def refined(x: FloatArray) -> FloatArray:
        left = targets - rows @ x / size
        return x + np.asarray(q[:, :m] @ scipy.linalg.solve_triangular(t[:m, :m], left[pivots][:m], trans="T"))

    fixed = refined(refined(np.zeros(n)))
    contradiction = float(np.max(np.abs(targets - rows @ fixed / size), initial=0.0))
    # targets that are all zero (a crystal's stress) have only rounding, to be seen beside x: it is at least so long
    least = float(np.linalg.norm(values) / max(float(np.linalg.norm(matrix)), _TINY))
    if contradiction > 1e-6 * max(float(np.max(np.abs(targets), initial=0.0)), least, _TINY):
        raise DataError(f"the {len(targets)} constraints contradict each other, by {contradiction:.1e} of their scale")
    free = np.ascontiguousarray(q[:, m:])
    if free.shape[1] == 0:
        raise DataError(f"{m} independent constraints leave nothing of {n} coefficients to be fitted")
    return _Reduced(matrix @ free, values - matrix @ fixed, scale_k, fixed, free, m, refined)


def _judged(
    factor: RFactor,
    coefficients: FloatArray,
    solver: str,
    rank: int,
    freedom: float,
    hyperparameters: dict[str, float],
    covariance_factor: FloatArray | None,
) -> Regression:
    augmented, n = factor.triangle, factor.n_columns
    told = ", ".join(f"{name} {value:.3e}" for name, value in hyperparameters.items())
    logger.info("%s: %d rows, %d columns, rank %d, %.1f degrees of freedom%s",
                solver, factor.n_rows, n, rank, freedom, ", " + told if told else "")  # fmt: skip
    return Regression(
        coefficients=coefficients,
        solver=solver,
        rank=rank,
        degrees_of_freedom=freedom,
        residual_norm=float(np.linalg.norm(augmented[:, :n] @ coefficients - augmented[:, n])),
        value_norm=float(np.linalg.norm(augmented[:, n])),
        column_norms=np.linalg.norm(augmented[:, :n], axis=0),
        n_rows=factor.n_rows,
        hyperparameters=hyperparameters,
        covariance_factor=covariance_factor,
    )


def _with_noise(found: Regression, inverse_factor: FloatArray | None) -> Regression:
    """The covariance of a solver without evidence: the inverse of its normal matrix times the noise of the residual."""
    if inverse_factor is None:
        return found
    noise = found.residual_norm / float(np.sqrt(max(found.n_rows - found.degrees_of_freedom, 1.0)))
    told = {**found.hyperparameters, "noise": noise}
    return replace(found, hyperparameters=told, covariance_factor=noise * inverse_factor)


def _rrqr(factor: RFactor, reduced: _Reduced, tolerance: float, covariance: bool) -> Regression:
    left = RFactor(reduced.matrix.shape[1])
    left.add(reduced.matrix, reduced.values)
    left.n_rows = factor.n_rows
    found = solve_rrqr(left, tolerance, column_scaling=False, inverse=covariance)
    rank = found.rank + reduced.n_fixed
    judged = _judged(factor, reduced.lift(found.coefficients), "rrqr", rank, float(found.rank), {}, None)
    return judged if found.inverse_factor is None else _with_noise(judged, reduced.lift(found.inverse_factor))


def _spectral(
    factor: RFactor,
    reduced: _Reduced,
    solver: str,
    tolerance: float,
    whole: FloatArray | None = None,
    with_covariance: bool = False,
) -> Regression:
    """Truncated SVD, ridge and Bayesian ridge: filters on one singular value decomposition.

    The strength of ridge is measured by `whole`, the problem before constraints, if that is given.
    """
    wide = reduced.matrix.shape[0] < reduced.matrix.shape[1]
    u, s, vt = scipy.linalg.svd(reduced.matrix, full_matrices=wide)
    u = u[:, : len(s)]
    if s[0] == 0.0:
        raise DataError("nothing to fit: the constraints leave no row that is not zero")
    b = u.T @ reduced.values
    rest2 = float(np.sum((reduced.values - u @ b) ** 2))  # the part that no coefficients reach
    floor = len(vt) * _EPS
    if solver == "svd":
        keep = s > max(tolerance, floor) * s[0]
        y = vt[: len(s)][keep].T @ (b[keep] / s[keep])
        rank = int(np.count_nonzero(keep))
        judged = _judged(factor, reduced.lift(y), solver, rank + reduced.n_fixed, float(rank), {}, None)
        kept = reduced.lift(_root(vt[: len(s)][keep], 1.0 / s[keep])) if with_covariance else None
        return _with_noise(judged, kept)
    known = s > floor * s[0]
    s_all = np.concatenate([s, np.zeros(len(vt) - len(s))])
    if solver == "ridge":
        largest = s[0] if whole is None else float(scipy.linalg.svdvals(whole)[0])
        gamma = (max(tolerance, floor) * largest) ** 2
        given, covariance = {"regularisation": gamma}, None
    else:
        gamma, beta, log_evidence = maximise_evidence(s, b, rest2, factor.n_rows)
        given = {"prior_precision": gamma * beta, "noise": beta**-0.5, "log_evidence": log_evidence}
        covariance = reduced.lift(_root(vt, 1.0 / np.sqrt(beta * (s_all**2 + gamma))))
    shrunk = s**2 / (s**2 + gamma)
    y = vt[: len(s)].T @ (s * b / (s**2 + gamma))
    rank = int(np.count_nonzero(known)) + reduced.n_fixed
    judged = _judged(factor, reduced.lift(y), solver, rank, float(shrunk.sum()), given, covariance)
    if solver == "ridge" and with_covariance:
        judged = _with_noise(judged, reduced.lift(_root(vt, 1.0 / np.sqrt(s_all**2 + gamma))))
    return judged


def _root(vt: FloatArray, size: FloatArray) -> FloatArray:
    """V diag(size) V^T: of all factors of V diag(size)^2 V^T the one that does not hang on the signs of V.

    With singular vectors of another sign, which rounding decides, draws from the posterior would be others.
    """
    return np.asarray((vt.T * size) @ vt)


def maximise_evidence(
    s: FloatArray, b: FloatArray, rest2: float, n_rows: int, width: tuple[float, float] = (1e-15, 1e3)
) -> tuple[float, float, float]:
    """gamma = alpha / beta, beta and the logarithm of the evidence at its maximum.

    For values = A c + noise, c ~ N(0, 1 / alpha), noise ~ N(0, 1 / beta), A = U S V^T, b = U^T values:

        2 log p = -N log(2 pi) + N log beta + sum_j log(gamma / (gamma + s_j^2)) - beta Q,
        Q = rest2 + sum_j b_j^2 gamma / (gamma + s_j^2).

    beta = N / Q is its maximum at given gamma, so that one dimension is left; there all local maxima are looked at.

    Parameters
    ----------
    s, b : ndarray, shape (n,)
    rest2 : float
        Square of the part of the values outside the range of A.
    n_rows : int
        N.
    width : (float, float)
        sqrt(gamma) is sought between these multiples of the largest s; at the lower end the values are exact, at the
        upper end nothing in them is explained.
    """

    def parts(log_gamma: float) -> tuple[float, float]:
        kept = 1.0 / (1.0 + s**2 * np.exp(-log_gamma))
        q = rest2 + float(np.sum(b**2 * kept))
        return q, float(np.sum(np.log(kept)))

    def cost(log_gamma: float) -> float:
        q, log_volume = parts(log_gamma)
        return n_rows * float(np.log(max(q, _TINY))) - log_volume

    grid = 2.0 * np.linspace(np.log(width[0] * s[0]), np.log(width[1] * s[0]), 401)
    costs = np.array([cost(x) for x in grid])
    best_x, best = float(grid[np.argmin(costs)]), float(costs.min())
    for i in range(1, len(grid) - 1):
        if costs[i] <= costs[i - 1] and costs[i] <= costs[i + 1]:
            found = scipy.optimize.minimize_scalar(
                cost, bounds=(grid[i - 1], grid[i + 1]), method="bounded", options={"xatol": 1e-9}
            )
            if not found.success:
                raise ConvergenceError(f"the evidence has no maximum near gamma = {np.exp(grid[i]):.3e}", found)
            if found.fun <= best:
                best_x, best = float(found.x), float(found.fun)
    q, log_volume = parts(best_x)
    q = max(q, _TINY)
    beta = n_rows / q
    log_evidence = 0.5 * (n_rows * np.log(beta / (2.0 * np.pi)) + log_volume - n_rows)
    return float(np.exp(best_x)), float(beta), float(log_evidence)


def _ard(factor: RFactor, augmented: FloatArray, unit_k: FloatArray, constraints: Constraints | None) -> Regression:
    """Automatic relevance determination by MacKay's fixed point, from the evidence's common precision."""
    n = factor.n_columns
    r, values = augmented[:, :n], augmented[:, n]
    start = _spectral(factor, _project(r, values, unit_k, constraints), "blr", 0.0)
    alpha = np.full(n, start.hyperparameters["prior_precision"])  # of the coefficients in units of 1 / unit_k
    beta = start.hyperparameters["noise"] ** -2
    active = np.flatnonzero(np.linalg.norm(r, axis=0) > 0.0)
    coefficients = np.zeros(n)
    change, iteration, converged = np.inf, 0, False
    while not converged and iteration < _ARD_ITERATIONS:
        iteration += 1
        step = _posterior(r, values, unit_k, alpha, beta, active, constraints)
        before, coefficients = coefficients, step[0]
        x = coefficients[active] * unit_k[active]
        variance = np.sum(step[1] ** 2, axis=1) * unit_k[active] ** 2
        determined = np.clip(1.0 - alpha[active] * variance, 0.0, 1.0)
        residual = r @ coefficients - values
        noise2 = float(residual @ residual) / max(factor.n_rows - float(determined.sum()), 1.0)
        beta = 1.0 / max(noise2, (_EPS * float(np.linalg.norm(values))) ** 2 / factor.n_rows)
        # Without column k the evidence has s = determined / variance and q = x / variance (Tipping and Faul, Proc. 9th
        # Workshop on Artificial Intelligence and Statistics, 2003): its maximum is at s^2 / (q^2 - s), or infinite.
        excess = x**2 - determined * variance
        wanted = excess > 0.0
        was = alpha[active]
        alpha[active[wanted]] = np.maximum(determined[wanted], 1e-12) ** 2 / excess[wanted]
        moved = float(np.max(np.abs(np.log(alpha[active[wanted]] / was[wanted])), initial=0.0))
        change = float(np.linalg.norm(r @ (coefficients - before))) / (float(np.linalg.norm(residual)) or 1.0)
        converged = bool(wanted.all()) and change < 1e-5 and moved < 1e-3
        n_pruned = int(np.ceil(_ARD_PRUNED * np.count_nonzero(~wanted)))
        worst = np.argsort(excess / np.maximum(variance, _TINY))[:n_pruned]
        active = np.delete(active, worst)
        if len(active) == 0:
            raise DataError("automatic relevance determination pruned all columns: the values are noise")
    coefficients, covariance = _posterior(r, values, unit_k, alpha, beta, active, constraints)
    spread = np.zeros((n, covariance.shape[1]))
    spread[active] = covariance
    freedom = float(np.clip(1.0 - alpha[active] * np.sum((covariance * unit_k[active, None]) ** 2, axis=1), 0, 1).sum())
    found = _judged(factor, coefficients, "ard", len(active), freedom, {"noise": beta**-0.5}, spread)
    found = replace(found, iterations=iteration, converged=converged)
    if not converged:
        raise ConvergenceError(
            f"automatic relevance determination: the fit still changes by {change:.1e} of the residual (tolerance "
            f"1e-5) after {iteration} iterations, {len(active)} of {n} columns left", found
        )  # fmt: skip
    return found


def _posterior(
    r: FloatArray,
    values: FloatArray,
    unit_k: FloatArray,
    alpha_k: FloatArray,
    beta: float,
    active: NDArray[np.int64],
    constraints: Constraints | None,
) -> tuple[FloatArray, FloatArray]:
    """Mean (n_columns,) and covariance factor of the active coefficients, by a QR of [sqrt(beta) R; prior]."""
    held = None
    if constraints is not None:
        held = Constraints(constraints.rows_ek[:, active], constraints.values_e, constraints.scale_e)
    reduced = _project(r[:, active], values, unit_k[active] * np.sqrt(alpha_k[active]), held)
    m = reduced.matrix.shape[1]
    stacked = np.vstack([np.sqrt(beta) * reduced.matrix, np.eye(m)])
    q, t = scipy.linalg.qr(stacked, mode="economic")
    y = scipy.linalg.solve_triangular(t, q.T @ np.concatenate([np.sqrt(beta) * reduced.values, np.zeros(m)]))
    mean = np.zeros(len(unit_k))
    mean[active] = reduced.lift(np.asarray(y))
    sign = np.where(np.diagonal(t) < 0.0, -1.0, 1.0)  # unique, whatever the reflections chose
    return mean, reduced.lift(np.asarray(scipy.linalg.solve_triangular(t, np.diag(sign))))
