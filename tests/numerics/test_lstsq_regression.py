"""Solvers on the factor: limits, closed forms, evidence, relevance, constraints, scales."""

import numpy as np
import pytest
import scipy.stats

from parmlip.errors import DataError
from parmlip.numerics.lstsq import RFactor
from parmlip.numerics.regression import SOLVERS, Constraints, regress


def factor_of(rows, values) -> RFactor:
    factor = RFactor(rows.shape[1])
    factor.add(rows, values)
    return factor


def noisy(n_rows=120, n_columns=8, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_rows, n_columns))
    true = rng.standard_normal(n_columns)
    return rows, rows @ true + noise * rng.standard_normal(n_rows), true


@pytest.mark.parametrize("solver", ["rrqr", "svd", "ridge"])
def test_columns_of_nothing_but_rounding_get_no_coefficients(solver):
    rows, values, _ = noisy()
    rounding = 1e-18 * np.random.default_rng(5).standard_normal((len(rows), 3))
    known = regress(factor_of(rows, values), solver, tolerance=1e-6).coefficients
    found = regress(factor_of(np.hstack([rows, rounding]), values), solver, tolerance=1e-6).coefficients
    np.testing.assert_allclose(found[:8], known, rtol=1e-9)
    assert np.abs(found[8:]).max() < 1e-6 * np.abs(known).max()


@pytest.mark.parametrize("solver", ["rrqr", "svd", "ridge"])
def test_without_regularisation_each_solver_is_least_squares(solver):
    rows, values, _ = noisy()
    expected = np.linalg.lstsq(rows, values, rcond=None)[0]
    found = regress(factor_of(rows, values), solver, tolerance=1e-13)
    assert np.abs(found.coefficients - expected).max() < 1e-12 * np.abs(expected).max()
    assert found.degrees_of_freedom == pytest.approx(8.0, abs=1e-10)
    assert found.residual_norm == pytest.approx(np.linalg.norm(rows @ expected - values), rel=1e-12)


def test_ridge_solves_its_normal_equations():
    rows, values, _ = noisy()
    prior = np.arange(1.0, 9.0) ** 2
    found = regress(factor_of(rows, values), "ridge", tolerance=0.3, prior_k=prior)
    s = np.linalg.svd(rows / prior, compute_uv=False)
    penalty = (0.3 * s[0]) ** 2
    normal = rows.T @ rows + penalty * np.diag(prior**2)
    assert np.allclose(found.coefficients, np.linalg.solve(normal, rows.T @ values), rtol=1e-11)
    hat = rows @ np.linalg.solve(normal, rows.T)
    assert found.degrees_of_freedom == pytest.approx(np.trace(hat), rel=1e-11)


def test_truncated_svd_is_the_pseudoinverse_of_scaled_columns():
    rows, values, _ = noisy()
    rows = np.column_stack([rows, rows @ np.ones(8) + 1e-7 * np.random.default_rng(1).standard_normal(120)])
    found = regress(factor_of(rows, values), "svd", tolerance=1e-4)
    norms = np.linalg.norm(rows, axis=0)
    assert found.rank == 8
    assert np.allclose(found.coefficients, np.linalg.pinv(rows / norms, rcond=1e-4) @ values / norms, rtol=1e-8)


@pytest.mark.parametrize("constrained", [False, True])
def test_evidence_is_the_marginal_likelihood_and_its_maximum(constrained):
    rows, values, _ = noisy(40, 6)
    constraints = Constraints.of([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]], [0.0]) if constrained else None
    found = regress(factor_of(rows, values), "blr", column_scaling=False, constraints=constraints)
    free = np.eye(6)
    if constrained:
        free = np.linalg.svd(constraints.rows_ek)[2][1:].T

    def log_evidence(alpha, beta):
        covariance = np.eye(40) / beta + rows @ free @ free.T @ rows.T / alpha
        return scipy.stats.multivariate_normal(np.zeros(40), covariance).logpdf(values)

    alpha, beta = found.hyperparameters["prior_precision"], found.hyperparameters["noise"] ** -2
    best = log_evidence(alpha, beta)
    assert best == pytest.approx(found.hyperparameters["log_evidence"], rel=1e-9)
    for a, b in [(1.01, 1.0), (1 / 1.01, 1.0), (1.0, 1.01), (1.0, 1 / 1.01), (3.0, 1.0), (0.3, 2.0)]:
        assert log_evidence(a * alpha, b * beta) < best


def test_bayesian_ridge_has_the_posterior_in_closed_form():
    rows, values, true = noisy(400, 8, noise=0.2)
    prior = np.linspace(1.0, 2.0, 8)
    found = regress(factor_of(rows, values), "blr", prior_k=prior)
    alpha, beta = found.hyperparameters["prior_precision"], found.hyperparameters["noise"] ** -2
    covariance = np.linalg.inv(beta * rows.T @ rows + alpha * np.diag(prior**2))
    assert np.allclose(found.covariance_factor @ found.covariance_factor.T, covariance, rtol=1e-9, atol=1e-14)
    assert np.allclose(found.coefficients, beta * covariance @ rows.T @ values, rtol=1e-10)
    assert found.hyperparameters["noise"] == pytest.approx(0.2, rel=0.15)
    assert np.abs((found.coefficients - true) / np.sqrt(np.diag(covariance))).max() < 4.0


def test_posterior_of_fewer_rows_than_columns_keeps_the_prior_where_nothing_is_known():
    rows, values, _ = noisy(5, 8)
    found = regress(factor_of(rows, values), "blr", column_scaling=False)
    alpha, beta = found.hyperparameters["prior_precision"], found.hyperparameters["noise"] ** -2
    inner = np.linalg.solve(rows @ rows.T + alpha / beta * np.eye(5), rows)
    covariance = (np.eye(8) - rows.T @ inner) / alpha  # Woodbury
    assert np.allclose(found.covariance_factor @ found.covariance_factor.T, covariance, atol=1e-10 / alpha)


def test_relevance_determination_prunes_columns_that_say_nothing():
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((300, 20)) * 10.0 ** rng.uniform(-2, 2, 20)
    true = np.zeros(20)
    true[[2, 7, 11]] = np.array([3.0, -2.0, 1.0]) / np.linalg.norm(rows[:, [2, 7, 11]], axis=0) * 20.0
    values = rows @ true + 0.05 * rng.standard_normal(300)
    found = regress(factor_of(rows, values), "ard")
    assert found.converged
    active = np.flatnonzero(found.coefficients)
    assert {2, 7, 11} <= set(active)
    assert len(active) == found.rank < 15
    # Tipping and Faul (2003), eq. 20: at the maximum of the evidence alpha = s^2 / (q^2 - s), infinite for q^2 <= s
    beta = found.hyperparameters["noise"] ** -2
    spread = found.covariance_factor[active]
    alpha = np.full(20, np.inf)
    alpha[active] = np.diag(np.linalg.inv(spread @ spread.T) - beta * rows[:, active].T @ rows[:, active])
    for k in range(20):
        others = [i for i in active if i != k]
        covariance = np.eye(300) / beta + (rows[:, others] / alpha[others]) @ rows[:, others].T
        s = rows[:, k] @ np.linalg.solve(covariance, rows[:, k])
        q = rows[:, k] @ np.linalg.solve(covariance, values)
        if k in active:
            assert alpha[k] == pytest.approx(s**2 / (q**2 - s), rel=0.02)
        else:
            assert q**2 < 1.01 * s
    assert found.hyperparameters["noise"] == pytest.approx(0.05, rel=0.1)
    known = np.linalg.norm(rows[:, [2, 7, 11]], axis=0)
    assert np.abs(((found.coefficients - true)[[2, 7, 11]]) * known).max() < 0.05 * 4.0


@pytest.mark.parametrize("solver", SOLVERS)
def test_units_of_columns_and_values_do_not_matter(solver):
    rows, values, _ = noisy(200, 10)
    units = 10.0 ** np.random.default_rng(2).uniform(-4, 4, 10)
    one = regress(factor_of(rows, values), solver, tolerance=1e-3)
    other = regress(factor_of(rows * units, 1e3 * values), solver, tolerance=1e-3)
    assert other.rank == one.rank
    assert np.allclose(other.coefficients * units, 1e3 * one.coefficients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_constraints_are_met_exactly_by_every_solver(solver):
    rng = np.random.default_rng(7)
    rows, values, _ = noisy(200, 10)
    c = rng.standard_normal((3, 10)) * np.array([[1.0], [1e4], [1e-3]])
    constraints = Constraints.of(np.vstack([c, c[0] + 1e-4 * c[1]]), [1.0, 2e4, 3e-3, 3.0])
    found = regress(factor_of(rows, values), solver, tolerance=1e-4, constraints=constraints)
    assert np.allclose(constraints.rows_ek @ found.coefficients, constraints.values_e, rtol=1e-10, atol=0.0)
    if found.covariance_factor is not None:
        spread = np.linalg.norm(constraints.rows_ek @ found.covariance_factor, axis=1)
        size = np.linalg.norm(constraints.rows_ek, axis=1) * np.linalg.norm(found.covariance_factor)
        assert (spread < 1e-12 * size).all()


def test_constrained_least_squares_satisfies_the_conditions_of_lagrange():
    rows, values, _ = noisy(200, 10)
    c = np.random.default_rng(7).standard_normal((3, 10))
    found = regress(factor_of(rows, values), "rrqr", tolerance=1e-12, constraints=Constraints.of(c, [1.0, -2.0, 0.5]))
    saddle = np.block([[rows.T @ rows, c.T], [c, np.zeros((3, 3))]])
    expected = np.linalg.solve(saddle, np.concatenate([rows.T @ values, [1.0, -2.0, 0.5]]))[:10]
    assert np.allclose(found.coefficients, expected, rtol=1e-10)
    assert (found.rank, found.degrees_of_freedom) == (10, 7.0)


def test_contradicting_or_misshapen_requests_are_refused():
    rows, values, _ = noisy()
    factor = factor_of(rows, values)
    with pytest.raises(DataError, match="contradict"):
        regress(factor, constraints=Constraints.of(np.ones((2, 8)), [1.0, 2.0]))
    with pytest.raises(DataError, match="leave nothing"):
        regress(factor, constraints=Constraints.of(np.eye(8), np.ones(8)))
    with pytest.raises(DataError, match="for 3 coefficients"):
        regress(factor, constraints=Constraints.of(np.ones((1, 3)), [1.0]))
    with pytest.raises(DataError, match="unknown solver"):
        regress(factor, "magic")
    with pytest.raises(DataError, match="positive"):
        regress(factor, "ridge", prior_k=np.zeros(8))
    with pytest.raises(DataError, match="no rows"):
        regress(RFactor(3), "blr")


@pytest.mark.parametrize("solver", ["rrqr", "svd", "ridge"])
@pytest.mark.parametrize("constrained", [False, True])
def test_covariance_of_least_squares_is_noise_times_the_inverse_normal_matrix(solver, constrained):
    rows, values, true = noisy()
    equations = np.random.default_rng(5).standard_normal((2, 8))
    constraints = Constraints.of(equations, equations @ true) if constrained else None
    found = regress(factor_of(rows, values), solver, tolerance=1e-13, constraints=constraints, covariance=True)
    free = np.linalg.svd(equations)[2][2:].T if constrained else np.eye(8)
    noise2 = found.residual_norm**2 / (120 - free.shape[1])
    expected = noise2 * free @ np.linalg.inv(free.T @ rows.T @ rows @ free) @ free.T
    assert np.allclose(found.covariance_factor @ found.covariance_factor.T, expected, atol=1e-11 * expected.max())
    assert found.hyperparameters["noise"] == pytest.approx(noise2**0.5, rel=1e-12)


@pytest.mark.parametrize("solver", ["rrqr", "svd"])
def test_covariance_of_a_truncated_problem_is_that_of_the_solution_of_least_norm(solver):
    rows, values, _ = noisy()
    rows = np.column_stack([rows, rows @ np.ones(8)])
    found = regress(factor_of(rows, values), solver, tolerance=1e-9, column_scaling=False, covariance=True)
    assert np.linalg.matrix_rank(found.covariance_factor, tol=1e-10) == 8
    normal = np.linalg.pinv(rows.T @ rows, rcond=1e-12)
    covariance = found.covariance_factor @ found.covariance_factor.T / found.hyperparameters["noise"] ** 2
    assert np.allclose(covariance, normal, atol=1e-11 * normal.max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_covariance_factor_does_not_hang_on_rounding(solver):
    rows, values, _ = noisy()
    turned = np.linalg.qr(np.random.default_rng(9).standard_normal((120, 120)))[0]
    one, other = (
        regress(factor_of(q @ rows, q @ values), solver, tolerance=1e-9, covariance=True).covariance_factor
        for q in (np.eye(120), turned)
    )
    assert np.abs(one - other).max() < 1e-7 * np.abs(one).max()  # blr: its hyperparameters are found to 1e-9
