"""Partition, ownership and ghost exchange."""

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.parallel.halo import Halo
from parmlip.parallel.partition import bisect
from parmlip.parallel.sites import Sites


def random_sites(n: int, comm: MPI.Comm) -> Sites:
    """Sites at random positions, the same on every rank."""
    positions = np.random.default_rng(5).uniform(0.0, 10.0, (n, 3))
    return Sites(bisect(positions, comm.size), comm=comm)


def random_ghosts(sites: Sites, n: int) -> np.ndarray:
    """Some sites that other ranks own, different on every rank."""
    foreign = np.setdiff1d(np.arange(sites.n_sites), sites.global_n)
    return np.random.default_rng(sites.comm.rank).permutation(foreign)[:n]


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8])
def test_bisection_gives_every_part_its_share(parts):
    owner = bisect(np.random.default_rng(0).uniform(size=(101, 3)), parts)
    counts = np.bincount(owner, minlength=parts)
    assert counts.sum() == 101
    assert counts.max() - counts.min() <= np.ceil(np.log2(parts)) + 1


def test_bisection_of_fewer_sites_than_parts_leaves_parts_empty():
    owner = bisect(np.zeros((3, 3)) + np.arange(3)[:, None], 8)
    assert len(np.unique(owner)) == 3


def test_bisected_parts_of_a_lattice_are_compact():
    x = np.stack(np.meshgrid(*[np.arange(8.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    owner = bisect(x, 8)
    for part in range(8):
        assert np.all(np.ptp(x[owner == part], axis=0) == 3.0)


@pytest.mark.mpi
@pytest.mark.parametrize("n", [2, 50])
def test_gather_returns_global_order(comm, n):
    sites = random_sites(n, comm)
    everything = np.random.default_rng(1).normal(size=(n, 3))
    gathered = sites.gather(sites.restrict(everything))
    assert (gathered is None) == (comm.rank != 0)
    if gathered is not None:
        np.testing.assert_array_equal(gathered, everything)
    np.testing.assert_array_equal(sites.gather_to_all(sites.restrict(everything)), everything)


@pytest.mark.mpi
@pytest.mark.parametrize("dtype", [float, complex, np.int64])
def test_forward_brings_the_owners_values(comm, dtype):
    sites = random_sites(60, comm)
    halo = Halo(sites, random_ghosts(sites, 20))
    everything = np.random.default_rng(1).integers(0, 1000, size=(60, 2)).astype(dtype)
    x = np.zeros((halo.n_local, 2), dtype=dtype)
    x[: halo.n_owned] = everything[sites.global_n]
    halo.forward(x)
    np.testing.assert_array_equal(x, everything[halo.global_m])
    np.testing.assert_array_equal(sites.number_a[halo.global_m], halo.number_m)


@pytest.mark.mpi
def test_reverse_add_is_the_transpose_of_forward(comm):
    sites = random_sites(60, comm)
    halo = Halo(sites, random_ghosts(sites, 25))
    rng = np.random.default_rng(100 + comm.rank)
    x, y = rng.normal(size=(2, halo.n_local, 3))
    forwarded = x.copy()
    halo.forward(forwarded)
    reversed_ = y.copy()
    halo.reverse_add(reversed_)
    left = comm.allreduce(np.sum(y * forwarded))
    right = comm.allreduce(np.sum(reversed_[: halo.n_owned] * x[: halo.n_owned]))
    assert left == pytest.approx(right, rel=1e-13)


@pytest.mark.mpi
def test_halo_works_where_some_ranks_own_nothing(comm):
    sites = Sites(np.zeros(5, dtype=np.int32), comm=comm)
    halo = Halo(sites, np.array([3, 1]) if comm.rank else np.empty(0, dtype=np.int64))
    x = np.zeros(halo.n_local)
    x[: halo.n_owned] = np.arange(halo.n_owned)
    halo.forward(x)
    np.testing.assert_array_equal(x, halo.global_m)
