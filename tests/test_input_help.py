"""What a user is told of an input: every key, the inputs that come with the program, estimates before the work."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import numpy as np
import pytest

from parmlip.config import load, loads
from parmlip.config_tables import TABLES
from parmlip.construct_qmmm import radius_warnings
from parmlip.errors import ConfigError
from parmlip.estimate import estimate
from parmlip.input_keys import key_reference
from parmlip.numerics.lstsq import RFactor
from parmlip.numerics.regression import regress, solver_memory
from parmlip.pipeline import check_chain

ROOT = Path(__file__).parent.parent
INPUTS = sorted((ROOT / "inputs").rglob("*.toml"))
COPPER = ROOT / "inputs" / "qmmm" / "cu_emt.toml"
TUNGSTEN = ROOT / "inputs" / "qmmm" / "w_vacancy.toml"


def tables_within(hint, found):
    """All dataclasses that a type holds, with those that these hold."""
    if dataclasses.is_dataclass(hint) and hint not in found:
        found.add(hint)
        for inner in typing.get_type_hints(hint).values():
            tables_within(inner, found)
    for inner in typing.get_args(hint):
        tables_within(inner, found)
    return found


def test_every_key_says_what_it_is():
    kinds = set()
    for kind in TABLES.values():
        tables_within(kind, kinds)
    assert len(kinds) > len(TABLES)
    silent = [f"{k.__name__}.{f.name}" for k in kinds for f in dataclasses.fields(k) if not f.metadata.get("about")]
    assert silent == []


def test_the_reference_of_keys_has_every_key_of_a_table_within_a_table():
    lines = key_reference()
    for word in ("direction", "dumbbell_110", "half_random", "cauchy_born_4", "chirp"):
        assert any(word in line for line in lines), word
    (buffer,) = [line for line in lines if line.startswith("  buffer ")]
    assert "twice the law's range" in buffer


@pytest.mark.parametrize("path", INPUTS, ids=[path.stem for path in INPUTS])
def test_every_input_is_right(path):
    """Also without the files of others that one of them names."""
    check_chain(loads(path.read_text(), [], path))


def test_the_readme_names_every_input():
    text = (ROOT / "README.md").read_text()
    absent = [path.name for path in INPUTS if path.name not in text and path.stem not in text]
    assert absent == []


def test_points_that_differ_in_the_qm_region_have_one_fit_and_calls_are_counted(tmp_path):
    study = load(COPPER, [f"reference.cache='{tmp_path / 'cu.cache.h5'}'"])
    lines = estimate(study, 1)
    assert len([line for line in lines if line.startswith("fit: ")]) == 1
    assert len([line for line in lines if line.startswith("force mixing")]) == len(study.points())
    (calls,) = [line for line in lines if line.startswith("labels: ")]
    (table,) = study.training
    assert calls.startswith(f"labels: {study.fit.homogeneous + table.samples + 1 + table.test_samples} structures")


@pytest.mark.parametrize(("solver", "committee"), [("rrqr", 0), ("blr", 4), ("rrqr", 4)])
def test_the_memory_of_a_fit_is_that_which_its_solver_tells(solver, committee):
    settings = [f"fit.solver={solver}", f"fit.committee={committee}"]
    lines = estimate(load(ROOT / "inputs" / "quickstart.toml", settings), 1)
    fits = [line for line in lines if line.startswith("fit: ")]
    assert fits
    for line in fits:
        n, told = re.search(rf"(\d+) functions, {solver}: at most (\d+) MB on rank 0", line).groups()
        assert told == f"{solver_memory(int(n), solver, committee > 0) / 1e6:.0f}"


def test_a_tolerance_beside_a_sweep_of_the_radius_is_explained():
    def told(*settings):
        return [line for line in radius_warnings(load(TUNGSTEN, list(settings))) if "tolerance" in line]

    (line,) = told("qmmm.tolerance=1e-3")
    assert 'take "qmmm.radius" out of [sweep], or tolerance out of [qmmm]' in line
    assert len(told("sweep.qmmm.tolerance=[1e-2, 1e-3]")) == 1
    assert told() == []
    assert told("sweep={}", "qmmm.tolerance=1e-3", "qmmm.radius=10.0") == []


def test_an_expansion_of_a_law_without_site_energies_names_the_remedy():
    text = COPPER.read_text().replace('kind = "ace"', 'kind = "taylor"\nstates = "lattice"')
    remedy = r'has no site energies; fit one to it: kind = "ace", with a \[\[training\]\]'
    with pytest.raises(ConfigError, match=remedy):
        loads(text, [], COPPER)


def test_a_buffer_of_a_law_of_whole_structures_that_is_not_given_is_asked_for_with_a_width():
    with pytest.raises(ConfigError, match=r"must be a number .* begin with twice the law's range, about 10 A"):
        load(COPPER, ["qmmm.buffer=auto"])


@pytest.mark.parametrize("solver", ["rrqr", "ridge", "svd"])
def test_a_rank_below_the_number_of_functions_is_explained(solver):
    rows_ok = np.random.default_rng(1).normal(size=(5, 8))
    factor = RFactor(8)
    factor.add(rows_ok, rows_ok @ np.ones(8))
    found = regress(factor, solver, tolerance=1e-8)
    assert found.open_told == " (3 combinations of them are not determined by these rows; the solver keeps them small)"
    assert np.linalg.norm(found.coefficients) <= np.sqrt(8.0)
    whole = RFactor(2)
    whole.add(rows_ok[:, :2], rows_ok[:, 0])
    assert regress(whole, solver, tolerance=1e-8).open_told == ""
