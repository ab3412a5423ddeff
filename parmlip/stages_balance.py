"""[fit] balance in the stage train: weights moved until the errors on the validation set balance."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from mpi4py import MPI

from parmlip.config import Study
from parmlip.construct_controlled import domain_size
from parmlip.crystal.lattices import Lattice
from parmlip.fit import design
from parmlip.fit.balance import BAND, Balance, Step, balanced, relative_errors
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.prediction import compared
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.numerics.regression import Regression
from parmlip.potentials.ace import ACE, ACEBasis

logger = logging.getLogger(__name__)

Fields = dict[str, Field]


def balanced_solution(
    study: Study,
    results: Results,
    basis: ACEBasis,
    factors: design.Factors,
    training: Dataset,
    of: tuple[Lattice, float] | None,
    solve: Callable[[Mapping[str, float]], Regression],
    weights: Mapping[str, float],
    comm: MPI.Comm,
) -> tuple[Regression, Fields]:
    """The solution by [fit] weights, or by those that [fit] balance finds from them. Collective on ``comm``.

    The validation set is the test set; without one the training set, which a large basis follows too closely.
    """
    if not study.fit.balance:
        return solve(weights), {}
    validation = training
    if results.read("label", "n_test"):
        validation = Dataset.unpacked(results.read("label", "test"))
    else:
        logger.warning("weights are balanced on the training set, since there is no test set")
    log_size = 1.0
    if of is not None and "training" in study.tables:
        log_size = max(math.log(domain_size(study, of)), 1.0)

    def measure(solution: Regression) -> Balance:
        law = ACE(basis, solution.coefficients)
        predicted = labelled(law, validation.configurations, comm=comm, what="predictions")
        virial = None
        if weights.get("cauchy_born_2", 0.0) > 0.0:
            found = comm.bcast(design.matching(factors, solution.coefficients))
            virial = found["cauchy_born_2"]["relative"]
        return relative_errors(compared(validation, predicted), virial, log_size)

    def hear(step: Step) -> None:
        b, moved = step.balance, {n: w for n, w in step.weights.items() if n in ("energy", "cauchy_born_2")}
        logger.info(
            "    %s: relative errors %.2e (energy), %.2e (force)%s; eps^E / (eps^F)^2 = %.3g%s",
            ", ".join(f"{name} {weight:.3e}" for name, weight in moved.items()), b.energy, b.force,
            "" if b.virial_1 is None else f", {b.virial_1:.2e} (eps^V_1)", b.energy_ratio,
            "" if b.virial_ratio is None else f", log(L) (eps^V_1)^2 / (eps^F)^2 = {b.virial_ratio:.3g}",
        )  # fmt: skip

    logger.info("balancing the weights:")
    solution, steps, best = balanced(weights, solve, measure, hear)
    found = steps[best].balance
    reached = found.distance <= math.log(BAND)
    if not reached:
        logger.warning(
            "the weights could not be balanced to a factor of %g: the best of %d steps has eps^E / (eps^F)^2 = %.3g; "
            "what is left is the basis' own error of energies, or too few of them",
            BAND, len(steps), found.energy_ratio,
        )  # fmt: skip
    about = "relative to the labels' spread, on the validation set"
    return solution, {
        "balanced_weights": Field(steps[best].weights, about="that [fit] balance found"),
        "balance_reached": Field(reached),
        "balance_ratio": Field(found.energy_ratio, about="eps^E / (eps^F)^2, " + about),
        "balance_steps": Field(len(steps)),
        **({} if found.virial_ratio is None else {"balance_ratio_virial": Field(found.virial_ratio)}),
    }
