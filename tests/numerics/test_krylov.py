"""Batched Lanczos against dense functions of matrices."""

import numpy as np
import pytest
import scipy.linalg

from parmlip.numerics.contour import slit_contour
from parmlip.numerics.krylov import lanczos


def pencil(n=60, seed=1, spread=(0.3, 2.5)):
    """H and G with the spectrum of G H in `spread`, dense."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    g = (q * np.geomspace(0.1, 10.0, n)) @ q.T
    root = scipy.linalg.sqrtm(g).real
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    inverse = np.linalg.inv(root)
    h = inverse @ (v * np.linspace(*spread, n)) @ v.T @ inverse
    return 0.5 * (h + h.T), 0.5 * (g + g.T), root


def run(h, g, p_xb, **options):
    return lanczos(lambda y: h @ y, lambda p: g @ p, p_xb, reduce=lambda x: x, **{"function": np.log, **options})


def exact(f, h, root, p_xb):
    """p^T F f(F H F) F p of each column."""
    value, vector = np.linalg.eigh(root @ h @ root)
    return np.einsum("ib,i->b", (vector.T @ root @ p_xb) ** 2, f(value))


def test_functions_of_every_vector_are_those_of_dense_algebra():
    h, g, root = pencil()
    p_xb = np.random.default_rng(2).standard_normal((60, 5))
    spaces = run(h, g, p_xb)
    assert spaces.converged
    np.testing.assert_allclose(spaces.function(np.log), exact(np.log, h, root, p_xb), rtol=1e-9)
    assert (spaces.residual_b <= 1e-10 * spaces.norm2_b * np.log(2.6) * 1.5).all()


def test_contour_and_ritz_values_agree():
    h, g, _ = pencil()
    spaces = run(h, g, np.random.default_rng(2).standard_normal((60, 5)))
    low, high = spaces.interval(1e-8)
    np.testing.assert_allclose(spaces.contour(slit_contour(low, high, 24), np.log), spaces.function(np.log), rtol=1e-12)


def test_a_vector_does_not_notice_the_others_of_its_batch():
    h, g, _ = pencil()
    p_xb = np.random.default_rng(2).standard_normal((60, 4))
    p_xb[:, 1] = 0.0
    together = run(h, g, p_xb)
    for b in range(4):
        alone = run(h, g, p_xb[:, b : b + 1])
        assert together.steps_b[b] == alone.steps_b[0]
        np.testing.assert_allclose(together.function(np.log)[b], alone.function(np.log)[0], rtol=1e-11)


def test_a_zero_vector_has_the_value_zero():
    h, g, _ = pencil()
    spaces = run(h, g, np.zeros((60, 2)))
    assert spaces.converged
    assert (spaces.steps_b == 0).all()
    np.testing.assert_array_equal(spaces.function(np.log), 0.0)
    np.testing.assert_array_equal(spaces.contour(slit_contour(0.1, 2.0, 8), np.log), 0.0)


def test_an_invariant_space_ends_the_recursion_with_the_exact_value():
    h, g, root = pencil()
    value, vector = np.linalg.eigh(root @ h @ root)
    p_xb = np.linalg.inv(root) @ vector[:, [3, 20]] @ np.array([[1.0, 2.0], [0.0, -1.0]])
    spaces = run(h, g, p_xb, tolerance=0.0)
    assert spaces.steps_b.tolist() == [1, 2]
    assert spaces.exhausted_b.all()
    np.testing.assert_allclose(spaces.function(np.log), exact(np.log, h, root, p_xb), rtol=1e-11)


def test_null_vectors_do_not_take_over():
    n = 48
    shift = np.roll(np.eye(n), 1, axis=0)
    bulk = 2.0 * np.eye(n) - shift - shift.T
    h = bulk + 0.5 * np.outer(np.eye(n)[3] - np.eye(n)[4], np.eye(n)[3] - np.eye(n)[4])
    null_xc = np.full((n, 1), 1.0 / np.sqrt(n))
    value, vector = np.linalg.eigh(bulk)
    root = (vector[:, 1:] * value[1:] ** -0.5) @ vector[:, 1:].T
    p_xb = (vector[:, 1:] * value[1:] ** 0.5) @ vector[:, 1:].T[:, [0, 3, 20]]
    leaky = p_xb + 1e-3  # a start that is not free of the null vector
    spaces = run(h, root @ root, leaky, floor=1e-8, null_xc=null_xc, tolerance=0.0, max_steps=40)
    assert np.isfinite(spaces.alpha_bj).all()
    fhf = root @ h @ root
    theta, mode = np.linalg.eigh(fhf)
    expected = np.einsum("ib,i->b", (mode.T @ root @ p_xb)[theta > 1e-8] ** 2, np.log(theta[theta > 1e-8]))
    np.testing.assert_allclose(spaces.function(np.log, floor=1e-8), expected, atol=1e-12)


def test_function_vectors_are_those_of_dense_algebra():
    h, g, _ = pencil()
    p_xb = np.random.default_rng(2).standard_normal((60, 3))
    spaces = run(h, g, p_xb, keep_basis=True, tolerance=1e-14)
    expected = scipy.linalg.logm(g @ h).real @ g @ p_xb
    np.testing.assert_allclose(spaces.function_vectors(np.log), expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    with pytest.raises(ValueError, match="basis"):
        run(h, g, p_xb).function_vectors(np.log)


def test_one_reduction_a_step():
    h, g, _ = pencil()
    calls = []

    def reduce(x):
        calls.append(1)
        return x

    p_xb = np.random.default_rng(2).standard_normal((60, 3))
    spaces = lanczos(lambda y: h @ y, lambda p: g @ p, p_xb, reduce=reduce, function=np.log)
    assert len(calls) == spaces.steps_b.max()


def test_what_did_not_converge_says_so():
    h, g, _ = pencil(spread=(1e-4, 10.0))
    spaces = run(h, g, np.random.default_rng(2).standard_normal((60, 3)), max_steps=6)
    assert not spaces.converged
    assert (spaces.residual_b > 1e-6).all()
