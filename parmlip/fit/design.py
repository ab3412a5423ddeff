"""Design rows over the ranks, one factor for each configuration type and observation, and fits from these factors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike

from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.fit.dataset import Dataset
from parmlip.fit.entropy_observations import SiteEntropy, SiteEntropyGradient
from parmlip.fit.hessian_observations import Hessian
from parmlip.fit.observations import OBSERVATIONS as OF_STATES
from parmlip.fit.observations import Evaluation, LinearBasis, Observation, RealArray
from parmlip.numerics.lstsq import RFactor, combine, memory_estimate, tsqr_reduce
from parmlip.numerics.regression import Constraints, Regression, regress, solver_memory
from parmlip.parallel.comm import in_step, on_root
from parmlip.parallel.logs import Progress

logger = logging.getLogger(__name__)

OBSERVATIONS: Final[Mapping[str, Observation]] = {
    **OF_STATES, "hessian": Hessian(), "site_entropy": SiteEntropy(), "site_entropy_gradient": SiteEntropyGradient(),
}  # fmt: skip
Factors = dict[tuple[str, str], RFactor]  # by configuration type and observation


def build_factors(
    basis: LinearBasis, dataset: Dataset, observations: Iterable[str] = ("energy", "force"), *, comm: MPI.Comm
) -> Factors:
    """Triangular factors of all design rows on rank 0; an empty dictionary elsewhere.

    Collective on ``comm``. Rank r makes the rows of the configurations r, r + size, ..., reduces them configuration by
    configuration, and a tree brings the factors to rank 0. Rows are scaled by the square root of the configuration's
    own weight; weights of observations and types come in `fit`.

    Parameters
    ----------
    basis : LinearBasis
    dataset : Dataset
    observations : names in `OBSERVATIONS`

    Raises
    ------
    ConfigError
        An observation is not known.
    DataError
        Nothing of what is asked for is labelled, or a row is not finite.
    """
    names = tuple(dict.fromkeys(observations))
    for name in names:
        if name not in OBSERVATIONS:
            raise ConfigError(f"unknown observation {name!r}; known are {', '.join(OBSERVATIONS)}")
    factors = {(c, name): RFactor(basis.n_basis) for c in dataset.types for name in names}
    estimate = memory_estimate(basis.n_basis, comm.size, n_full_factors=len(factors))
    logger.info("design: %d configurations, %d functions, at most %.0f MB on rank 0 for factors",
                len(dataset), basis.n_basis, estimate / 1e6)  # fmt: skip
    reference_rows: dict[bytes, RealArray] = {}
    share = range(comm.rank, len(dataset), comm.size)
    with in_step(comm, "making design rows"), Progress("design rows", len(share), comm=comm) as progress:
        for number in share:
            try:
                _add_rows(factors, basis, dataset, number, names, reference_rows)
            except (ConfigError, DataError, GeometryError) as error:
                kind = dataset.configurations[number].name
                raise type(error)(f"configuration {number} (type {kind!r}): {error}") from error
            progress.step()
    total: Factors = {}
    for key in list(factors):  # the same order on every rank
        reduced = tsqr_reduce(factors.pop(key), comm)
        if reduced is not None and reduced.n_rows:
            total[key] = reduced
    if comm.bcast(not total):
        raise DataError(f"no configuration has a label for {' or '.join(names)}")
    return total


def _add_rows(
    factors: Factors,
    basis: LinearBasis,
    dataset: Dataset,
    number: int,
    names: tuple[str, ...],
    reference_rows: dict[bytes, RealArray],
) -> None:
    """Add what configuration `number` observes to the factors of its type."""
    configuration, labels = dataset.configurations[number], dataset.labels[number]
    evaluation = Evaluation(basis, configuration, reference_rows, labels.probes)
    for name in names:
        values_o = OBSERVATIONS[name].values(configuration, labels)
        if values_o is not None:
            rows_ok = OBSERVATIONS[name].rows(evaluation)
            if name == "force" and labels.force_weight_a is not None:
                rows_ok, values_o = _weighted_forces(rows_ok, values_o, labels.force_weight_a)
            factors[configuration.name, name].add(rows_ok, values_o, labels.weights.get(name, 1.0))


def _weighted_forces(rows_ok: RealArray, values_o: RealArray, weight_a: RealArray) -> tuple[RealArray, RealArray]:
    """Rows and values scaled by the square root of their site's weight; those of weight 0 are left out."""
    scale_o = np.repeat(np.sqrt(weight_a), len(values_o) // len(weight_a))
    use_o = scale_o > 0.0
    return rows_ok[use_o] * scale_o[use_o, None], values_o[use_o] * scale_o[use_o]


def fit(
    factors: Factors,
    weights: Mapping[str, float],
    type_weights: Mapping[str, float | Mapping[str, float]] | None = None,
    *,
    solver: str = "rrqr",
    tolerance: float,
    column_scaling: bool = True,
    prior_k: ArrayLike | None = None,
    constraints: Constraints | None = None,
    covariance: bool = False,
    comm: MPI.Comm,
) -> Regression:
    """Coefficients that minimise sum over types and observations of weight * |rows c - values|^2; no data are touched.

    Collective on ``comm``: rank 0 has the factors and solves, every rank gets the result.

    Parameters
    ----------
    factors : dict
        As `build_factors` gave them (looked at on rank 0 only).
    weights : mapping
        By observation; they multiply *squared* residuals. An observation that is not named has weight 0.
    type_weights : mapping, optional
        By configuration type, multiplied onto it: a number, or numbers by observation; 1 for what is not named.
    solver, tolerance, column_scaling, prior_k, constraints, covariance
        As for `regress`.
    """
    by_type = type_weights or {}

    def solve() -> Regression:
        weighted = [(f, weights.get(o, 0.0) * type_weight(by_type, c, o)) for (c, o), f in factors.items()]
        total = combine(weighted)
        logger.info("%s: at most %.0f MB on rank 0", solver, solver_memory(total.n_columns, solver, covariance) / 1e6)
        return regress(
            total, solver, tolerance=tolerance, column_scaling=column_scaling, prior_k=prior_k,
            constraints=constraints, covariance=covariance,
        )  # fmt: skip

    return on_root(comm, "solving the least-squares problem", solve)


def type_weight(type_weights: Mapping[str, float | Mapping[str, float]], kind: str, observation: str) -> float:
    """The weight of an observation of one configuration type; 1 if it is not named."""
    weight = type_weights.get(kind, 1.0)
    return weight.get(observation, 1.0) if isinstance(weight, Mapping) else weight


def matching(factors: Factors, coefficients_k: ArrayLike) -> dict[str, dict[str, float | int]]:
    """By observation, over all configuration types, from the factors alone: errors of the rows as they were made.

    "rmse" is the root mean square of rows c - values, "relative" its ratio to that of the values (the relative RMSE of
    matching conditions; left out where the values are zero, such as the stress of the perfect crystal), "n_rows" how
    many rows there are.
    """
    sums: dict[str, list[float]] = {}
    zero_k = np.zeros(np.shape(coefficients_k))
    for (_, name), factor in factors.items():
        total = sums.setdefault(name, [0.0, 0.0, 0.0])
        for i, x in enumerate((factor.residual_norm(coefficients_k) ** 2, factor.residual_norm(zero_k) ** 2)):
            total[i] += x
        total[2] += factor.n_rows
    return {
        name: {
            "rmse": float(np.sqrt(wrong / n)),
            **({"relative": float(np.sqrt(wrong / size))} if size > 1e-8 * wrong else {}),
            "n_rows": int(n),
        }
        for name, (wrong, size, n) in sums.items()
    }


def packed(factors: Factors) -> dict[str, dict[str, dict[str, Any]]]:
    """Factors as nested dictionaries of arrays (type, observation), for a results file."""
    nested: dict[str, dict[str, dict[str, Any]]] = {}
    for (kind, name), factor in factors.items():
        nested.setdefault(kind, {})[name] = {"triangle": factor.triangle, "n_rows": factor.n_rows}
    return nested


def unpacked(nested: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Factors:
    """What `packed` gave."""
    return {
        (kind, name): RFactor.from_triangle(stored["triangle"], int(stored["n_rows"]))
        for kind, by_name in nested.items()
        for name, stored in by_name.items()
    }
