"""What a fit leaves open: draws of coefficients, standard deviations of energies and forces, their calibration."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from mpi4py import MPI

from parmlip.errors import DataError
from parmlip.fit.dataset import Dataset
from parmlip.fit.observations import Evaluation, LinearBasis, RealArray
from parmlip.fit.prediction import Prediction
from parmlip.parallel.comm import in_step

logger = logging.getLogger(__name__)


def draws(coefficients_k: RealArray, covariance_factor: RealArray, n_draws: int, seed: int) -> RealArray:
    """Coefficients drawn from N(coefficients, L L^T), shape (n_draws, n_basis); draw i is that of the stream (seed, i).

    Parameters
    ----------
    coefficients_k : ndarray, shape (n_basis,)
    covariance_factor : ndarray, shape (n_basis, m)
        L, as `Regression.covariance_factor`.
    n_draws : int
    seed : int
    """
    if covariance_factor.shape[0] != len(coefficients_k):
        raise DataError(f"a posterior of {covariance_factor.shape[0]} for {len(coefficients_k)} coefficients")
    m = covariance_factor.shape[1]
    standard = np.array([np.random.default_rng([seed, i]).standard_normal(m) for i in range(n_draws)]).reshape(-1, m)
    return np.asarray(coefficients_k + standard @ covariance_factor.T)


def deviations(evaluation: Evaluation, covariance_factor: RealArray) -> tuple[float, RealArray]:
    """Standard deviation of the energy, eV, and of every force component (n_sites, 3), eV / angstrom.

    Of what the coefficients leave open, |row L|, without the noise of the observations; the energy against the
    configuration's reference state if it has one. For n draws L is their deviations from the fit over sqrt(n), as
    columns.
    """
    energy_k, force_nck, _ = evaluation.design
    energy = float(np.linalg.norm((energy_k - evaluation.reference_energy_k) @ covariance_factor))
    n = len(force_nck)
    rows = force_nck.reshape(3 * n, -1)
    return energy, np.asarray(np.linalg.norm(rows @ covariance_factor, axis=1).reshape(n, 3))


@dataclass(frozen=True, eq=False)
class Spread:
    """Standard deviations in the order of a `Prediction`, uncalibrated, with the known noise of the labels."""

    energy_o: RealArray  # (n_energies,) eV
    force_o: RealArray  # (n_forces,) eV / angstrom
    energy_noise_o: RealArray  # (n_energies,) eV; 0 where the labels are taken as exact
    force_noise_o: RealArray
    energy_configuration_o: RealArray  # (n_energies,) number of the configuration
    force_configuration_o: RealArray


def spread(basis: LinearBasis, dataset: Dataset, factor_km: RealArray, *, comm: MPI.Comm) -> Spread:
    """Standard deviations |row L| of what a data set labels, L = `factor_km`.

    Collective on ``comm``. Rank r makes the rows of the configurations r, r + size, ...; the same on every rank, and on
    any number of them.
    """
    mine = {}
    references: dict[bytes, RealArray] = {}
    with in_step(comm, "spread of the predictions"):
        for number in range(comm.rank, len(dataset), comm.size):
            evaluation = Evaluation(basis, dataset.configurations[number], references)
            mine[number] = deviations(evaluation, factor_km)
    found = {number: value for part in comm.allgather(mine) for number, value in part.items()}
    energy, force, energy_noise, force_noise, energy_of, force_of = [], [], [], [], [], []
    for number, (c, labels) in enumerate(zip(dataset.configurations, dataset.labels, strict=True)):
        if labels.energy is not None:
            energy.append(found[number][0])
            energy_noise.append(labels.sigmas.get("energy", 0.0))
            energy_of.append(number)
        if labels.forces_ac is not None:
            components = found[number][1][labels.observed_a, : c.dimension].reshape(-1)
            force.append(components)
            force_noise.append(np.full(len(components), labels.sigmas.get("force", 0.0)))
            force_of.append(np.full(len(components), number))
    return Spread(
        np.array(energy), _joined(force), np.array(energy_noise), _joined(force_noise),
        np.array(energy_of), _joined(force_of),
    )  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """What a spread is multiplied by, and how often the errors of a test set then lie within it.

    Coverage is that of configurations which were not calibrated on: the even ones by the scale of the odd ones, and the
    other way round. NaN where there is nothing to look at.
    """

    energy_scale: float
    force_scale: float
    energy_coverage_1sigma: float
    energy_coverage_2sigma: float
    force_coverage_1sigma: float
    force_coverage_2sigma: float


def calibrated(prediction: Prediction, found: Spread) -> Calibration:
    """The scales that make the errors of a test set as large as their bars, and the coverage.

    Scale s of energies and of forces: the maximum of the likelihood of errors ~ N(0, s^2 spread^2 + noise^2). Known
    noise hides errors that are smaller: where labels have it, s of forces is at least 1 (the posterior knows the noise
    too), and s of the few energies at least that of the many forces, since both come from the same coefficients.
    """
    forces = (
        prediction.force_o - prediction.force_reference_o, found.force_o, found.force_noise_o,
        found.force_configuration_o % 2 == 0,
    )  # fmt: skip
    energies = (
        prediction.energy_o - prediction.energy_reference_o, found.energy_o, found.energy_noise_o,
        found.energy_configuration_o % 2 == 0,
    )  # fmt: skip
    force_scale = scale_of(*forces[:3], 1.0)
    energy_scale = scale_of(*energies[:3], max(force_scale, 1.0))
    even, odd = ([_part(of, use) for of in (forces, energies)] for use in (True, False))
    within = np.zeros((2, 2))
    for known, judged in ((odd, even), (even, odd)):
        s_force = scale_of(*known[0], 1.0)
        s_energy = scale_of(*known[1], max(s_force, 1.0))
        within += [_within(s, *of) for s, of in zip((s_force, s_energy), judged, strict=True)]
    coverage = [
        within[i] / len(of[0]) if all(len(half[i][0]) for half in (even, odd)) else np.full(2, np.nan)
        for i, of in enumerate((forces, energies))
    ]
    return Calibration(energy_scale, force_scale, *map(float, coverage[1]), *map(float, coverage[0]))


def scale_of(error_o: RealArray, spread_o: RealArray, noise_o: RealArray, floor: float = 0.0) -> float:
    """The most likely s for errors ~ N(0, s^2 spread^2 + noise^2), at least `floor` if there is noise.

    1 where nothing tells it.
    """
    use = spread_o > 0.0  # by symmetry some components vanish for every member
    error2, spread2, noise2 = error_o[use] ** 2, spread_o[use] ** 2, noise_o[use] ** 2
    if not len(error2) or not error2.any():
        return 1.0
    if not noise2.any():
        return float(np.sqrt(np.mean(error2 / spread2)))

    def cost(log_s: float) -> float:
        variance = np.exp(2.0 * log_s) * spread2 + noise2
        return float(np.sum(np.log(variance) + error2 / variance))

    grid = np.linspace(np.log(1e-2), np.log(1e4), 281)
    best = int(np.argmin([cost(x) for x in grid]))
    around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    return max(float(np.exp(scipy.optimize.minimize_scalar(cost, bounds=around, method="bounded").x)), floor)


def _part(of: tuple[RealArray, RealArray, RealArray, RealArray], even: bool) -> tuple[RealArray, RealArray, RealArray]:
    """Errors, spread and noise of the even or of the odd configurations."""
    use_o = of[3] == even
    return of[0][use_o], of[1][use_o], of[2][use_o]


def _within(s: float, error_o: RealArray, spread_o: RealArray, noise_o: RealArray) -> list[int]:
    """Numbers of errors within one and within two standard deviations."""
    size = np.abs(error_o)
    bar = np.sqrt((s * spread_o) ** 2 + noise_o**2) + 1e-12 * np.max(size, initial=0.0)
    return [int(np.count_nonzero(size <= k * bar)) for k in (1.0, 2.0)]


def _joined(parts: list[RealArray]) -> RealArray:
    return np.concatenate(parts) if parts else np.zeros(0)
