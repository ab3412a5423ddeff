"""Training cells about a saddle: entropies with one negative mode, attempt frequencies by a surrogate, energies too."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip import construct
from parmlip.config import loads
from parmlip.errors import ConfigError, DataError
from parmlip.fit.entropy_labels import entropy_label, perfect_cell
from parmlip.fit.observations import configuration_of
from parmlip.fit.sampling import rattled
from parmlip.io.hdf5 import ResultFile
from parmlip.mechanics.energy import Energy
from parmlip.pipeline import run
from parmlip.report import draw
from parmlip.stages_rates import saddle_positions

INPUT = """
[run]
stages = ["build", "reference", "train"]
output = "{output}"
[crystal]
lattice = "fcc"
species = ["Cu"]
lattice_constant = 3.615
[reference]
parameters = "Cu-Mishin2001"
[simulation]
cell = [2, 2, 1]
[[training]]
name = "minimum"
cell = [2, 2, 1]
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
samples = 4
test_samples = 1
rattle = 0.05
[[training]]
name = "saddle"
cell = [2, 2, 1]
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
around = "saddle"
jump = {{ from = [0.5, 0.5, 0], to = [0, 0, 0] }}
samples = 3
test_samples = 2
rattle = 0.05
[surrogate]
correlation_order = 2
total_degree = 6
cutoff = 5.5
[fit]
homogeneous = 1
weights = {{ energy = 100.0, force = 1.0 }}
[rates]
masses = {{ Cu = 63.55 }}
"""
LATTICE = 3.615


def saddle_states():
    """Law, cell, its perfect crystal, and the positions of the equilibrium and the saddle."""
    study = loads(INPUT.format(output="x.h5"))
    law, of = construct.reference_law(study), construct.lattice(study, None)
    block = study.training[1]
    cell = construct.supercell(study, block, of)
    perfect = perfect_cell(law, construct.perfect_supercell(study, block, of), cell)
    return law, cell, perfect, *saddle_positions(study, law, cell, of, block.jump, "saddle")


def test_entropies_at_both_ends_of_a_hop_give_its_attempt_frequency_and_derivatives_about_the_saddle_are_exact():
    law, cell, perfect, minimum_ac, saddle_ac = saddle_states()
    energy = Energy(law, cell, comm=MPI.COMM_SELF)
    assert np.abs(energy.difference_and_forces(saddle_ac - cell.positions_ac)[1]).max() <= 1e-10
    level = entropy_label(law, configuration_of(cell, "a", minimum_ac, difference=False), perfect).energy
    top = configuration_of(cell, "b", saddle_ac, difference=False)
    found = entropy_label(law, top, perfect, n_negative=1, sites=True)
    assert found.energy - level == pytest.approx(0.29067214510774875, abs=1e-5)  # another program's, eq. (2.8)
    with pytest.raises(DataError, match=r"1 negative mode\(s\), the lowest -2.58"):
        entropy_label(law, top, perfect)

    moved_ac = rattled(saddle_ac, 0.03, "uniform", seed=1, index=(0,), dimension=3)
    step_ac = np.random.default_rng(2).standard_normal(moved_ac.shape)
    step_ac /= np.linalg.norm(step_ac)

    def entropy(t: float) -> float:
        state = configuration_of(cell, "c", moved_ac + t * step_ac, difference=False)
        return entropy_label(law, state, perfect, n_negative=1).energy

    slope = -np.vdot(
        entropy_label(law, configuration_of(cell, "c", moved_ac, difference=False), perfect, n_negative=1).forces_ac,
        step_ac,
    )
    # Mishin's law jumps in its third derivatives at the bulk density: differences scatter by some 1e-3
    assert (entropy(1e-4) - entropy(-1e-4)) / 2e-4 == pytest.approx(slope, abs=0.02 * abs(slope) + 0.02)


def test_a_surrogate_of_the_entropy_is_tested_by_attempt_frequencies_about_the_saddle(tmp_path):
    more = "surrogate.target=entropy", "fit.homogeneous=0"
    run(loads(INPUT.format(output=tmp_path / "run.h5"), more), MPI.COMM_SELF)
    found = ResultFile(tmp_path / "run.h5")
    reference, surrogate = (found.read("train", f"test_attempt_frequency_{of}") for of in ("reference", "surrogate"))
    assert reference == pytest.approx(np.full(2, 2.6), abs=0.5)  # 2.6226 THz, not rattled
    rmse = found.read("train", "rmse_attempt_frequency")
    assert rmse == pytest.approx(np.sqrt(np.mean((surrogate - reference) ** 2)))
    assert 0.0 < rmse < 2.0


@pytest.mark.mpi(2)
def test_energies_are_fitted_about_a_saddle_too(comm, shared_tmp):
    run(loads(INPUT.format(output=shared_tmp / "run.h5")), comm)
    found = ResultFile(shared_tmp / "run.h5")
    centre_ad = found.read("label", "centre/1")
    assert np.abs(centre_ad).max() == pytest.approx(0.25 * LATTICE, abs=0.05)  # the atom that jumps is half-way
    assert found.read("label", "n_training") == 4 + 3 + 2 + 1
    assert found.read("train", "test_rmse_force") < 1.0


def test_rates_of_both_laws_stand_side_by_side(tmp_path):
    more = (
        "run.stages=['build', 'reference', 'train', 'relax', 'rates']", "surrogate.total_degree=8",
        "simulation.defects=[{ kind = 'vacancy', at = [0, 0, 0] }]",
        "rates.jumps=[{ from = [0.5, 0.5, 0], to = [0, 0, 0] }]", "relax.residual=false",
    )  # fmt: skip
    run(loads(INPUT.format(output=tmp_path / "run.h5"), more), MPI.COMM_SELF)
    found = ResultFile(tmp_path / "run.h5")
    assert found.read("rates", "barrier") == pytest.approx(0.8733695492023017, abs=1e-8)
    assert found.read("rates_surrogate", "barrier") == pytest.approx(0.8733695492023017, abs=0.02)
    assert found.read("rates_surrogate", "negative_modes") == 1
    assert found.read("rates_surrogate", "connects")
    assert found.read("rates_surrogate", "max_force") <= 1e-9
    assert [path.name for path in draw(tmp_path / "run.h5", tmp_path)][-2:] == ["run_rates.png", "run_summary.png"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training.0.jump={ from = [0.5, 0.5, 0], to = [0, 0, 0] }",), r'training\]\] 1 jump: is for around = "sadd'),
        (("training.0.around=saddle",), r'1 around = "saddle": needs jump = { from = ..., to = ... }'),
        (("training.1.relax=false",), "2 around = \"saddle\": needs relax = true"),
        (("training.1.jump={ from = [0.5, 0.5], to = [0, 0] }",), r"jump from = \[0.5, 0.5\]: must have 3 members"),
        (("training.1.jump={ from = [0.2, 0.5, 0], to = [0, 0, 0] }",), "no site is there; the nearest is 1.0[0-9]+ A"),
    ],
)  # fmt: skip
def test_saddles_that_cannot_be_found_are_told(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        run(loads(INPUT.format(output=tmp_path / "run.h5"), overrides), MPI.COMM_SELF)
