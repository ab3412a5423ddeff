"""Block-circulant operators against dense matrices, and distributed against serial."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.numerics.lattice_fourier import BlockCirculant, LatticeTransform, UnstableLattice

SHAPES = [(4, 3, 5), (2, 6, 4), (5, 4, 1), (7, 1, 1), (1, 3, 2)]


def random_force_constants(m: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of a positive semidefinite operator with rigid translations of d components as its null space.

    A sum of springs: E = 1/2 sum_bonds |B (u_i - u_j)|^2 between basis sites of cells at random offsets.
    """
    rng = np.random.default_rng(seed)
    n_basis = m // d
    offsets, blocks = [], []
    steps = [np.eye(3, dtype=int)[c] for c in range(3)] + [rng.integers(-2, 3, 3) for _ in range(3)]
    for step in steps:
        for b in range(n_basis):
            c = (b + 1) % n_basis
            for a, b_to in ((b, c), (b, b)):
                spring = rng.standard_normal((d, d))
                spring = spring @ spring.T + 0.1 * np.eye(d)
                ia, ib = slice(a * d, a * d + d), slice(b_to * d, b_to * d + d)
                for offset, rows, columns, sign in (
                    (0 * step, ia, ia, 1),
                    (0 * step, ib, ib, 1),
                    (step, ia, ib, -1),
                    (-step, ib, ia, -1),
                ):
                    block = np.zeros((m, m))
                    block[rows, columns] = sign * spring
                    offsets.append(offset)
                    blocks.append(block)
    return np.array(offsets), np.array(blocks)


def dense(shape: tuple[int, int, int], offsets: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """The whole matrix."""
    m = blocks.shape[1]
    n = int(np.prod(shape))
    A = np.zeros((n, m, n, m))
    for cell in range(n):
        ijk = np.array(np.unravel_index(cell, shape))
        for offset, block in zip(offsets, blocks, strict=True):
            A[cell, :, np.ravel_multi_index(tuple((ijk + offset) % shape), shape)] += block
    return A.reshape(n * m, n * m)


def translations(m: int, d: int) -> np.ndarray:
    """Orthonormal translations of one cell."""
    return np.tile(np.eye(d), (m // d, 1)) / np.sqrt(m // d)


def share(transform: LatticeTransform, u: np.ndarray) -> np.ndarray:
    """This rank's slab of an array over the whole grid."""
    a, b = transform.x_bounds[transform.comm.rank : transform.comm.rank + 2]
    return u[a:b]


def whole(transform: LatticeTransform, u: np.ndarray) -> np.ndarray:
    """The array over the whole grid from the slabs of all ranks."""
    return np.concatenate(transform.comm.allgather(u))


@pytest.mark.mpi(2, 3, 4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("m", "d"), [(1, 1), (6, 3), (4, 2)])
def test_apply_and_its_powers_agree_with_the_dense_matrix_on_any_number_of_ranks(shape, m, d):
    comm = MPI.COMM_WORLD
    offsets, blocks = random_force_constants(m, d, seed=3)
    A = dense(shape, offsets, blocks)
    transform = LatticeTransform(shape, comm=comm)
    operator = BlockCirculant.from_blocks(transform, offsets, blocks)
    u = np.random.default_rng(5).standard_normal((*shape, m))
    got = whole(transform, operator.apply(share(transform, u)))
    np.testing.assert_allclose(got.ravel(), A @ u.ravel(), rtol=0, atol=1e-12 * np.abs(A).max() * np.abs(u).max())

    null = translations(m, d)
    w, v = np.linalg.eigh(A)
    w[:d] = np.inf  # the translations
    for exponent in (-1.0, -0.5, 0.5):
        factor = np.where(np.isinf(w), 0.0, np.where(np.isinf(w), 1.0, w) ** exponent)
        expected = v @ (factor * (v.T @ u.ravel()))
        got = whole(transform, operator.power(exponent, null).apply(share(transform, u)))
        np.testing.assert_allclose(got.ravel(), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.mpi(2, 3, 4)
def test_distributed_and_serial_results_agree_to_rounding():
    shape, m, d = (6, 5, 8), 6, 3
    offsets, blocks = random_force_constants(m, d, seed=1)
    u = np.random.default_rng(2).standard_normal((*shape, m, 2))
    results = []
    for comm in (MPI.COMM_SELF, MPI.COMM_WORLD):
        transform = LatticeTransform(shape, comm=comm)
        inverse = BlockCirculant.from_blocks(transform, offsets, blocks).power(-1.0, translations(m, d))
        results.append(whole(transform, inverse.apply(share(transform, u))))
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-13 * np.abs(results[0]).max())


@pytest.mark.mpi(2, 3, 4)
def test_backward_is_the_inverse_of_forward_with_empty_slabs():
    shape = (2, 3, 4)
    transform = LatticeTransform(shape, comm=MPI.COMM_WORLD)
    u = np.random.default_rng(2).standard_normal((*shape, 3))
    got = whole(transform, transform.backward(transform.forward(share(transform, u))))
    np.testing.assert_allclose(got, u, rtol=0, atol=1e-14)


@pytest.mark.mpi(2)
def test_square_roots_of_the_inverse_compose_to_the_inverse():
    shape, m, d = (4, 4, 3), 3, 3
    transform = LatticeTransform(shape, comm=MPI.COMM_WORLD)
    operator = BlockCirculant.from_blocks(transform, *random_force_constants(m, d, seed=8))
    half, inverse = (operator.power(p, translations(m, d)) for p in (-0.5, -1.0))
    u = share(transform, np.random.default_rng(4).standard_normal((*shape, m)))
    twice, once = whole(transform, half.apply(half.apply(u))), whole(transform, inverse.apply(u))
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-13 * np.abs(once).max())


@pytest.mark.mpi(2, 3)
def test_an_unstable_lattice_is_refused_on_all_ranks_naming_the_wave_vector():
    # Second-neighbour springs of the wrong sign: w(k) = 2 (1 - cos k) - 0.6 (1 - cos 2k) < 0 at small k only.
    offsets = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [2, 0, 0], [-2, 0, 0]])
    blocks = np.array([2 - 0.6, -1, -1, 0.3, 0.3]).reshape(5, 1, 1)
    transform = LatticeTransform((12, 1, 1), comm=MPI.COMM_WORLD)
    operator = BlockCirculant.from_blocks(transform, offsets, blocks)
    with pytest.raises(UnstableLattice, match=r"wave vector \((1|11)/12, 0/1, 0/1\).*-0.0"):
        operator.power(-1.0, np.ones((1, 1)))
