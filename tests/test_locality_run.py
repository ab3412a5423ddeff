"""The stage locality by input file: values of an independent program, slopes of the paper, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import run
from parmlip.report import draw
from tests.mechanics.entropy_cells import ORACLE

CHAIN = """
[run]
stages = ["build", "locality"]
output = "{output}"
[crystal]
lattice = "chain"
species = ["H"]
lattice_constant = 1.0
[reference]
kind = "toy"
parameters = "chain-toy"
delta = 0.5
[simulation]
cell = [800]
defects = [{{ kind = "substitution", at = [0], species = "He" }}, {{ kind = "substitution", at = [1], species = "He" }}]
[locality]
displacement = {{ kind = "chirp", amplitude = 0.2 }}
fit = [8, 100]
"""
SQUARE = """
[run]
stages = ["build", "locality"]
output = "{output}"
[crystal]
lattice = "square"
species = ["H"]
lattice_constant = 1.0
[reference]
kind = "toy"
parameters = "square-toy"
[simulation]
cell = [45, 45]
defects = [{{ kind = "substitution", at = [22, 22], species = "He" }},
           {{ kind = "substitution", at = [23, 22], species = "He" }},
           {{ kind = "substitution", at = [22, 23], species = "Li" }}]
[locality]
at = [22, 22]
components = [0]
displacement = {{ kind = "chirp", amplitude = 0.1, components = [0] }}
cutoffs = [3, 6, 11, 16]
fit = [3, 11]
"""


def done(text, path, *overrides, comm=MPI.COMM_SELF):
    run(loads(text.format(output=path), overrides), comm)
    return ResultFile(path)


@pytest.mark.mpi(2)
@pytest.mark.parametrize("delta", [0.0, 0.1, 0.5])
def test_the_chain_has_the_stored_derivatives_and_the_slope_of_the_theory(comm, shared_tmp, delta):
    found = done(CHAIN, shared_tmp / f"{delta}.h5", f"reference.delta={delta}", comm=comm)
    stored = ORACLE["toy1d"]["res"][str(delta)]["l400"]
    assert found.read("locality", "site") == 400
    assert found.read("locality", "entropy") == pytest.approx(stored["S_l"], abs=1e-10)
    size_a = found.read("locality", "derivative")
    for offset, value in stored["dS_n_offset"].items():
        assert size_a[(400 + int(offset)) % 800] == pytest.approx(abs(value), abs=1e-11)
    assert -2.2 <= found.read("locality", "slope") <= -1.9


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_the_square_lattice_has_the_stored_truncation_errors_and_slopes_within_the_range(tmp_path, delta):
    found = done(SQUARE, tmp_path / "run.h5", f"reference.delta={delta}")
    stored = ORACLE["toy2d"]["res"][str(delta)]
    assert found.read("locality", "entropy") == pytest.approx(stored["S_l"], abs=1e-10)
    np.testing.assert_allclose(
        found.read("locality", "truncation_error"), list(stored["trunc_err"].values()), rtol=0, atol=1e-10
    )
    assert -4.5 <= found.read("locality", "slope") <= -3.8
    assert -3.2 <= found.read("locality", "truncation_slope") <= -2.0


def test_rough_states_decay_with_the_theory_and_smooth_ones_faster_at_every_delta(tmp_path):
    rough = "locality.displacement={ kind = 'rough', amplitude = 0.03, samples = 3 }"
    cutoffs = "locality.cutoffs=[4, 16, 64]"
    for delta in (0.0, 0.5):  # the paper's r^-1 at delta = 0 is not found
        found = done(CHAIN, tmp_path / f"rough{delta}.h5", rough, cutoffs, f"reference.delta={delta}")
        assert -2.2 <= found.read("locality", "slope") <= -1.8
        assert -1.5 <= found.read("locality", "truncation_slope") <= -1.0
        smooth = "locality.displacement={ kind = 'smooth', amplitude = 1.0 }"
        found = done(CHAIN, tmp_path / f"smooth{delta}.h5", smooth, f"reference.delta={delta}")
        assert found.read("locality", "slope") <= -2.9


@pytest.mark.mpi
def test_rough_states_do_not_depend_on_the_number_of_ranks(comm, tmp_path, shared_tmp):
    short = "simulation.cell=[60]", "locality.displacement={ kind = 'rough', amplitude = 0.03, samples = 2 }"
    alone, together = done(CHAIN, tmp_path / "alone.h5", *short), done(CHAIN, shared_tmp / "all.h5", *short, comm=comm)
    sizes = [of.read("locality", "derivative") for of in (alone, together)]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0, atol=1e-10)
    assert sizes[0].max() > 0.1


def test_a_figure_is_drawn(tmp_path):
    done(SQUARE, tmp_path / "run.h5", "simulation.cell=[25, 25]", "simulation.defects=[]", "locality.at=[12, 12]")
    assert [path.name for path in draw(tmp_path / "run.h5", tmp_path)] == ["run_locality.png"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("locality.at=[400.5]",), "no site is there; the nearest is 0.500 A away"),
        (("locality.at=[4, 4]",), r"at = \[4.0, 4.0\]: must have 1 members"),
        (("locality.components=[1]",), "must be different numbers below 1"),
        (("locality.fit=[9, 3]",), r"must be \[from, to\] with from < to"),
        (("locality.displacement.amplitude=0.4",), "neighbours move by 0.[0-9]+ A against each other, the toy law"),
        (("locality.displacement.samples=3",), 'displacement samples = 3: is for kind = "rough"'),
        (("locality.displacement.kind=equilibrium", "relax.laws=['surrogate']"), 'needs "reference" in'),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        done(CHAIN, tmp_path / "run.h5", *overrides)
