"""`parmlip advise` on fits that are bad on purpose: the right cause first, and an input that the change mends."""

from __future__ import annotations

import tomllib

import pytest

from parmlip.cli import main
from parmlip.io.hdf5 import ResultFile, scalars

INPUT = """
[crystal]
lattice = "triangular"
species = ["W"]

[reference]
kind = "eam"
parameters = "W-Zhou"
taper = [4.6, 5.6]

[simulation]
cell = [16, 16]
defects = [{ kind = "vacancy", at = [8, 8] }]

[[training]]
cell = [CELL]
defects = [{ kind = "vacancy", at = [0, 0] }]
samples = 60
test_samples = 10
rattle = { amplitude = AMPLITUDE, kind = "uniform" }

[surrogate]
dimension = 2
total_degree = 12
cutoff = 5.5
inner_cutoff = 0.6

[fit]
solver = "rrqr"
tolerance = 1e-6

[advise]
geometry_error = WANTED
energy_error = 0.03
"""


def advise(directory, monkeypatch, *given, cell="6, 6", amplitude="0.05", wanted="0.03"):
    monkeypatch.chdir(directory)
    text = INPUT.replace("CELL", cell).replace("AMPLITUDE", amplitude).replace("WANTED", wanted)
    (directory / "in.toml").write_text(text)
    words = [word for value in given for word in ("--set", value)]
    assert main(["advise", "in.toml", "--overwrite", *words]) == 0
    changed = directory / "in_advised.toml"
    found = scalars(directory / "in_advise.h5")
    return found, tomllib.loads(changed.read_text()) if changed.exists() else None


def test_a_good_fit_has_nothing_to_change(tmp_path, monkeypatch):
    found, changed = advise(tmp_path, monkeypatch)
    assert changed is None
    assert 0.0 < found["advise.geometry_bound"] < 0.03


@pytest.mark.parametrize(
    ("given", "table", "key", "value"),
    [
        ("fit.homogeneous=0", "fit", "homogeneous", 6),
        ("fit.weights.energy=0.0", "fit", "weights", {"energy": 100.0}),
        ("fit.weights.energy=1e-6", "fit", "weights", {"energy": 100.0}),
    ],
)
def test_energies_that_are_not_determined_are_the_bulks_fault_and_mended(
    tmp_path, monkeypatch, given, table, key, value
):
    bad, changed = advise(tmp_path, monkeypatch, given)
    assert bad["advise.formation_bulk"] > 0.9 * bad["advise.formation_bound"] > 0.03
    assert changed[table][key] == value
    assert main(["advise", "in_advised.toml", "--overwrite"]) == 0
    mended = scalars(tmp_path / "in_advised_advise.h5")
    assert mended["advise.formation_bound"] < 0.03


def test_an_equilibrium_outside_the_training_ball_is_told_before_bounds_that_do_not_hold_for_it(tmp_path, monkeypatch):
    """Rattles of 0.01 A about cells of 4 spacings: a bound of 3e-3 A was told, the true error is 0.2 A."""
    bad, changed = advise(tmp_path, monkeypatch, cell="4, 4", amplitude="0.01", wanted="0.03")
    assert bad["advise.geometry_bound"] < 0.03
    assert bad["advise.ball_excursion"] > 3.0
    assert "outside the training ball" in ResultFile(tmp_path / "in_advise.h5").read("advise", "changes")[0]
    assert changed["training"][0]["rattle"]["amplitude"] > 0.05
    assert main(["advise", "in_advised.toml", "--overwrite"]) == 0
    assert scalars(tmp_path / "in_advised_advise.h5")["advise.ball_excursion"] < 1.0
    for name in ("in.toml", "in_advised.toml"):
        assert main([name, "--overwrite", "--set", "run.output=true.h5", "--set", "report.figure=false"]) == 0
        true = scalars(tmp_path / "true.h5")["compare.geometry_error"]
        told = scalars(tmp_path / f"{name[:-5]}_advise.h5")["advise.geometry_bound"]
        assert (true < told) == (name == "in_advised.toml"), (name, true, told)


def test_a_training_cell_that_is_too_small_is_enlarged(tmp_path, monkeypatch):
    bad, changed = advise(tmp_path, monkeypatch, cell="4, 4", amplitude="0.01", wanted="1e-4")
    terms = {name: bad[f"advise.geometry_{name}"] for name in ("forces", "force_constants", "cell_size")}
    assert max(terms, key=terms.get) == "cell_size"
    assert changed["training"][0]["cell"] == [8, 8]


def test_advice_is_about_one_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = INPUT.replace("CELL", "6, 6").replace("AMPLITUDE", "0.05").replace("WANTED", "0.03")
    (tmp_path / "in.toml").write_text(text + '\n[sweep]\n"fit.tolerance" = [1e-4, 1e-6]\n')
    assert main(["advise", "in.toml"]) == 2
    assert "choose a point" in capsys.readouterr().err
