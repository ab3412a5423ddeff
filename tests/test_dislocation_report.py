"""Errors of dislocated cells over sweeps of the loss, the basis and the training domain: what reports tell and draw."""

import numpy as np
import pytest

from parmlip.io.hdf5 import Field, ResultFile
from parmlip.report import draw, table
from parmlip.report.dislocation_figure import shown_quantities
from parmlip.report.dislocations import line_slopes, read_line_series

PNG = b"\x89PNG\r\n\x1a\n"
LEVEL = {"none": 40.0, "linear": 10.0, "nonlinear": 2.5}  # errors of the losses lie apart: mixed they have no slope
CONFIG = '[simulation]\ndislocations = { kind = "quadrupole" }\n[fit]\nelasticity = "linear"\n'


def compared(error, radius=5.0, same=True):
    """Geometry errors of `error`, of which exp(-r / 10) is farther than r from the cores."""
    radii = np.arange(11.0)
    return {
        "geometry_error": Field(error, "A"), "energy_error": Field(0.1 * error**2, "eV"), "same_basin": Field(same),
        "geometry_error_far": Field(error * np.exp(-radius / 10.0), "A"), "core_radius": Field(radius, "A"),
        "beyond_radius": Field(radii, "A"), "geometry_error_beyond": Field(error * np.exp(-radii / 10.0), "A"),
        "max_core_shift": Field(0.01 * error, "A"),
    }  # fmt: skip


def trained(rmse, size):
    return {
        "test_rmse_force": Field(rmse, "eV/A"), "test_rmse_energy": Field(rmse**2, "eV"), "domain_size": Field(size),
    }  # fmt: skip


def result(path, points, config=CONFIG):
    """A file of (swept values, train, compare)."""
    file = ResultFile(path)
    file.create({"version": "0", "config": config})
    file.write_stage("build", {"n_sites": Field(800), "dimension": Field(3), "core_separation": Field(28.0, "A")})
    for i, (swept, train, compare) in enumerate(points):
        file.write_stage("train", train, point=i, swept=swept)
        file.write_stage("compare", compare, point=i, swept=swept)
    return path


@pytest.fixture
def of_degrees(tmp_path):
    """Losses and degrees at one L; each loss has its own RMSE and errors of slope 1."""
    points = []
    for loss, level in LEVEL.items():
        for n, degree in enumerate([8, 10, 12, 14]):
            rmse = 0.03 * 2.0**-n * (1.0 + level / 100.0)
            same = not (loss == "none" and n == 0)
            swept = {"fit.elasticity": loss, "surrogate.total_degree": degree}
            points.append((swept, trained(rmse, 8.0), compared(level * rmse if same else 50.0, same=same)))
    return result(tmp_path / "degrees.h5", points)


@pytest.fixture
def of_domains(tmp_path):
    """Losses, degrees and training cells; errors fall as theory has it by the loss, the core radius is L / 2."""
    power = {"none": 0.0, "linear": -1.0, "nonlinear": -2.0}
    points = []
    for size in (8.0, 10.0, 12.0, 16.0):
        for loss, level in LEVEL.items():
            for degree in (8, 10):
                rmse = 0.1 / degree
                swept = {"training.cell": [int(size), 4, 1], "fit.elasticity": loss, "surrogate.total_degree": degree}
                error = level * rmse * (size / 8.0) ** power[loss]
                points.append((swept, trained(rmse, size), compared(error, 0.5 * size)))
    return result(tmp_path / "domains.h5", points)


def test_a_sweep_of_losses_and_degrees_has_a_series_and_a_slope_for_each_loss(of_degrees):
    series = read_line_series(of_degrees)
    assert [one.label for one in series] == ["no elasticity", "CLE", "CLE + nonlinear"]
    assert [one.slope("geometry_error") is not None for one in series] == [False, True, True]  # three points are left
    for one in series[1:]:
        assert one.slope("geometry_error").slope == pytest.approx(1.0)
        assert one.slope("energy_error").slope == pytest.approx(2.0)
        assert one.theory("geometry_error") == 1.0
    text = "\n".join(table(of_degrees))
    assert "CLE: geometry error ~ (force RMSE)^1.00 over 4 points" in text
    assert "1 point in another basin, not in the fits" in text
    assert "core shift" in text.splitlines()[0]


def test_slopes_against_the_training_domain_stand_beside_those_that_theory_has_for_their_loss(of_domains):
    against_l = [one for one in read_line_series(of_domains) if one.against == "L"]
    assert len(against_l) == 6
    for one in against_l:
        assert one.slope("geometry_error").slope == pytest.approx(one.theory("geometry_error"), abs=1e-9)
        assert one.loss in LEVEL
    lines = line_slopes(against_l)
    assert any(line.startswith("total degree 8, CLE: geometry error ~ L^-1.00 over 4 points") for line in lines)
    assert any("total degree 10, CLE + nonlinear: geometry error ~ L^-2.00" in line for line in lines)


def test_far_field_errors_of_a_sweep_are_those_beyond_one_radius(of_domains):
    """Beyond L / 2 they would fall with L even if errors did not."""
    one = next(s for s in read_line_series(of_domains) if s.against == "L" and s.loss == "none")
    np.testing.assert_allclose(one.errors["geometry_error_far"], one.errors["geometry_error"] * np.exp(-0.8))


def test_series_against_the_force_rmse_are_told_apart_by_the_training_domain(tmp_path):
    points = []
    for size, level in ((8.0, 1.0), (12.0, 3.0)):
        for degree in (6, 8, 10, 12):
            rmse = level * 0.5**degree
            swept = {"training.cell": [int(size), 4, 1], "surrogate.total_degree": degree}
            points.append((swept, trained(rmse, size), compared(5.0 * rmse / level**1.5)))
    series = [s for s in read_line_series(result(tmp_path / "a.h5", points)) if s.against == "RMSE"]
    assert [one.label for one in series] == ["L = 8", "L = 12"]
    assert [one.loss for one in series] == ["linear", "linear"]  # that of the input
    for one in series:
        assert one.slope("geometry_error").slope == pytest.approx(1.0)


def test_figures_have_panels_for_far_fields_and_core_shifts_and_leave_out_what_is_not_known(of_domains, tmp_path):
    written = draw(of_domains, tmp_path / "figures")
    assert sorted(p.name for p in written) == ["domains_domain.png"]  # two degrees make no line against the RMSE
    assert all(p.read_bytes().startswith(PNG) for p in written)
    assert len(shown_quantities(read_line_series(of_domains))) == 4
    swept = [{"surrogate.total_degree": d} for d in (6, 8, 10)]
    points = [(s, trained(0.5**n, 8.0), compared(0.5**n)) for n, s in enumerate(swept)]
    for _, _, compare in points:
        del compare["max_core_shift"]
    without = read_line_series(result(tmp_path / "a.h5", points))
    assert shown_quantities(without) == ["geometry_error", "energy_error", "geometry_error_far"]


def test_a_sweep_without_dislocations_has_no_such_series(tmp_path):
    points = [({"surrogate.total_degree": d}, trained(0.5**d, 8.0), compared(0.5**d)) for d in (6, 8, 10)]
    assert not read_line_series(result(tmp_path / "a.h5", points, config="[simulation]\ncell = [4, 4, 4]\n"))


def test_of_several_keys_of_the_basis_the_degree_goes_along_the_rmse_and_the_others_make_series(tmp_path):
    points = []
    for cutoff, level in ((4.0, 1.0), (5.0, 8.0)):
        for degree in (6, 8, 10, 12):
            swept = {"surrogate.cutoff": cutoff, "surrogate.total_degree": degree}
            points.append((swept, trained(0.5**degree, 8.0), compared(level * 0.5**degree)))
    series = read_line_series(result(tmp_path / "a.h5", points))
    assert [one.label for one in series] == ["cutoff 4.0", "cutoff 5.0"]
    assert all(one.slope("geometry_error").slope == pytest.approx(1.0) for one in series)


def test_the_table_of_a_sweep_over_l_has_far_field_errors_beyond_one_radius(of_domains):
    head, _, _, *rows = table(of_domains)[:27]
    assert "far error" in head
    one = next(s for s in read_line_series(of_domains) if s.against == "L" and s.loss == "none")
    assert all(any(f"{value:.3e}" in row for row in rows) for value in one.errors["geometry_error_far"])
