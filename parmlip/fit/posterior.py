"""What the posterior of the coefficients says about predictions: draws, standard deviations of energies and forces."""

from __future__ import annotations

import numpy as np

from parmlip.errors import DataError
from parmlip.fit.observations import Evaluation, RealArray


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
    configuration's reference state if it has one.
    """
    energy_k, force_nck, _ = evaluation.design
    energy = float(np.linalg.norm((energy_k - evaluation.reference_energy_k) @ covariance_factor))
    n = len(force_nck)
    rows = force_nck.reshape(3 * n, -1)
    return energy, np.asarray(np.linalg.norm(rows @ covariance_factor, axis=1).reshape(n, 3))
