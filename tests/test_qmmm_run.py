"""QM/MM through the command line: errors and rates told, ghost forces, ranks, resuming, structures with regions."""

from __future__ import annotations

import ase.io
import h5py
import numpy as np
import pytest

from parmlip.config import loads
from parmlip.construct import lattice, reference_law
from parmlip.construct_qmmm import check_everywhere, coupling, radius_warnings
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.regions import NAMES
from parmlip.errors import ConfigError
from parmlip.io.equilibria import relaxed_structures
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.pipeline import check_chain
from parmlip.report.qmmm_table import read_coupled
from tests.program import alone_and_together, parmlip, results

INPUT = """
[run]
stages = ["build", "reference", "train", "relax", "qmmm", "report"]

[crystal]
lattice = "triangular"
species = ["W"]

[reference]
parameters = "W-Zhou"
taper = [3.8, 5.0]

[simulation]
domain = "disc"
radius = 40.0
defects = [{ kind = "vacancy", at = [0, 0] }]

[surrogate]
kind = "taylor"
states = "lattice"

[relax]
laws = ["reference"]
force_tolerance = 1e-10

[qmmm]
kind = "force"
radius = 12.0

[report]
figure = false
"""
SWEEP = """
[sweep]
"qmmm.kind" = ["energy", "force"]
"qmmm.radius" = [9.0, 12.0, 15.0, 18.0]
"""


def study(*overrides):
    return loads(INPUT, overrides)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    directory = tmp_path_factory.mktemp("qmmm")
    (directory / "run.toml").write_text(INPUT + SWEEP)
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_with_a_second_order_mm_law_the_error_of_a_vacancy_falls_with_the_cube_of_the_radius(swept):
    """K_E = 2 and K_F = 1 of Chen, Ortner & Wang (2021), table 3.1: R^-3; few radii of a small disc fall faster."""
    energy, force = read_coupled(swept / "run.h5")
    assert (energy.kind, force.kind) == ("energy", "force")
    for one in (energy, force):
        assert one.rate == -3.0
        assert one.same_basin.all()
        assert abs(one.slope("geometry_error").slope + 3.0) < 0.6
        assert abs(one.slope("energy_excess").slope + 6.0) < 1.2
        assert (np.diff(one.errors["geometry_error"]) < 0.0).all()


def test_points_start_from_the_equilibrium_with_a_smaller_qm_region_of_the_same_kind(swept):
    found = results(swept / "run.h5")
    starts = [found[f"sweep.{i}.qmmm.start"] for i in range(8)]
    assert starts == ["qm", "point 0", "point 1", "point 2", "qm", "point 4", "point 5", "point 6"]
    assert found["sweep.5.qmmm.iterations"] < found["sweep.4.qmmm.iterations"] + 1


def test_the_table_tells_errors_slopes_and_the_rates_of_the_theory(swept):
    text = parmlip(swept, "report", "run.h5").stdout
    assert "QM/MM error" in text
    assert "force mixing, geometry error ~ R_QM^-" in text
    assert "; theory R_QM^-3" in text


def test_a_killed_sweep_goes_on_at_the_point_where_it_stopped(swept, tmp_path):
    (tmp_path / "run.toml").write_text(INPUT + SWEEP)
    (tmp_path / "run.h5").write_bytes((swept / "run.h5").read_bytes())
    with h5py.File(tmp_path / "run.h5", "a") as file:
        del file["sweep/7"], file["report"]
    done = parmlip(tmp_path, "run.toml", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("starts from the equilibrium with R_QM") == 1
    before, after = (results(d / "run.h5")["sweep.7.qmmm.geometry_error"] for d in (swept, tmp_path))
    assert after == pytest.approx(before, rel=1e-3)  # of the same start: to the rounding of the relaxation


def test_one_law_everywhere_is_that_law(tmp_path):
    (tmp_path / "run.toml").write_text(INPUT)
    for kind in ("energy", "force"):
        done = parmlip(
            tmp_path, "run.toml", "--overwrite", "--set", f"qmmm.kind={kind}", "--set", "qmmm.mm=reference",
            "--set", 'run.stages=["build","reference","relax","qmmm"]',
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found = results(tmp_path / "run.h5")
        assert found["qmmm.geometry_error"] < 1e-8
        assert abs(found["qmmm.energy_excess"]) < 1e-12
        assert found["qmmm.ghost_force"] < 1e-12


def test_an_mm_law_that_does_not_match_has_ghost_forces_which_force_mixing_does_not_see(tmp_path):
    (tmp_path / "run.toml").write_text(INPUT)
    errors = {}
    for kind, correction in (("energy", "false"), ("energy", "true"), ("force", "true")):
        end = parmlip(
            tmp_path, "run.toml", "--overwrite", "--set", f"qmmm.kind={kind}", "--set", f"qmmm.correction={correction}",
            "--set", "qmmm.mm=law", "--set", 'qmmm.mm_law={ parameters = "W-FS84" }',
            "--set", 'run.stages=["build","reference","relax","qmmm"]',
        )  # fmt: skip
        assert end.returncode == 0, end.stdout + end.stderr
        found = results(tmp_path / "run.h5")
        assert found["qmmm.ghost_force"] == pytest.approx(8.7e-3, rel=0.1)
        errors[kind, correction] = found["qmmm.geometry_error"]
    assert errors["energy", "false"] > 2.0 * errors["energy", "true"]
    assert errors["energy", "false"] > 2.0 * errors["force", "true"]


@pytest.mark.mpi(3)
@pytest.mark.parametrize("kind", ["energy", "force"])
def test_runs_on_several_ranks_agree_and_structures_carry_their_regions(kind, shared_tmp, comm):
    text = INPUT.replace("radius = 40.0", "radius = 30.0").replace('kind = "force"', f'kind = "{kind}"')
    paths = alone_and_together(text + "structures = true\n", shared_tmp, comm)
    if comm.rank == 0:
        (one, u_ad, region), (several, v_ad, its_region) = (
            (scalars(path), ResultFile(path).read("qmmm", "displacement"), ResultFile(path).read("qmmm", "region"))
            for path in paths
        )
        np.testing.assert_allclose(v_ad, u_ad, atol=1e-8)
        np.testing.assert_array_equal(its_region, region)
        assert abs(several["qmmm.geometry_error"] - one["qmmm.geometry_error"]) < 1e-8
        for path in paths:
            for of in ("qmmm", "reference"):
                atoms = ase.io.read(path.parent / f"run_{of}.xyz", parallel=False)
                np.testing.assert_array_equal(atoms.arrays["region"], np.array(NAMES)[region])


def test_the_structure_that_a_sweep_shares_carries_the_regions_of_every_point(swept):
    found, file = relaxed_structures(swept / "run.h5"), ResultFile(swept / "run.h5")
    for point in range(8):
        region = np.array(NAMES)[file.read("qmmm", "region", point)]
        np.testing.assert_array_equal(found["reference"].arrays[f"region_{point}"], region)
        np.testing.assert_array_equal(found[f"qmmm_{point}"].arrays["region"], region)


def test_regions_lie_about_the_middle_of_their_defects():
    of = (lattice_named("triangular"), 2.7)

    def nearest(defect):
        """The four least distances of sites from the core, lattice constants."""
        found = coupling(study(f"simulation.defects=[{{ {defect} }}]"), of)
        return np.sort(found.regions.distance_a)[:4] / of[1]

    np.testing.assert_allclose(nearest('kind = "vacancy", at = [1, 2]'), 1.0, rtol=1e-9)
    near = nearest('kind = "interstitial", site = "triangle_centre", at = [1, 0]')
    np.testing.assert_allclose(near[0], 0.0, atol=1e-9)  # itself, among three sites
    np.testing.assert_allclose(near[1:], 1.0 / np.sqrt(3.0), rtol=1e-9)
    # the two sites beside the bond of the divacancy
    np.testing.assert_allclose(nearest('kind = "divacancy", at = [0, 1], direction = [1, 0]')[:2], 0.75**0.5, rtol=1e-9)


@pytest.mark.parametrize("kind", ["energy", "force"])
def test_a_tolerance_lets_the_qm_region_grow_until_the_estimate_which_is_the_error_is_below(tmp_path, kind):
    (tmp_path / "run.toml").write_text(INPUT)
    keys = ("radius=7.0", "tolerance=6e-4", f'kind="{kind}"')
    done = parmlip(tmp_path, "run.toml", *(part for key in keys for part in ("--set", f"qmmm.{key}")))
    assert done.returncode == 0, done.stdout + done.stderr
    values, file = scalars(tmp_path / "run.h5"), ResultFile(tmp_path / "run.h5")
    growth = file.read("qmmm", "growth")
    assert len(growth["radius_angstrom"]) > 1
    assert (np.diff(growth["n_qm"]) > 0).all()
    wrong = np.abs(growth["estimate"] / growth["geometry_error"] - 1.0)  # of first order in the error
    assert wrong[0] < 0.15
    assert (wrong[1:] < 0.02).all()
    assert (growth["estimate"][:-1] > 6e-4).all()
    assert growth["estimate"][-1] <= 6e-4
    assert values["qmmm.tolerance_met"]
    assert values["qmmm.radius_angstrom"] == growth["radius_angstrom"][-1]
    assert values["qmmm.geometry_error"] == growth["geometry_error"][-1]
    assert values["qmmm.start"].startswith("R_QM = ")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_tolerance_is_met_by_a_sample_that_tells_the_error_not_by_noise(tmp_path, seed):
    """A dozen sites tell nothing: more are asked until the estimate is at least its noise."""
    (tmp_path / "run.toml").write_text(INPUT)
    keys = (f"run.seed={seed}", "qmmm.radius=9.0", "qmmm.tolerance=6e-4", "qmmm.samples=12")
    done = parmlip(tmp_path, "run.toml", *(part for key in keys for part in ("--set", key)))
    assert done.returncode == 0, done.stdout + done.stderr
    values, growth = scalars(tmp_path / "run.h5"), ResultFile(tmp_path / "run.h5").read("qmmm", "growth")
    assert values["qmmm.tolerance_met"]
    assert growth["geometry_error"][-1] < 6e-4
    assert 0.0 < growth["noise"][-1] <= growth["estimate"][-1] <= 6e-4 - growth["noise"][-1]
    assert values["qmmm.n_samples"] > 20


def test_a_tolerance_that_the_domain_is_too_small_for_is_told_and_the_largest_region_kept(tmp_path):
    (tmp_path / "run.toml").write_text(INPUT)
    keys = ("radius=14.0", "tolerance=1e-9", "samples=20")
    done = parmlip(tmp_path, "run.toml", *(part for key in keys for part in ("--set", f"qmmm.{key}")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "[qmmm] tolerance = 1e-09 A is not met: no larger QM region fits into [simulation] radius = 40" in done.stdout
    )
    values = scalars(tmp_path / "run.h5")
    assert not values["qmmm.tolerance_met"]
    assert 28.0 < values["qmmm.radius_angstrom"] < 29.5  # with the buffer of 10.5 A within 40 A
    assert values["qmmm.geometry_error_estimate_noise"] > 0.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("simulation={ radius = 40.0 }", '"qmmm" needs a far field that stands still: [simulation] domain = "disc"'),
        ("simulation={ cell = [8, 8] }", '"qmmm" needs a far field that stands still: [simulation] domain = "disc"'),
        ("simulation.defects=[]", '"qmmm" needs defects or dislocations in [simulation]'),
        ("qmmm.mm=law", '[qmmm] mm_law: is for mm = "law", which needs it'),
        ('qmmm.mm_law={ parameters = "W-FS84" }', '[qmmm] mm_law: is for mm = "law", which needs it'),
        ("qmmm.radius=[5.0, 6.0]", "[qmmm] radius = [5.0, 6.0]: must be a number or a list of 1, one for each defect"),
        ('relax.laws=["surrogate"]', '[qmmm] truth: needs "reference" in [relax] laws; or write truth = false'),
    ],
)
def test_couplings_that_cannot_be_are_refused_by_the_input(override, message):
    with pytest.raises(ConfigError) as caught:
        study(override)
    assert message in str(caught.value)


def test_the_equilibrium_of_the_reference_is_asked_for_only_where_errors_are_wanted(tmp_path):
    without = ('run.stages=["build", "reference", "train", "qmmm"]', "relax.laws=['reference']")
    with pytest.raises(ConfigError) as caught:
        check_chain(study(*without))
    assert str(caught.value) == (
        '[run] stages: "qmmm" needs "relax" before it; write ["build", "reference", "train", "relax", "qmmm"], or '
        "[qmmm] truth = false where no errors against the reference everywhere are wanted"
    )
    (tmp_path / "run.toml").write_text(INPUT.replace('"relax", ', ""))
    done = parmlip(tmp_path, "run.toml", "--set", "qmmm.truth=false", "--set", "simulation.radius=26.0")
    assert done.returncode == 0, done.stdout + done.stderr
    found = results(tmp_path / "run.h5")
    assert found["qmmm.residual_force"] <= 1e-10
    assert not {"qmmm.geometry_error", "relax_reference.energy"} & set(found)
    with pytest.raises(ConfigError, match=r'"qmmm" needs "train" before it; write \["build", "reference", "train", "q'):
        check_chain(study('run.stages=["build", "reference", "qmmm"]', "qmmm.truth=false"))


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ('{ parametres = "W-FS84" }', "[qmmm] mm_law unknown key 'parametres'; did you mean 'parameters'?"),
        ('{ parameters = "W-FS85" }', '[qmmm] mm_law parameters = "W-FS85": must be one of'),
        (
            '{ kind = "ase", calculator = "ase.calculators.emt.EMT" }',
            '[qmmm] mm_law: kind = "ase" has no site energies',
        ),
    ],
)
def test_mm_laws_that_cannot_be_are_refused(law, message):
    with pytest.raises(ConfigError) as caught:
        study("qmmm.mm=law", f"qmmm.mm_law={law}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("qmmm.buffer=9.0", "[qmmm] buffer = 9: must be at least 10 A, twice the reference's cutoff"),
        ("qmmm.buffer=0", "[qmmm] buffer = 0: must be at least 10 A, twice the reference's cutoff"),
        ("qmmm.buffer=-1.0", "[qmmm] buffer = -1: must be at least 10 A, twice the reference's cutoff"),
        ("qmmm.radius=35.0", "[qmmm] radius = 35: with the buffer of 10.5 A it must end within the free region"),
        ("qmmm.radius=1.0", "[qmmm] radius = 1: holds no site"),
    ],
)
def test_regions_that_cannot_be_are_refused_before_any_work(override, message):
    one = study(override)
    with pytest.raises(ConfigError) as caught:
        check_everywhere(one, lattice(one, reference_law(one)))
    assert message in str(caught.value)


def test_an_mm_law_without_a_species_of_the_crystal_is_refused_before_any_work():
    one = study("qmmm.mm=law", 'qmmm.mm_law={ parameters = "Cu-Mishin2001" }', "simulation.rim=16.0")
    with pytest.raises(ConfigError, match=r"\[qmmm\] mm_law: has no parameters for W, only for Cu"):
        check_everywhere(one, lattice(one, reference_law(one)))


def test_a_qm_region_within_the_reach_of_the_mm_law_is_told():
    (line,) = radius_warnings(study("qmmm.radius=3.0"))
    assert line.startswith("[qmmm] radius = 3: is less than the MM law's cutoff 5 A, so that MM sites see the core")
    assert radius_warnings(study("qmmm.radius=5.0")) == []
    assert len(radius_warnings(study("sweep.qmmm.radius=[12.0, 4.0, 3.0]"))) == 2
    assert radius_warnings(study("qmmm.radius=3.0", "qmmm.mm=reference")) == []


def test_radii_of_several_cores_are_all_kept(tmp_path):
    text = INPUT.replace(
        '{ kind = "vacancy", at = [0, 0] }', '{ kind = "vacancy", at = [-5, 0] }, { kind = "vacancy", at = [5, 0] }'
    )
    (tmp_path / "run.toml").write_text(text)
    keys = ("qmmm.radius=[8.0, 9.0]", "qmmm.truth=false", 'run.stages=["build","reference","train","qmmm"]')
    done = parmlip(tmp_path, "run.toml", *(part for key in keys for part in ("--set", key)))
    assert done.returncode == 0, done.stdout + done.stderr
    file = ResultFile(tmp_path / "run.h5")
    assert list(file.read("qmmm", "radii_angstrom")) == [8.0, 9.0]
    assert file.read("qmmm", "radius_angstrom") == 9.0
