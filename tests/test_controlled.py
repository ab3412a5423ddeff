"""Controlled surrogates from the input: the rates of the theory without a fit (Ortner, Wang 2022, table 1)."""

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.analysis.errors import fit_slope
from parmlip.config import loads
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import run
from parmlip.report import draw, table

INPUT = """
[run]
stages = ["build", "reference", "train", "relax", "compare"]
output = "{output}"
[crystal]
lattice = "triangular"
species = ["W"]
[reference]
parameters = "W-FS84"
[simulation]
cell = [60, 60]
defects = [{{ kind = "vacancy", at = [30, 30] }}]
[[training]]
name = "vacancy"
cell = [8, 8]
defects = [{{ kind = "vacancy", at = [0, 0] }}]
[surrogate]
kind = "taylor"
[relax]
force_tolerance = 1e-11
"""
SIZES = [4, 6, 8, 10, 12, 16, 20]
CELLS = '"training.cell"=[' + ", ".join(f"[{n}, {n}]" for n in SIZES) + "]"


def done(path, *overrides, comm=MPI.COMM_SELF):
    run(loads(INPUT.format(output=path), overrides), comm)
    return ResultFile(path)


def slopes(path, *overrides):
    """Of the geometry and of the formation energy against L."""
    file = done(path, f"sweep.{CELLS}", *overrides)
    size = [file.read("train", "domain_size", i) for i in range(len(SIZES))]
    np.testing.assert_allclose(size, SIZES)
    names = ("geometry_error", "formation_energy_error")
    errors = [[file.read("compare", name, i) for i in range(len(SIZES))] for name in names]
    told = [line for line in table(file.path) if "~ L^" in line]
    figures = draw(file.path, file.path.parent)
    assert any(figure.name == f"{file.path.stem}_domain.png" for figure in figures)
    found = [fit_slope(size, error).slope for error in errors]
    for line, name, slope in zip(told[::2], ("geometry error", "formation energy error"), found, strict=True):
        assert line.startswith(f"{name} ~ L^{slope:.2f} over {len(SIZES)} points")
    return found


def test_without_mismatch_the_geometry_error_falls_at_least_as_the_third_power_of_the_training_domain(tmp_path):
    geometry, energy = slopes(tmp_path / "order2.h5")
    assert -4.2 < geometry <= -3.0
    assert energy < -3.0


@pytest.mark.parametrize("order", [2, 3])
def test_wrong_force_constants_leave_a_geometry_error_that_falls_as_one_over_the_training_domain(tmp_path, order):
    given = (f"surrogate.order={order}", "surrogate.force_constant_error=0.1")
    geometry, energy = slopes(tmp_path / f"order{order}.h5", *given)
    assert geometry == pytest.approx(-1.0, abs=0.25)
    assert energy == pytest.approx(-2.0, abs=0.25)


def test_at_second_order_the_truncation_adds_to_soft_force_constants_and_hides_stiff_ones_in_small_domains(tmp_path):
    def error(mismatch, n):
        given = (f"surrogate.force_constant_error={mismatch}", f"training.cell=[{n}, {n}]")
        return done(tmp_path / f"{mismatch}_{n}.h5", *given).read("compare", "geometry_error")

    assert error(-0.1, 4) > 2.5 * error(0.1, 4)
    assert error(-0.1, 20) == pytest.approx(error(0.1, 20), rel=0.15)  # there the truncation is a sixtieth of either


def test_sites_at_half_the_length_see_two_images_of_the_defect_and_are_not_near_it(tmp_path):
    """The training domain is open (section 3): with the rim the slope of [2, 4, ...] would be -0.63."""
    given = ("simulation.cell=[8, 8]", "simulation.defects=[{kind = 'vacancy', at = [4, 4]}]", "training.cell=[4, 4]")
    file = done(tmp_path / "rim.h5", *given)
    same = done(tmp_path / "within.h5", *given, "surrogate.near=0.49")
    wider = done(tmp_path / "with.h5", *given, "surrogate.near=0.51")
    error = file.read("compare", "geometry_error")
    assert error == same.read("compare", "geometry_error") != wider.read("compare", "geometry_error")


@pytest.mark.mpi(2, 3)
@pytest.mark.parametrize(
    "defect",
    [
        'kind = "vacancy", at = [{n}, {n}]',
        'kind = "divacancy", at = [{n}, {n}], direction = [1, 0]',
        'kind = "interstitial", site = "crowdion", at = [{n}, {n}]',
    ],
)
def test_about_the_equilibrium_of_the_whole_cell_the_expansion_has_the_same_equilibrium(comm, shared_tmp, defect):
    there, here = ("{ " + defect.format(n=n) + " }" for n in (5, 2))
    file = done(
        shared_tmp / f"{defect[8:11]}.h5", "simulation.cell=[10, 10]", f"simulation.defects=[{there}]",
        "training.cell=[10, 10]", f"training.defects=[{here}]", "surrogate.near=1.0", "relax.force_tolerance=1e-9",
        "surrogate.force_constant_error=0.1", comm=comm,
    )  # fmt: skip
    if comm.rank == 0:
        assert file.read("compare", "geometry_error") < 1e-7
        assert file.read("compare", "geometry_norm") > 0.1


def test_the_mismatch_scales_the_elastic_constants_of_the_crystal(tmp_path):
    file = done(
        tmp_path / "lattice.h5", "run.stages=['build', 'reference', 'train']", "surrogate.states=lattice",
        "surrogate.force_constant_error=0.1", "simulation.cell=[6, 6]", "simulation.defects=[]",
    )  # fmt: skip
    for name in ("C11", "C66"):
        assert file.read("train", name) == pytest.approx(1.1 * file.read("reference", name), rel=1e-9)


BAD = [
    (["surrogate.order=1"], "[surrogate] order = 1: must be at least 2"),
    (["surrogate.kind=ace", "surrogate.order=3"], '[surrogate] order = 3: is for kind = "taylor"'),
    (["training.defects=[]"], '[[training]] 1 defects: must be one with [surrogate] kind = "taylor", not 0'),
    (["fit.committee=4"], '[fit] committee = 4: must be 0 with [surrogate] kind = "taylor", which is not fitted'),
    (["surrogate.force_constant_error=-1.0"], "[surrogate] force_constant_error = -1.0: must be greater than -1"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD)
def test_what_does_not_fit_together_is_told_before_any_work(overrides, message):
    with pytest.raises(ConfigError) as caught:
        loads(INPUT.format(output="x.h5"), overrides)
    assert message in str(caught.value)


def test_a_defect_without_a_training_cell_of_its_own_is_told(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no \[\[training\]\] has the defect \[simulation\] defects\[0\] \(vacancy\)"
    ):
        done(
            tmp_path / "no.h5", "simulation.cell=[8, 8]", "simulation.defects=[{kind = 'vacancy', at = [4, 4]}]",
            "training.defects=[{kind = 'interstitial', site = 'crowdion', at = [0, 0]}]",
        )  # fmt: skip
