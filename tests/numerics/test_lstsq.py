"""Least squares: factors of blocks, over ranks, of parts with weights, and the rank-revealing solution."""

import numpy as np
import pytest
import scipy.linalg

from parmlip.errors import DataError
from parmlip.numerics.lstsq import RFactor, combine, memory_estimate, solve_rrqr, tsqr_reduce


def problem(n_rows: int, n_columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with columns of very different size, and values that no coefficients meet."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_rows, n_columns)) * 10.0 ** rng.uniform(-3, 3, n_columns)
    return rows, rng.standard_normal(n_rows)


def factor_of(rows, values, block=37, weight=1.0) -> RFactor:
    factor = RFactor(rows.shape[1])
    for start in range(0, len(rows), block):
        factor.add(rows[start : start + block], values[start : start + block], weight)
    return factor


def one_qr(rows, values) -> np.ndarray:
    r = scipy.linalg.qr(np.column_stack([rows, values]), mode="r")[0][: rows.shape[1] + 1]
    return r * np.where(np.diagonal(r) < 0, -1.0, 1.0)[:, None]


def relative_columns(a, b) -> float:
    return float((np.abs(a - b) / np.linalg.norm(b, axis=0)).max())


@pytest.mark.parametrize("n_rows", [20, 29, 30, 31, 255, 257, 1000])
@pytest.mark.parametrize("block", [1, 37, 2000])
def test_factor_of_blocks_is_the_factor_of_one_qr(n_rows, block):
    rows, values = problem(n_rows, 30)
    factor = factor_of(rows, values, block)
    assert factor.n_rows == n_rows
    expected = one_qr(rows, values)
    assert factor.triangle.shape == expected.shape == (min(n_rows, 31), 31)
    assert relative_columns(factor.triangle, expected) < 1e-13


def test_rows_can_be_added_after_the_factor_was_looked_at():
    rows, values = problem(700, 12)
    factor = factor_of(rows[:5], values[:5])
    assert factor.triangle.shape == (5, 13)
    factor.add(rows[5:600], values[5:600])
    assert factor.triangle.shape == (13, 13)
    factor.add(rows[600:], values[600:])
    assert relative_columns(factor.triangle, one_qr(rows, values)) < 1e-13


def test_factor_survives_storage():
    rows, values = problem(400, 12)
    factor = factor_of(rows, values)
    again = RFactor.from_triangle(factor.triangle, factor.n_rows)
    assert again.n_rows == 400
    assert relative_columns(again.triangle, factor.triangle) < 1e-14


def test_solution_is_that_of_the_tall_problem():
    rows, values = problem(500, 30)
    result = solve_rrqr(factor_of(rows, values), 1e-12)
    expected = np.linalg.lstsq(rows, values, rcond=None)[0]
    assert (result.rank, result.n_rows) == (30, 500)
    assert np.abs(result.coefficients - expected).max() < 1e-12 * np.abs(expected).max()
    assert result.residual_norm == pytest.approx(np.linalg.norm(rows @ expected - values), rel=1e-12)
    assert result.value_norm == pytest.approx(np.linalg.norm(values), rel=1e-13)
    assert np.allclose(result.column_norms, np.linalg.norm(rows, axis=0), rtol=1e-13)
    assert sorted(result.pivots) == list(range(30))
    assert (np.diff(result.diagonal) <= 1e-14).all()


def test_exact_values_give_back_the_coefficients():
    rows, _ = problem(300, 25)
    true = np.random.default_rng(3).standard_normal(25)
    result = solve_rrqr(factor_of(rows, rows @ true), 1e-13)
    assert np.abs((result.coefficients - true) * np.linalg.norm(rows, axis=0)).max() < 1e-10 * result.value_norm
    assert result.residual_norm < 1e-12 * result.value_norm


def test_residual_is_orthogonal_to_the_columns():
    rows, values = problem(200, 20)
    c = solve_rrqr(factor_of(rows, values), 0.0).coefficients
    gradient = rows.T @ (rows @ c - values) / np.linalg.norm(rows, axis=0)
    assert np.abs(gradient).max() < 1e-12 * np.linalg.norm(values)


def test_dependent_columns_are_counted_and_the_solution_is_the_shortest():
    rows, values = problem(300, 12)
    doubled = np.column_stack([rows, rows])
    result = solve_rrqr(factor_of(doubled, values), 1e-9)
    assert result.rank == 12
    assert np.allclose(result.coefficients[:12], result.coefficients[12:], rtol=1e-9)
    norms = np.linalg.norm(doubled, axis=0)
    shortest = np.linalg.pinv(doubled / norms, rcond=1e-9) @ values / norms
    assert np.abs((result.coefficients - shortest) * norms).max() < 1e-10 * np.linalg.norm(values)


def test_a_looser_tolerance_lowers_the_rank_and_raises_the_residual():
    rng = np.random.default_rng(1)
    x = np.linspace(-1, 1, 400)
    factor = factor_of(np.vander(x, 15, increasing=True), np.exp(3 * x) + 1e-3 * rng.standard_normal(400))
    results = [solve_rrqr(factor, tolerance) for tolerance in (1e-1, 1e-2, 1e-4, 1e-12)]
    assert [r.rank for r in results] == sorted(r.rank for r in results)
    assert results[0].rank < results[-1].rank == 15
    residuals = [r.residual_norm for r in results]
    assert residuals == sorted(residuals, reverse=True)
    assert results[-1].condition > results[0].condition


def test_scaling_makes_the_rank_independent_of_the_units_of_columns():
    rows, values = problem(200, 20)
    tiny = rows * 10.0 ** np.linspace(0, -12, 20)
    scaled = solve_rrqr(factor_of(tiny, values), 1e-6)
    raw = solve_rrqr(factor_of(tiny, values), 1e-6, column_scaling=False)
    assert scaled.rank == 20
    assert raw.rank < 20
    assert raw.residual_norm > scaled.residual_norm


def test_what_is_truncated_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(8)
    rows = np.exp(-np.linspace(0.5, 4, 60) * rng.uniform(0, 3, (600, 1)))  # smooth: singular values fall to rounding
    values = rng.standard_normal(600)
    results = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(600)
        results.append(solve_rrqr(factor_of(rows[order], values[order], block=10 + 100 * seed), 1e-5))
    first = results[0]
    assert 3 < first.rank < 30
    for other in results[1:]:
        assert other.rank == first.rank
        assert np.array_equal(other.pivots[: first.rank], first.pivots[: first.rank])
        difference = rows @ (other.coefficients - first.coefficients)
        assert np.abs(difference).max() < 1e-8 * np.abs(rows @ first.coefficients).max()


def test_a_column_of_zeros_gets_coefficient_zero():
    rows, values = problem(100, 6)
    rows[:, 2] = 0.0
    result = solve_rrqr(factor_of(rows, values), 1e-10)
    assert result.rank == 5
    assert result.coefficients[2] == 0.0


def test_fewer_rows_than_columns_is_solved_and_told(caplog):
    rows, values = problem(10, 40)
    result = solve_rrqr(factor_of(rows, values), 1e-10)
    assert result.rank == 10
    assert np.abs(rows @ result.coefficients - values).max() < 1e-10
    assert "fewer rows (10) than columns (40)" in caplog.text


def test_refit_with_other_weights_equals_the_direct_fit():
    energy, force = problem(40, 15, seed=1), problem(900, 15, seed=2)
    kept = factor_of(*energy), factor_of(*force)
    for weights in [(100.0, 1.0), (1.0, 10.0), (0.0, 1.0)]:
        refit = combine(zip(kept, weights))
        direct = RFactor(15)
        for (rows, values), weight in zip((energy, force), weights):
            direct.add(rows, values, weight)
        tall = np.vstack([np.sqrt(w) * rows for (rows, _), w in zip((energy, force), weights)])
        values = np.concatenate([np.sqrt(w) * v for (_, v), w in zip((energy, force), weights)])
        expected = np.linalg.lstsq(tall, values, rcond=None)[0]
        assert refit.n_rows == direct.n_rows == sum(len(v) for (_, v), w in zip((energy, force), weights) if w)
        for factor in (refit, direct):
            c = solve_rrqr(factor, 1e-12).coefficients
            assert np.abs(c - expected).max() < 1e-11 * np.abs(expected).max()
        residual = np.linalg.norm(energy[0] @ expected - energy[1])
        assert kept[0].residual_norm(expected) == pytest.approx(residual, rel=1e-10)


@pytest.mark.mpi
@pytest.mark.parametrize("n_rows", [2, 25, 90, 1200])
def test_the_tree_over_ranks_gives_one_qr(comm, n_rows):
    rows, values = problem(n_rows, 30)
    mine = slice(comm.rank, None, comm.size)
    total = tsqr_reduce(factor_of(rows[mine], values[mine]), comm)
    assert (total is None) == (comm.rank != 0)
    good = True
    if total is not None:
        expected = one_qr(rows, values)
        good = total.n_rows == n_rows and total.triangle.shape == expected.shape
        good = good and relative_columns(total.triangle, expected) < 1e-13
        if n_rows > 30:
            c = solve_rrqr(total, 1e-10).coefficients
            direct = np.linalg.lstsq(rows, values, rcond=None)[0]
            good = good and np.abs(c - direct).max() < 1e-10 * np.abs(direct).max()
    assert comm.bcast(good)


@pytest.mark.mpi
def test_the_tree_is_the_same_to_the_last_bit_when_repeated(comm):
    rows, values = problem(800, 20)
    mine = slice(comm.rank, None, comm.size)
    first, second = (tsqr_reduce(factor_of(rows[mine], values[mine]), comm) for _ in range(2))
    same = first is None or second is None or np.array_equal(first.triangle, second.triangle)
    assert all(comm.allgather(bool(same)))


@pytest.mark.mpi
def test_ranks_with_different_problems_all_fail(comm):
    if comm.size == 1:
        pytest.skip("needs two ranks")
    with pytest.raises(DataError, match="number of columns"):
        tsqr_reduce(RFactor(3 + comm.rank % 2), comm)


def test_bad_rows_are_refused():
    factor = RFactor(3)
    rows, values = np.ones((4, 3)), np.ones(4)
    rows[2, 1] = np.nan
    with pytest.raises(DataError, match="1 of 4 rows are not finite, the first is row 2"):
        factor.add(rows, values)
    with pytest.raises(DataError, match="do not fit 3 columns"):
        factor.add(np.ones((4, 2)), values)
    with pytest.raises(DataError, match="not negative"):
        factor.add(np.ones((4, 3)), values, weight=-1.0)
    assert factor.n_rows == 0


def test_nothing_to_fit_is_an_error():
    with pytest.raises(DataError, match="no rows"):
        solve_rrqr(RFactor(3), 1e-6)
    with pytest.raises(DataError, match="all rows .* are zero"):
        solve_rrqr(factor_of(np.zeros((5, 3)), np.ones(5)), 1e-6)
    with pytest.raises(DataError, match="no observations"):
        combine([])
    with pytest.raises(DataError, match="3 and 4 columns"):
        combine([(RFactor(3), 1.0), (RFactor(4), 1.0)])
    with pytest.raises(DataError, match="tolerance"):
        solve_rrqr(factor_of(np.ones((5, 3)), np.ones(5)), 1.5)


def test_memory_estimate_covers_the_factors_and_the_paper_fits_8_gib():
    assert memory_estimate(1000, 1) >= 2 * 8 * 1001**2
    assert 2 * memory_estimate(5456, 2, n_full_factors=3) < 8 * 2**30
