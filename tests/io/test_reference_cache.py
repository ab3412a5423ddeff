"""Kept results: found again to the bit, only for the same law and structure but for rounding; none is torn."""

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


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("change", ["cell", "periodic", "positions", "symbols", "law"])
def test_whatever_changes_the_result_is_another_structure(cache, change, merged):
    CachedLaw(Counting(), cache).evaluate(*CELL)
    if merged:
        cache.merge()
    cell, periodic, positions, symbols = CELL
    one_moved = positions.copy()
    one_moved[1, 2] += 2.1e-10
    other = {
        "cell": (cell * (1 + 1e-9), periodic, positions, symbols),
        "periodic": (cell, (True, True, False), positions, symbols),
        "positions": (cell, periodic, one_moved, symbols),
        "symbols": (cell, periodic, positions, ("Cu", "Ag")),
        "law": CELL,
    }[change]
    asked = ReferenceCache(cache.path, {"kind": "ase", "options": {"x": 2 if change == "law" else 1}})
    assert asked.read(asked.key(*other)) is None
    assert asked.key(*other).digest != cache.key(*CELL).digest


@pytest.mark.parametrize("merged", [False, True])
def test_a_structure_within_rounding_of_another_has_its_result_wherever_it_lies(cache, merged):
    """Also where the rounding crosses the edge between two drawers, which a shift along x leads through."""
    law, kept = Counting(), CachedLaw(Counting(), cache)
    cell, periodic, positions, symbols = CELL
    rng, crossed, wide = np.random.default_rng(3), 0, 0.37 * np.arange(1, 41)
    for shift in wide:
        kept.evaluate(cell, periodic, positions + shift, symbols)
    edges = [_on_an_edge(cache, positions + 0.5 * shift) for shift in wide[:10]]
    for x in edges:
        kept.evaluate(cell, periodic, x, symbols)
    if merged:
        cache.merge()
    asked = CachedLaw(law, cache)
    for x in [positions + shift for shift in wide] + edges:
        for _ in range(5):
            near = x + rng.uniform(-9e-11, 9e-11, positions.shape)
            crossed += len({cache.key(cell, periodic, p, symbols).drawers[0] for p in (near, x)}) - 1
            assert same(asked.evaluate(cell, periodic, near, symbols), kept.evaluate(cell, periodic, x, symbols))
    assert law.calls == 0
    assert crossed > 5


def _on_an_edge(cache, positions):
    """Positions moved together until a move by 1e-13 changes the drawer."""

    def drawer(t):
        return cache.key(CELL[0], CELL[1], positions + t, CELL[3]).drawers[0]

    low, high = 0.0, 4e-7
    assert drawer(low) != drawer(high)
    while high - low > 1e-13:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if drawer(middle) == drawer(low) else (low, middle)
    return positions + low


def test_results_of_files_that_knew_no_drawers_are_still_found(cache):
    law = Counting()
    CachedLaw(law, cache).evaluate(*CELL)
    cache.merge()
    key = cache.key(*CELL)
    with h5py.File(cache.path, "a") as file:
        file.move(f"{key.drawers[0]}/{key.digest}", key.digest)
        del file[key.drawers[0]], file[key.digest]["place"]
    assert cache.read(key) is not None


def test_negative_zero_is_zero(cache):
    cell, periodic, positions, symbols = CELL
    assert cache.digest(np.where(cell == 0.0, -0.0, cell), periodic, positions, symbols) == cache.digest(*CELL)


def test_torn_file_is_put_aside_and_the_rest_goes_on(cache):
    CachedLaw(Counting(), cache).evaluate(*CELL)
    cache.merge()
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[: len(whole) // 2])
    assert cache.read(cache.key(*CELL)) is None
    law = Counting()
    CachedLaw(law, cache).evaluate(*CELL)
    cache.merge()
    assert law.calls == 1
    assert cache.read(cache.key(*CELL)) is not None
    assert cache.path.with_name("a.cache.h5.torn").exists()


def test_torn_small_file_is_made_anew(cache):
    CachedLaw(Counting(), cache).evaluate(*CELL)
    (small,) = cache.fresh.glob("*.h5")
    small.write_bytes(small.read_bytes()[:100])
    (cache.fresh / ".x.1.part").write_bytes(b"what a killed process left")
    assert cache.known([cache.key(*CELL)]) == {}
    cache.merge()
    assert cache.read(cache.key(*CELL)) is None
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
    assert len(cache.known([cache.key(*CELL), cache.key(*later)])) == 2


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
    assert cache.read(cache.key(*CELL)) is not None


def test_only_one_of_two_runs_merges(cache):
    CachedLaw(Counting(), cache).evaluate(*CELL)
    with cache._alone() as alone:
        assert alone
        assert ReferenceCache(cache.path, {}).merge() == 0
        assert cache.read(cache.key(*CELL)) is not None
    assert cache.merge() == 1


def test_two_laws_share_a_file(cache):
    other = ReferenceCache(cache.path, {"kind": "tight_binding"})
    CachedLaw(Counting(), cache).evaluate(*CELL)
    cache.merge()
    assert other.known([other.key(*CELL)]) == {}
    CachedLaw(Counting(), other).evaluate(*CELL)
    other.merge()
    with h5py.File(cache.path) as file:
        assert len(file) == 2


def test_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "a.cache.h5.new").write_text("a file in the way")
    cache = ReferenceCache(tmp_path / "a.cache.h5", {})
    with pytest.raises(DataError, match=r"a\.cache\.h5\.new"):
        CachedLaw(Counting(), cache).evaluate(*CELL)
