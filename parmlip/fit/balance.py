"""Weights that balance the errors as the theory wants them: eps^E ~ (eps^F)^2 ~ log(L) (eps^V_1)^2.

Ortner and Wang (2022), table 1; Wang, Patel and Ortner (2023), table 1. The relation has constants with units, which
are taken from the labels: every error is relative to the size of what it is an error of, so that for a harmonic crystal
with a surrogate that is off by a factor 1 + e the forces err by e and the energies by no more than e^2 is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from parmlip.errors import DataError
from parmlip.fit.prediction import Prediction

Solution = TypeVar("Solution")

BAND: Final = 1.5  # the ratios are in balance between 1 / BAND and BAND
_STEPS: Final = 20
_LONGEST: Final = 10.0  # steps, in the logarithm, tried for a weight that has no effect
_PROGRESS: Final = 0.1  # of the logarithm of a ratio that a step must bring to count
_CAP: Final = 1e4  # largest factor of a weight in one step


@dataclass(frozen=True)
class Balance:
    """Relative errors on the validation set."""

    energy: float  # RMSE of cell energies over their spread within a configuration type
    force: float  # RMSE of forces over their root mean square
    virial_1: float | None = None  # of the second derivatives of the energy density; None where they are not observed
    log_size: float = 1.0  # log(L)

    @property
    def energy_ratio(self) -> float:
        """eps^E over (eps^F)^2: 1 in balance."""
        return self.energy / self.force**2

    @property
    def virial_ratio(self) -> float | None:
        """log(L) (eps^V_1)^2 over (eps^F)^2."""
        return None if self.virial_1 is None else self.log_size * self.virial_1**2 / self.force**2

    @property
    def distance(self) -> float:
        """Largest |log| of the ratios."""
        ratios = [self.energy_ratio] + ([] if self.virial_ratio is None else [self.virial_ratio])
        return max(abs(math.log(max(r, 1e-300))) for r in ratios)

    def of(self, weight: str) -> tuple[float, float]:
        """Error and logarithm of the ratio that a weight is there for."""
        if weight == "energy":
            return self.energy, math.log(max(self.energy_ratio, 1e-300))
        return self.virial_1 or 0.0, math.log(max(self.virial_ratio or 1.0, 1e-300))


@dataclass(frozen=True)
class Step:
    """Weights that were tried and what they gave."""

    weights: dict[str, float]
    balance: Balance


def relative_errors(predicted: Prediction, virial_1: float | None = None, log_size: float = 1.0) -> Balance:
    """The balance of a prediction of the validation set.

    Raises
    ------
    DataError
        There are no energies or forces, or they do not differ.
    """
    kinds = np.array(predicted.kind_o)
    spread = [
        predicted.energy_reference_o[kinds == kind] - predicted.energy_reference_o[kinds == kind].mean()
        for kind in dict.fromkeys(predicted.kind_o)
    ]
    size_e = float(np.sqrt(np.mean(np.concatenate(spread) ** 2))) if spread else 0.0
    size_f = float(np.sqrt(np.mean(predicted.force_reference_o**2))) if len(predicted.force_reference_o) else 0.0
    if not (size_e > 0.0 and size_f > 0.0):
        raise DataError("balanced weights: the validation set needs different energies and forces")
    errors = predicted.errors
    return Balance(errors.rmse_energy / size_e, errors.rmse_force / size_f, virial_1, log_size)


def balanced(
    weights: Mapping[str, float],
    solve: Callable[[Mapping[str, float]], Solution],
    measure: Callable[[Solution], Balance],
    hear: Callable[[Step], None] = lambda step: None,
) -> tuple[Solution, list[Step], int]:
    """Solutions by weights that come nearer to the balance; the last number is the best step's.

    The weights of "energy" and of "cauchy_born_2" move against that of the forces, which stays: the one that is farther
    from the balance first, in logarithms by the ratio that is wanted, by less where that overshot, by more where
    nothing came of it. A weight whose rise does not lower its error goes back and is left: the energies of a basis have
    an error of their own, of the order of its force error and not of that one's square, which no weight lowers.
    """
    steps: list[Step] = []

    def attempt(trial: Mapping[str, float]) -> tuple[Solution, Step]:
        solution = solve(trial)
        steps.append(Step(dict(trial), measure(solution)))
        hear(steps[-1])
        return solution, steps[-1]

    solution, now = attempt(weights)
    best = 0
    moving = {name: 1.0 for name in ("energy", "cauchy_born_2") if weights.get(name, 0.0) > 0.0}  # part of a step
    while moving and len(steps) < _STEPS:
        name = max(moving, key=lambda name: abs(now.balance.of(name)[1]))
        error, log_ratio = now.balance.of(name)
        if abs(log_ratio) <= math.log(BAND):
            break
        change = min(max(moving[name] * log_ratio, -math.log(_CAP)), math.log(_CAP))
        found, step = attempt({**now.weights, name: now.weights[name] * math.exp(change)})
        new_error, new_ratio = step.balance.of(name)
        over = new_ratio * log_ratio < 0.0
        falls = new_error < (1.0 - 0.1 * _PROGRESS) * error or log_ratio < 0.0
        if falls and abs(new_ratio) < abs(log_ratio) - _PROGRESS:
            solution, now, best = found, step, len(steps) - 1
        if over:
            moving[name] *= 0.5
        elif step is not now:  # a weight that is negligible needs a longer step than its ratio says
            moving[name] *= 3.0
            if moving[name] > _LONGEST:
                del moving[name]
    return solution, steps, best
