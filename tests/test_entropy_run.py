"""The stage entropy from input to result file."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from parmlip.config import loads
from parmlip.errors import ConfigError, ParmlipError
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.pipeline import run
from parmlip.report.figures import draw
from parmlip.report.tables import table

INPUT = """
[run]
stages = ["build", "reference", "relax", "entropy"]
[crystal]
lattice = "fcc"
species = ["Cu"]
lattice_constant = 3.615
[reference]
kind = "eam"
parameters = "Cu-Mishin2001"
[simulation]
cell = [3, 3, 3]
defects = [{ kind = "vacancy", at = [0, 0, 0] }]
[relax]
laws = ["reference"]
[entropy]
temperatures = [300, 900]
"""


def done(comm, directory, *overrides, name="run"):
    """Scalars and file of a run."""
    path = directory / f"{name}.h5"
    run(loads(INPUT, [f"run.output='{path}'", *overrides]), comm, overwrite=True)
    return scalars(path), ResultFile(path)


@pytest.mark.mpi(3)
def test_formation_entropy_of_a_vacancy_and_its_free_energy(comm, shared_tmp):
    values, file = done(comm, shared_tmp)
    if comm.rank:
        return
    assert values["entropy.formation"] == pytest.approx(2.906567, abs=1e-5)  # the oracle's tables: 2.906630
    assert values["entropy.formation_error"] < 1e-6
    assert values["entropy.converged"]
    assert values["entropy.n_null"] == 6
    n, c = 108, 0.5 * (5.966153 - 580.485522 / 108)
    assert values["entropy.formation"] - values["entropy.fhf"] == pytest.approx(c + 1.5 * np.log(n / (n - 1)), abs=1e-4)
    assert file.read("entropy", "near_entropy").sum() == pytest.approx(values["entropy.fhf"], abs=1e-8)
    energy, boltzmann = values["relax_reference.formation_energy"], 8.617333262145e-5
    expected = energy - boltzmann * np.array([300.0, 900.0]) * values["entropy.formation"]
    np.testing.assert_allclose(file.read("entropy", "formation_free_energy"), expected, rtol=1e-11)
    quantum = file.read("entropy", "formation_free_energy_quantum") - expected
    assert 0.0 > quantum[0] > -0.01  # modes soften round a vacancy, so less zero-point motion
    # the first quantum term goes as 1 / T
    assert quantum[0] / quantum[1] == pytest.approx(3.0, rel=0.1)
    assert file.read("entropy", "quantum_error").max() == 0.0  # all sites of a small cell
    assert [p.name for p in draw(file.path, shared_tmp)] == ["run_formation_entropy.png"]
    assert "entropy.formation_infinite" not in values  # half of the cell is narrower than twice the cutoff
    lines = table(file.path)
    assert any("quote it with its 107 sites" in line for line in lines)
    at = next(i for i, line in enumerate(lines) if line.split()[:2] == ["T", "(K)"])
    told = np.array([line.split() for line in lines[at + 1 : at + 3]], float)
    np.testing.assert_array_equal(told[:, 0], [300.0, 900.0])
    np.testing.assert_allclose(told[:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(told[:, 2] - told[:, 1], quantum, atol=2e-6)


def test_dense_and_factorised_agree_with_krylov_spaces(comm, tmp_path):
    found = {m: done(comm, tmp_path, f"entropy.method={m}", name=m)[0] for m in ("ritz", "dense", "factorise")}
    for method in ("dense", "factorise"):
        for name in ("formation", "fhf", "formation_limit"):
            assert found[method][f"entropy.{name}"] == pytest.approx(found["ritz"][f"entropy.{name}"], abs=1e-8)
    assert found["dense"]["entropy.identity_error"] < 1e-8


def test_the_limit_of_large_cells_is_estimated_from_a_smaller_one(comm, tmp_path):
    of_si = [
        "crystal.lattice=diamond", "crystal.species=['Si']", "crystal.lattice_constant=5.430949777364731",
        "reference.kind=stillinger_weber", "reference.parameters=Si-SW", "simulation.cell=[4, 4, 4]",
        "entropy.tolerance=0.002", "entropy.near_radius=8",
    ]  # fmt: skip
    values, file = done(comm, tmp_path, *of_si)
    lines = table(file.path)
    infinite, cell, limit = (
        next(line for line in lines if f"  {name}  " in line)
        for name in ("formation_infinite", "formation", "formation_limit")
    )
    assert lines.index(infinite) < lines.index(cell) < lines.index(limit)
    assert infinite.split()[0] == f"{values['entropy.formation_infinite']:.6f}"
    assert infinite.endswith("quote this")
    assert "numerical" in cell
    assert "quote" not in cell
    names = [key.partition(".")[2] for key in values if key.startswith("entropy.formation")]
    assert names.index("formation_infinite") < names.index("formation")
    assert values["entropy.formation_infinite"] == pytest.approx(3.6622, abs=values["entropy.formation_infinite_error"])
    assert abs(values["entropy.formation_infinite"] - 3.6622) < abs(values["entropy.formation"] - 3.6622)
    assert values["entropy.formation_infinite_error"] < 0.05


def test_sizes_of_the_cell_are_swept_to_one_figure_and_one_table(comm, tmp_path):
    _, file = done(comm, tmp_path, "sweep.simulation.cell=[[2, 2, 2], [3, 3, 3]]", "entropy.temperatures=[]")
    assert "run_formation_entropy.png" in [p.name for p in draw(file.path, tmp_path)]
    rows = table(file.path)
    assert "S_f" in rows[0]
    assert "2.90657" in rows[-1]  # the smaller cell is above
    assert "2.7790" in rows[-2]
    assert "numerical" in rows[1]


def test_a_law_that_is_not_relaxed_is_refused(comm, tmp_path):
    with pytest.raises(ConfigError, match=r'stage "entropy" needs both "reference" and "surrogate"'):
        done(comm, tmp_path, "entropy.laws=['surrogate']")


def test_a_small_cell_does_not_tell_the_memory_of_the_programs_start(comm, tmp_path, capsys):
    values, _ = done(comm, tmp_path, 'run.stages=["build", "reference", "relax"]')
    told = capsys.readouterr().out
    assert "formation energy" in told
    assert "memory:" not in told
    assert "relax_reference.memory_per_site" in values


def test_a_state_that_is_not_a_minimum_has_no_entropy(comm, tmp_path):
    with pytest.raises(ParmlipError, match=r"not a minimum: .* relative to the bulk's .*dumbbell_100"):
        done(
            comm, tmp_path, "simulation.cell=[2, 2, 2]", "relax.max_iterations=200",
            "simulation.defects=[{ kind = 'interstitial', site = 'crowdion', species = 'Cu' }]",
        )  # fmt: skip


def test_a_structure_file_has_an_entropy_by_factorisation_alone(comm, tmp_path, caplog):
    from ase.build import bulk
    from ase.io import write

    atoms = bulk("Cu", "fcc", a=3.615, cubic=True).repeat(2)
    del atoms[0]
    write(tmp_path / "cell.xyz", atoms)
    of_file = INPUT.replace(
        'lattice = "fcc"\nspecies = ["Cu"]\nlattice_constant = 3.615', f'file = "{tmp_path}/cell.xyz"'
    )
    of_file = of_file.replace('cell = [3, 3, 3]\ndefects = [{ kind = "vacancy", at = [0, 0, 0] }]', "cell = [1, 1, 1]")
    with pytest.raises(ConfigError, match='method = "contour": needs .* write "factorise" for a structure file'):
        run(loads(of_file, [f"run.output='{tmp_path}/a.h5'"]), comm)
    with caplog.at_level(logging.INFO):
        run(loads(of_file, [f"run.output='{tmp_path}/b.h5'", "entropy.method=factorise"]), comm)
    entropy = scalars(tmp_path / "b.h5")["entropy.entropy"]
    values, _ = done(comm, tmp_path, "simulation.cell=[2, 2, 2]", name="grid")
    assert entropy == pytest.approx(values["entropy.formation"] + 31 / 32 * values["entropy.perfect"], abs=1e-7)
