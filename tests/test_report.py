"""Tables and figures from result files that no calculation has made."""

import numpy as np
import pytest

from parmlip.errors import DataError
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.report import draw, table
from parmlip.report.labels import plain_ticks
from parmlip.report.sweep import read_sweep

RNG = np.random.default_rng(4)
PNG = b"\x89PNG\r\n\x1a\n"


def displacement_fields():
    """A displacement that decays as r^-2 round two vacancies, and a surrogate's with an error of its own."""
    cells = np.stack(np.meshgrid(*[np.arange(11)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = 3.14 * np.concatenate([cells, cells + 0.5])
    defects = 3.14 * np.array([[5.0, 5.0, 5.0], [7.0, 5.0, 5.0]])
    distance = np.linalg.norm(sites[:, None] - defects, axis=-1).min(axis=1)
    sites, distance = sites[distance > 0.0], distance[distance > 0.0]
    decay = distance[:, None] ** -2.0 * RNG.uniform(0.3, 1.0, (len(sites), 1))
    reference = 0.4 * decay * RNG.standard_normal((len(sites), 3)) / np.sqrt(3)
    difference = 4e-3 * decay * RNG.standard_normal((len(sites), 3))
    return distance, reference, reference + difference


def stages(rmse=3e-3, n_basis=211, same_basin=True, error=0.02):
    distance, reference, surrogate = displacement_fields()
    forces = RNG.standard_normal(3000)
    train = {
        "rmse_energy": Field(0.05 * rmse, "eV"), "rmse_force": Field(0.9 * rmse, "eV/A"), "n_basis": Field(n_basis),
        "rank": Field(n_basis - 3), "test_rmse_energy": Field(0.06 * rmse, "eV"),
        "test_rmse_force": Field(rmse, "eV/A"),
        "test_forces_reference": Field(forces, "eV/A"),
        "test_forces_surrogate": Field(forces + rmse * RNG.standard_normal(3000), "eV/A"),
    }  # fmt: skip
    compare = {
        "geometry_error": Field(error, "A"), "energy_error": Field(0.3 * error**1.2, "eV"),
        "formation_energy_error": Field(0.5 * error**1.1, "eV"), "same_basin": Field(same_basin),
        "distance": Field(distance, "A"), "displacement_reference": Field(np.linalg.norm(reference, axis=1), "A"),
        "displacement_surrogate": Field(np.linalg.norm(surrogate, axis=1), "A"),
        "displacement_difference": Field(np.linalg.norm(reference - surrogate, axis=1), "A"),
    }  # fmt: skip
    return train, compare


@pytest.fixture
def single(tmp_path):
    file = ResultFile(tmp_path / "single.h5")
    file.create({"version": "0"})
    file.write_stage("build", {"n_sites": Field(2660), "dimension": Field(3), "lattice_constant": Field(3.14339, "A")})
    train, compare = stages()
    file.write_stage("train", train)
    file.write_stage("compare", compare)
    return file.path


@pytest.fixture
def swept(tmp_path):
    """Six points, geometry error ~ RMSE^1.05; the first in another basin."""
    file = ResultFile(tmp_path / "swept.h5")
    file.create({"version": "0"})
    file.write_stage("build", {"n_sites": Field(2660), "dimension": Field(3)})
    scatter = [0.0, 0.05, -0.06, 0.02, 0.04, -0.05]
    for i, (degree, rmse) in enumerate(zip([4, 6, 8, 10, 12, 14], [0.3, 8e-2, 2.5e-2, 8e-3, 3e-3, 1e-3], strict=True)):
        error = 5.0 if i == 0 else 2.0 * rmse**1.05 * np.exp(scatter[i])
        train, compare = stages(rmse, 20 * degree, i > 0, error)
        values = {"surrogate.total_degree": degree}
        file.write_stage("train", train, point=i, swept=values)
        file.write_stage("compare", compare, point=i, swept=values)
    return file.path


def test_the_slopes_of_a_sweep_leave_other_basins_out(swept):
    sweep = read_sweep(swept)
    assert sweep.labels == ("4", "6", "8", "10", "12", "14")
    assert sweep.test
    slope = sweep.slope("geometry_error")
    assert slope.n == 5
    assert slope.slope == pytest.approx(1.05, abs=0.05)
    assert sweep.slope("energy_error").slope == pytest.approx(1.2 * slope.slope, rel=1e-6)


def test_the_table_of_a_sweep_has_a_row_for_each_point_and_the_slopes(swept):
    lines = table(swept)
    assert (lines[0].split()[0], lines[1].split()[0]) == ("total_degree", "[surrogate]")
    assert len({len(line) for line in lines[3:9]} | {len(lines[0])}) == 1
    assert [line.split()[0] for line in lines[3:9]] == ["4", "6", "8", "10", "12", "14"]
    assert lines[3].endswith("no")
    assert lines[8].endswith("yes")
    text = "\n".join(lines[9:])
    assert "geometry error ~ (force RMSE)^1.0" in text
    assert "theory 1" in text
    assert "theory 2" in text
    assert "1 point in another basin" in text


def test_the_table_of_a_single_run_has_every_scalar_with_its_unit(single):
    lines = table(single)
    assert any(line.startswith("build.lattice_constant") and line.endswith("3.14339  A") for line in lines)
    assert any(line.startswith("compare.same_basin") and "yes" in line for line in lines)


@pytest.mark.parametrize("name", ["single", "swept"])
def test_figures_are_drawn_from_the_file_alone(name, request, tmp_path):
    path = request.getfixturevalue(name)
    figures = draw(path, tmp_path / "figures", formats=("png", "pdf"))
    expected = {f"{name}_summary"} | ({"swept_errors"} if name == "swept" else set())
    assert {f.stem for f in figures} == expected
    for figure in figures:
        content = figure.read_bytes()
        assert content.startswith(PNG if figure.suffix == ".png" else b"%PDF")
        assert len(content) > 10_000


def test_a_file_without_results_has_no_figures_and_says_so(tmp_path):
    file = ResultFile(tmp_path / "empty.h5")
    file.create({"version": "0"})
    assert draw(file.path, tmp_path) == []
    assert table(file.path) == ["no results yet"]


def test_a_sweep_of_one_point_and_perfect_agreement_can_be_drawn(tmp_path):
    file = ResultFile(tmp_path / "one.h5")
    file.create({"version": "0"})
    train, compare = stages()
    zero = Field(np.zeros(2660), "A")
    train["test_forces_surrogate"] = train["test_forces_reference"]
    compare |= {"geometry_error": Field(0.0, "A"), "energy_error": Field(0.0, "eV"), "displacement_difference": zero}
    compare["formation_energy_error"] = Field(0.0, "eV")
    file.write_stage("train", train, point=0, swept={"surrogate.total_degree": 8})
    file.write_stage("compare", compare, point=0, swept={"surrogate.total_degree": 8})
    assert {f.stem for f in draw(file.path, tmp_path)} == {"one_errors", "one_summary"}
    assert "0.000e+00" in "\n".join(table(file.path))


def test_force_errors_within_a_decade_get_readable_ticks(tmp_path):
    file = ResultFile(tmp_path / "narrow.h5")
    file.create({"version": "0"})
    for i, (rmse, error) in enumerate([(0.18, 30.0), (0.163, 0.44), (0.16, 0.4)]):
        train, compare = stages(rmse, 25, i > 0, error)
        compare["displacement_reference"].value[0] = 1e-16  # a site that symmetry holds still
        file.write_stage("train", train, point=i, swept={"surrogate.total_degree": 6 + 2 * i})
        file.write_stage("compare", compare, point=i, swept={"surrogate.total_degree": 6 + 2 * i})
    assert len(draw(file.path, tmp_path)) == 2


def test_a_reference_that_did_not_move_can_be_drawn(tmp_path):
    file = ResultFile(tmp_path / "still.h5")
    file.create({"version": "0"})
    _, compare = stages()
    still = Field(np.zeros(2660), "A")
    file.write_stage(
        "compare", compare | {f"displacement_{k}": still for k in ("reference", "surrogate", "difference")}
    )
    assert [f.stem for f in draw(file.path, tmp_path)] == ["still_summary"]


def test_figures_that_cannot_be_written_are_an_error(single, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write a figure"):
        draw(single, tmp_path / "file")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        table(tmp_path / "none.h5")


@pytest.mark.parametrize(("low", "high", "most"), [(0.00726, 0.00735, 6), (0.0009, 0.02, 6), (1.0, 1000.0, 10)])
def test_ticks_of_an_axis_are_few_however_short_it_is(low, high, most):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    plain_ticks(axes.xaxis)
    ticks = np.array(axes.xaxis.get_majorticklocs())
    assert 2 <= np.count_nonzero((ticks >= low) & (ticks <= high)) <= most
