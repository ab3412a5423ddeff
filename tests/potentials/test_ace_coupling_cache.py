"""Couplings kept on disk: the same as those built, whatever has happened to the file."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.potentials import ace_coupling_cache
from parmlip.potentials.ace_coupling import build_couplings
from parmlip.potentials.ace_coupling_cache import _read, _write, cache_directory, cached_couplings, coupling_key

WHAT = (2, (11.0, 11.0, 11.0), 1.5, 3)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """An empty cache with one basis; the file it stands in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached_couplings(*WHAT)
    (file,) = cache_directory().iterdir()
    return file


def assert_right(found) -> None:
    wanted = build_couplings(2, 3, 11, 1.5)
    assert found.slots_k == wanted.slots_k
    assert found.one_particle.n_species == 2
    for name in ("first_k", "coefficient_t", "factor_tf"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_array_equal(found.one_particle.n_max_l, wanted.one_particle.n_max_l)


def test_what_is_kept_is_what_is_built_and_is_not_built_again(kept, monkeypatch):
    monkeypatch.setattr(ace_coupling_cache, "build_couplings", None)  # calling it would fail
    assert_right(cached_couplings(*WHAT))


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped", "other"])
def test_a_broken_file_is_built_again_and_replaced(kept, harm):
    content = kept.read_bytes()
    middle = len(content) // 2
    kept.write_bytes(
        {
            "cut": content[:middle],
            "empty": b"",
            "flipped": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
            "other": b"PK not a file of numbers",
        }[harm]
    )
    assert_right(cached_couplings(*WHAT))
    assert_right(cached_couplings(*WHAT))
    assert [f.name for f in kept.parent.iterdir()] == [kept.name]
    assert kept.stat().st_size == len(content)


def test_other_numbers_are_kept_apart(kept):
    planar = cached_couplings(2, (11.0, 11.0, 11.0), 1.5, 2)
    assert len(planar.coefficient_t) < len(cached_couplings(*WHAT).coefficient_t)


def test_without_a_place_to_write_couplings_are_built(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_right(cached_couplings(*WHAT))


@pytest.mark.mpi(2)
def test_ranks_that_write_and_read_the_same_file_at_once_do_each_other_no_harm(comm, shared_tmp, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_tmp))
    key, built = coupling_key(*WHAT), build_couplings(2, 3, 11, 1.5)
    path = cache_directory() / "same.npz"
    comm.Barrier()
    for _ in range(30):
        _write(path, key, built)
        found = _read(path, key)
        assert found is not None, "a file half written was read"
        np.testing.assert_array_equal(found.coefficient_t, built.coefficient_t)
    comm.Barrier()
    assert [f.name for f in path.parent.iterdir()] == [path.name]


@pytest.mark.mpi(2)
def test_ranks_that_couple_the_same_basis_at_once_leave_one_file(comm, shared_tmp, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_tmp))
    comm.Barrier()
    assert_right(cached_couplings(*WHAT))
    comm.Barrier()
    assert len(list(cache_directory().iterdir())) == 1
    monkeypatch.setattr(ace_coupling_cache, "build_couplings", None)
    assert_right(cached_couplings(*WHAT))
