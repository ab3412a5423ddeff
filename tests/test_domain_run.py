"""Discs and balls with a clamped rim through the command line."""

from __future__ import annotations

from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest

from parmlip.config import loads
from parmlip.crystal.elasticity import full_tensor, rotated, stroh
from parmlip.errors import ConfigError
from parmlip.estimate import estimate
from parmlip.io.hdf5 import scalars
from parmlip.units import GPA_PER_EV_A3
from tests.program import alone_and_together, parmlip, results

INPUT = """
[crystal]
lattice = "bcc"
species = ["W"]

[reference]
parameters = "W-FS84"

[simulation]
domain = "disc"
radius = 16.0
defects = [{ kind = "vacancy", at = [0, 0, 0] }]

[[training]]
cell = [3, 3, 3]
defects = [{ kind = "vacancy", at = [0, 0, 0] }]
samples = 8
test_samples = 2

[surrogate]
correlation_order = 2
total_degree = 8
cutoff = 4.5

[relax]
force_tolerance = 1e-7

[report]
structures = true
"""
EDGE = '{ kind = "single", line = [0, 0, 1], plane = [0, 1, 0], burgers = [1, 0, 0] }'
REFERENCE_ALONE = ('run.stages=["build","reference","relax"]', 'relax.laws=["reference"]')


def run(directory: Path, *changes: str) -> None:
    (directory / "run.toml").write_text(INPUT)
    done = parmlip(directory, "run.toml", *(x for c in changes for x in ("--set", c)))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    directory = tmp_path_factory.mktemp("domain")
    run(directory)
    return directory


def test_both_laws_relax_the_free_sites_alone_and_are_compared_on_them(serial):
    found = results(serial / "run.h5")
    assert found["build.domain"] == "disc"
    assert found["build.rim"] == pytest.approx(2.0 * 4.5 + 1.0)  # the longer cutoff is the surrogate's
    assert found["compare.energy_error"] == pytest.approx(
        abs(found["relax_reference.energy"] - found["relax_surrogate.energy"]), abs=1e-12
    )
    estimated = found["relax_surrogate.geometry_error_estimate"]
    assert estimated == pytest.approx(found["compare.geometry_error"], rel=0.25)
    assert found["relax_surrogate.energy_excess_estimate"] > 0.0
    with h5py.File(serial / "run.h5") as file:
        free = file["build"]["free"][...]
        assert free.sum() == found["build.n_free"]
        for law in ("relax_reference", "relax_surrogate"):
            u_ac = file[law]["displacement"][...]
            assert np.abs(u_ac[~free]).max() == 0.0 == np.abs(file[law]["forces"][...][~free]).max()
            assert np.abs(u_ac[free]).max() > 1e-3
            assert np.abs(file[law]["forces"][...]).max() <= 1e-7
    structure = ase.io.read(serial / "run_reference.xyz")
    np.testing.assert_array_equal(structure.arrays["free"].astype(bool), free)
    assert structure.pbc.tolist() == [False, False, True]


def test_the_unrelaxed_formation_energy_is_that_of_a_periodic_cell(serial, tmp_path):
    """The rim's surface has no part in it; the disc repeats along z with the crystal's period."""
    periodic = ("simulation={cell=[8,8,1],defects=[{kind='vacancy',at=[0,0,0]}]}",)
    run(tmp_path, *periodic, *REFERENCE_ALONE)
    disc, cell = results(serial / "run.h5"), results(tmp_path / "run.h5")
    key = "relax_reference.formation_energy_unrelaxed"
    assert disc[key] == pytest.approx(cell[key], abs=1e-8)
    key = "relax_reference.formation_energy"
    assert disc[key] == pytest.approx(cell[key], abs=5e-3)
    assert disc[key] != pytest.approx(cell[key], abs=1e-6)  # clamped here, images there


@pytest.mark.mpi(3)
def test_results_do_not_depend_on_the_number_of_ranks(comm, shared_tmp):
    if comm.size == 1:
        pytest.skip("needs several ranks")
    alone, together = alone_and_together(INPUT, shared_tmp, comm)
    ours, theirs = scalars(together), scalars(alone)
    assert ours["relax_reference.energy"] == pytest.approx(theirs["relax_reference.energy"], rel=1e-10)
    for key in ("relax_surrogate.energy", "compare.geometry_error", "relax_surrogate.formation_energy"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5)


def test_a_single_edge_dislocation_keeps_its_core_and_the_rim_its_predictor(tmp_path):
    run(
        tmp_path, "simulation.defects=[]", f"simulation.dislocations={EDGE}", "simulation.radius=22",
        'relax.method="lbfgs"', *REFERENCE_ALONE,
    )  # fmt: skip
    found = results(tmp_path / "run.h5")
    assert found["relax_reference.cores_present"] is True
    assert found["relax_reference.stable"] is True
    assert found["relax_reference.energy_predictor"] > found["relax_reference.energy"] + 1.0 > 1.0
    assert "relax_reference.formation_energy" not in found
    assert "relax_reference.line_energy" not in found
    with h5py.File(tmp_path / "run.h5") as file:
        law, free = file["relax_reference"], file["build"]["free"][...]
        u_ac, u0_ac = law["displacement"][...], law["predictor"][...]
        np.testing.assert_array_equal(u_ac[~free], u0_ac[~free])
        assert np.abs(u_ac - u0_ac).max() > 0.1
        burgers = file["build"]["core_burgers"][0]
        np.testing.assert_allclose(law["core_burgers"][0], burgers, atol=0.15 * np.linalg.norm(burgers))
        assert np.linalg.norm(law["core_position"][0] - file["build"]["core_positions"][0]) < 2.0
        assert set(np.unique(law["coordination"][...][~free])) == {14}


def test_the_energy_of_a_single_edge_grows_with_the_logarithm_of_the_radius_as_elasticity_says(tmp_path):
    """From radius R to R' by K b^2 / (4 pi) ln((R' + w / 2) / (R + w / 2)) a length, w the rim's width."""
    energies, reach = [], []
    for radius in (24.0, 48.0):
        run(
            tmp_path, "simulation.defects=[]", f"simulation.dislocations={EDGE}", f"simulation.radius={radius}",
            'relax.method="lbfgs"', "relax.force_tolerance=1e-5", f'run.output="run{radius:g}.h5"', *REFERENCE_ALONE,
        )  # fmt: skip
        with h5py.File(tmp_path / f"run{radius:g}.h5") as file:
            energies.append(file["relax_reference"]["energy"][()])
            reach.append(radius + 0.5 * file["build"]["rim"][()])
            c = file["reference"]["elastic_constants"][...] / GPA_PER_EV_A3
            b, axes = file["build"]["core_burgers"][0], file["build"]["axes"][...]
            line = file["build"]["cell"][2, 2]
    due = stroh(rotated(full_tensor(c), axes)).energy_factor(b) * np.log(reach[1] / reach[0]) * line
    assert energies[1] - energies[0] == pytest.approx(due, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("simulation.cell=[4,4,4]",), 'cell = [4, 4, 4]: is not for domain = "disc"'),
        (("simulation={domain='disc'}",), "missing key 'radius'"),
        (("simulation.domain=periodic",), "missing key 'cell': conventional cells"),
        (("simulation={cell=[4,4,4],radius=9.0}",), 'radius: is for domain = "disc" or "ball"'),
        (("simulation.domain=disk",), 'did you mean "disc"?'),
        (("simulation.domain=ball", "simulation.periods=2"), "periods: is for a disc"),
        (("simulation.line=[1,1,1]",), "line, plane: give both, or neither"),
        (("crystal={lattice='chain',species=['W']}", "training=[{cell=[9]}]"), "of 1 dimension(s)"),
        (("run.stages=['build','reference','relax','entropy']",), '"entropy" needs [simulation] domain = "periodic"'),
        (("fit.committee=4", "relax.error_bars=4"), "error_bars = 4: must be 0"),
        (("training.dislocations=" + EDGE, "training.defects=[]"), 'is for [simulation] with domain = "disc"'),
        (("simulation.dislocations=" + EDGE,), "cannot stand beside 'defects'"),
        (("simulation={cell=[4,4,4],dislocations=" + EDGE + "}",), 'needs domain = "disc" and a radius'),
        (("simulation={domain='ball',radius=20.0,dislocations=" + EDGE + "}",), 'a disc takes "single" alone'),
        (("surrogate.kind=taylor", "fit={}"), 'write states = "lattice"'),
        (("sweep={'surrogate.cutoff'=[4.5,5.0]}",), "rim: must be given where [sweep] changes surrogate.cutoff"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(changes, words):
    with pytest.raises(ConfigError) as refused:
        loads(INPUT, changes)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("simulation.rim=8.0",), "rim = 8: must be at least 9.00 A, twice the surrogate's cutoff 4.5 A"),
        (("simulation.radius=5.0",), "radius = 5: must be at least 8.22 A"),
        (("simulation.defects.0.at=[6,0,0]",), "from the centre of the disc, outside of its free region"),
        (
            ("simulation.defects=[]", "simulation.dislocations=" + EDGE, "simulation.dislocations.core=[0.0,0.0]"),
            "is on a column of sites",
        ),
        (
            ("simulation.defects=[]", "simulation.dislocations=" + EDGE, "simulation.rim=9.5"),
            "twice the surrogate's cutoff 4.5 A and the Burgers vector",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_by_the_check(changes, words):
    with pytest.raises(ConfigError) as refused:
        estimate(loads(INPUT, changes), 1)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
