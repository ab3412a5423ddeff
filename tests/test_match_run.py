"""The stage match and the a posteriori estimate by input file."""

import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import run
from parmlip.report import draw, table
from parmlip.report.bounds import bound_scalars, read_bounds

INPUT = """
[run]
stages = ["build", "reference", "train", "match", "relax", "compare"]
output = "{output}"
[crystal]
lattice = "triangular"
species = ["W"]
[reference]
parameters = "W-Zhou"
taper = [4.6, 5.6]
[simulation]
cell = [14, 14]
defects = [{{ kind = "vacancy", at = [7, 7] }}]
[[training]]
name = "vacancy"
cell = [5, 5]
defects = [{{ kind = "vacancy", at = [0, 0] }}]
samples = 12
test_samples = 2
[[training]]
name = "perfect"
cell = [4, 4]
samples = 6
test_samples = 2
[surrogate]
correlation_order = 2
total_degree = 8
dimension = 2
cutoff = 6.0
[match]
samples = 5
ascent_steps = 2
"""
CONDITIONS = ("energy", "force", "force_constants", "force_constants_hom", "virial_0", "virial_1", "virial_2")


def done(path, *overrides, comm=MPI.COMM_SELF):
    run(loads(INPUT.format(output=path), overrides), comm)
    return ResultFile(path)


@pytest.mark.mpi(3)
def test_conditions_are_told_beside_their_rmse_on_any_number_of_ranks(comm, tmp_path, shared_tmp):
    alone, together = done(tmp_path / "alone.h5"), done(shared_tmp / "together.h5", comm=comm)
    for name in CONDITIONS:
        for what in ("error", "rmse", "reference"):
            value = alone.read("match", f"{name}_{what}")
            assert value == pytest.approx(together.read("match", f"{name}_{what}"), rel=1e-3, abs=1e-9), (name, what)
        assert alone.read("match", f"{name}_error") > 0.0
    for name in ("energy", "force"):
        cells = [alone.read("match", f"cells/{cell}/{name}_error") for cell in ("vacancy", "perfect")]
        assert alone.read("match", f"{name}_error") == max(cells) >= alone.read("match", f"{name}_random")


def test_the_estimate_of_the_geometry_error_is_near_the_true_one_and_its_parts_add_up(tmp_path):
    file = done(tmp_path / "run.h5")
    error = file.read("compare", "geometry_error")
    assert file.read("relax_surrogate", "geometry_error_estimate") == pytest.approx(error, rel=0.3)
    near, far = (file.read("compare", f"geometry_error_{part}") for part in ("core", "far"))
    assert (near**2 + far**2) ** 0.5 == pytest.approx(error, rel=1e-10)


def test_a_better_fit_matches_better_and_the_report_has_a_column_for_it(tmp_path):
    file = done(tmp_path / "run.h5", "sweep.surrogate.total_degree=[4, 12]", "training.samples=30")
    for name in ("energy", "force", "force_constants"):
        worse, better = (file.read("match", f"{name}_error", point) for point in (0, 1))
        assert better < 0.5 * worse, name
    if MPI.COMM_WORLD.rank == 0:
        assert "eps^FC_hom" in table(tmp_path / "run.h5")[0]


def test_without_a_reference_law_nothing_is_estimated_if_the_input_says_so(tmp_path):
    file = done(tmp_path / "run.h5", "relax.residual=false", 'run.stages=["build", "reference", "train", "relax"]')
    assert "residual_dual" not in file.names("relax_surrogate")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["match.samples=0"], r"\[match\] samples = 0"),
        (["match.radius=-0.1"], r"\[match\] radius = -0.1"),
    ],
)
def test_what_cannot_be_measured_is_told_at_once(overrides, told):
    with pytest.raises(ConfigError, match=told):
        loads(INPUT.format(output="run.h5"), overrides)


def test_training_cells_are_relaxed_once_for_all_points_of_a_sweep(tmp_path):
    file = done(tmp_path / "run.h5", "sweep.surrogate.total_degree=[4, 6]")
    told = (tmp_path / "run.log").read_text()
    assert told.count("training cell vacancy: newton") == told.count("training cell perfect: newton") == 1
    assert file.read("label", "centre/0").shape == (24, 2)
    assert abs(file.read("label", "centre/0")).max() > 0.01 > abs(file.read("label", "centre/1")).max()


def controlled_study(path, *overrides):
    text = INPUT.replace("taper = [4.6, 5.6]\n", "")
    text = text[: text.index('[[training]]\nname = "perfect"')] + text[text.index("[match]") :]
    given = (
        "reference.parameters=W-FS84", "surrogate.kind=taylor", "match.radius=1e-4",
        "relax.force_tolerance=1e-10", "simulation.cell=[40, 40]",
        "simulation.defects=[{kind = 'vacancy', at = [20, 20]}]",
    )  # fmt: skip
    return loads(text.format(output=path), (*given, *overrides))


def controlled(path, *overrides):
    run(controlled_study(path, *overrides), MPI.COMM_SELF)
    return ResultFile(path)


def test_advice_is_about_a_fit():
    with pytest.raises(ConfigError, match='"advise" is for a fitted surrogate'):
        controlled_study("run.h5", 'run.stages=["build", "reference", "train", "match", "relax", "advise"]')


def test_a_controlled_surrogate_has_the_force_constant_error_that_was_prescribed(tmp_path):
    file = controlled(tmp_path / "run.h5", "surrogate.force_constant_error=0.1")
    part = file.read("match", "force_constants_hom_error") / file.read("match", "force_constants_hom_reference")
    assert part == pytest.approx(0.1, rel=1e-6)
    alone = controlled(tmp_path / "alone.h5", "surrogate.near=1.0")
    for name in ("force_constants_error", "force_constants_hom_error", "force_random"):
        assert alone.read("match", name) < 1e-6  # exact where it was expanded, then wrong by third derivatives


def test_one_constant_of_the_theorem_from_small_domains_bounds_the_errors_of_the_larger_ones(tmp_path):
    path = tmp_path / "run.h5"
    sizes = ", ".join(f"[{n}, {n}]" for n in (4, 6, 8, 12))
    controlled(
        path, "sweep.surrogate.force_constant_error=[-0.1, 0.0, 0.1]", f'sweep."training.cell"=[{sizes}]',
        "sweep.crystal.lattice_constant=['relax']",  # so that no stage is common to all points
    )  # fmt: skip
    bounds = read_bounds(path)
    assert [t.cell_size for t in bounds.terms["random"]] == pytest.approx(bounds.length**-3.0)  # d = 2
    found = bound_scalars(path)
    assert found["bound.random.calibrated"] == found["bound.random.held_out"] == 6
    assert found["bound.random.held_out_obeyed"] == 6
    assert found["bound.random.ratio_least"] > 0.1  # within the theorem's form errors of a decade differ by few times
    lines = [line for line in table(path) if "held-out points obey it" in line]
    assert "6 of 6 held-out points obey it" in lines[0]
    assert any(figure.name == "run_bounds.png" for figure in draw(path, tmp_path))


WHOLE = """
[run]
stages = ["build", "reference", "train", "match"]
output = "{output}"
[crystal]
lattice = "fcc"
species = ["Cu"]
lattice_constant = 3.6
[reference]
kind = "ase"
calculator = "ase.calculators.emt.EMT"
[simulation]
cell = [2, 2, 2]
[[training]]
cell = [2, 2, 2]
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
samples = 6
test_samples = 2
[surrogate]
correlation_order = 2
total_degree = 8
cutoff = 5.0
[relax]
force_tolerance = 1e-3
[match]
samples = 2
ascent_steps = 0
"""


def test_a_law_of_whole_structures_is_matched_but_for_derivatives_of_its_energy_density(tmp_path):
    run(loads(WHOLE.format(output=tmp_path / "run.h5")), MPI.COMM_SELF)
    file = ResultFile(tmp_path / "run.h5")
    for name in ("energy", "force", "force_constants", "force_constants_hom"):
        assert 0.0 < file.read("match", f"{name}_error") < 0.3 * file.read("match", f"{name}_reference"), name
    assert not any(name.startswith("virial") for name in file.names("match"))
    told = (tmp_path / "run.log").read_text()
    assert "eps^V_j are not measured" in told
