"""Kept results: found again to the bit, only for the same law and structure, and no torn file is believed."""

import os
import shutil

import h5py
import numpy as np
import pytest

from parmlip.errors import DataError
from parmlip.io import reference_cache
from parmlip.io.reference_cache import CachedLaw, ReferenceCache
from parmlip.potentials.total import Evaluated

CELL = (np.eye(3) * 4.0, (True, True, True), np.array([[0.1, 0.2, 0.3], [2.0, 2.0, 2.0]]), ("Cu", "Cu"))


class Counting:
    species = ()
    closest = 0.0

    def __init__(self):
        self.calls = 0

    def evaluate(self, cell_cc, periodic, positions_ac, symbols):
        self.calls += 1
        return Evaluated(float(positions_ac.sum()) / 3.0, positions_ac / 7.0, np.eye(3) / 11.0)


def same(a, b):
    return a.energy == b.energy and (a.forces_ac == b.forces_ac).all() and (a.virial_cc == b.virial_cc).all()


@pytest.fixture
def cache(tmp_path):
    return ReferenceCache(tmp_path / "a.cache.h5", {"kind": "ase", "options": {"x": 1}})


def test_result_is_kept_to_the_bit_before_and_after_merging(cache):
    law = Counting()
    kept = CachedLaw(law, cache)
    first = kept.evaluate(*CELL)
    assert same(kept.evaluate(*CELL), first)
    assert cache.merge() == 1
    assert not cache.fresh.exists()
    assert same(kept.evaluate(*CELL), first)
    assert law.calls == 1
    assert kept.evaluate(*CELL).site_energies_a is None


@pytest.mark.parametrize("change", ["cell", "periodic", "positions", "symbols", "law"])
def test_whatever_changes_the_result_changes_the_name(cache, change):
    cell, periodic, positions, symbols = CELL
    name = cache.digest(*CELL)
    if change == "law":
        assert ReferenceCache(cache.path, {"kind": "ase", "options": {"x": 2}}).digest(*CELL) != name
        return
    other = {
        "cell": (cell * (1 + 1e-15), periodic, positions, symbols),
        "periodic": (cell, (True, True, False), positions, symbols),
        "positions": (cell, periodic, positions + 1e-12, symbols),
        "symbols": (cell, periodic, positions, ("Cu", "Ag")),
    }[change]
    assert cache.digest(*other) != name


def test_negative_zero_is_zero(cache):
    cell, periodic, positions, symbols = CELL
    assert cache.digest(np.where(cell == 0.0, -0.0, cell), periodic, positions, symbols) == cache.digest(*CELL)


def test_torn_file_is_put_aside_and_the_rest_goes_on(cache):
    CachedLaw(Counting(), cache).evaluate(*CELL)
    cache.merge()
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[: len(whole) // 2])
    assert cache.read(cache.digest(*CELL)) is None
    law = Counting()
    CachedLaw(law, cache).evaluate(*CELL)
    cache.merge()
    assert law.calls == 1
    assert cache.read(cache.digest(*CELL)) is not None
    assert cache.path.with_name("a.cache.h5.torn").exists()


def test_torn_small_file_is_made_anew(cache):
    CachedLaw(Counting(), cache).evaluate(*CELL)
    (small,) = cache.fresh.glob("*.h5")
    small.write_bytes(small.read_bytes()[:100])
    (cache.fresh / ".x.1.part").write_bytes(b"what a killed process left")
    assert cache.known([cache.digest(*CELL)]) == {}
    cache.merge()
    assert cache.read(cache.digest(*CELL)) is None
    assert not cache.fresh.exists()


def test_what_another_run_adds_during_a_merge_is_kept(cache, monkeypatch):
    law, (cell, periodic, positions, symbols) = CachedLaw(Counting(), cache), CELL
    law.evaluate(*CELL)
    later = (cell, periodic, positions + 0.25, symbols)
    take = reference_cache._take

    def interrupted(path, into):
        law.evaluate(*later)
        take(path, into)

    monkeypatch.setattr(reference_cache, "_take", interrupted)
    assert cache.merge() == 1
    assert len(cache.known([cache.digest(*CELL), cache.digest(*later)])) == 2


def test_result_is_kept_though_another_run_takes_the_directory_away_under_its_writer(cache, monkeypatch):
    taken, replace = [], os.replace

    def taken_away(part, target):
        if not taken:
            taken.append(part)
            shutil.rmtree(cache.fresh)
        replace(part, target)

    monkeypatch.setattr(os, "replace", taken_away)
    CachedLaw(Counting(), cache).evaluate(*CELL)
    assert taken
    assert cache.read(cache.digest(*CELL)) is not None


def test_only_one_of_two_runs_merges(cache):
    CachedLaw(Counting(), cache).evaluate(*CELL)
    with cache._alone() as alone:
        assert alone
        assert ReferenceCache(cache.path, {}).merge() == 0
        assert cache.read(cache.digest(*CELL)) is not None
    assert cache.merge() == 1


def test_two_laws_share_a_file(cache):
    other = ReferenceCache(cache.path, {"kind": "tight_binding"})
    CachedLaw(Counting(), cache).evaluate(*CELL)
    cache.merge()
    assert other.known([other.digest(*CELL)]) == {}
    CachedLaw(Counting(), other).evaluate(*CELL)
    other.merge()
    with h5py.File(cache.path) as file:
        assert len(file) == 2


def test_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "a.cache.h5.new").write_text("a file in the way")
    cache = ReferenceCache(tmp_path / "a.cache.h5", {})
    with pytest.raises(DataError, match=r"a\.cache\.h5\.new"):
        CachedLaw(Counting(), cache).evaluate(*CELL)
