"""Published numbers beside those of a sweep, and series of sweeps whose keys go together; no calculation is made."""

import json
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from parmlip.config import load
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.pipeline_output import published_text
from parmlip.report import draw, table
from parmlip.report.columns import in_words
from parmlip.report.domains import read_series
from parmlip.report.labels import place_labels
from parmlip.report.published import read_published
from parmlip.report.sweep import read_sweep, slope_of

CSV = """# From nowhere (2022), table 2
training.cell, surrogate.total_degree, train.n_basis, train.test_rmse_force, train.fit_seconds
"[3, 2]", 10, 110, 0.076, 27.8
"[3, 2]", 12, 211, 0.045, 26.8
"[4, 3]", 10, 110, , 56.6
"[9, 9]", 10, 110, 0.1, 99.0
"""
SWEPT = ("training.cell", "surrogate.total_degree")


def fits(path, published=CSV):
    """Three fits: two of the published ones and one that is not."""
    file = ResultFile(path)
    file.create({"version": "0", "published": published})
    for i, (cell, degree, n_basis) in enumerate([([3, 2], 10, 110), ([4, 3], 10, 110), ([4, 3], 14, 383)]):
        train = {
            "n_basis": Field(n_basis), "test_rmse_force": Field(1e-3 * (i + 1), "eV/A"), "fit_seconds": Field(2.0, "s"),
            "matching": Field({"force_derivative_1": {"relative": 0.01 * (i + 1)}, "force": {"relative": 0.5}}),
        }  # fmt: skip
        file.write_stage("train", train, point=i, swept={"training.cell": cell, "surrogate.total_degree": degree})
    return file.path


def test_a_published_table_stands_beside_the_points_that_it_has(tmp_path):
    lines = table(fits(tmp_path / "fits.h5"))
    begin = lines.index("beside published numbers")
    assert lines[begin + 1] == "  From nowhere (2022), table 2"
    rows = [line.split() for line in lines[begin + 5 : begin + 7]]
    assert rows == [
        ["[3,", "2]", "10", "110", "110", "1.000e-03", "7.600e-02", "2.00", "27.80"],
        ["[4,", "3]", "10", "110", "110", "2.000e-03", "-", "2.00", "56.60"],
    ]
    assert lines[begin + 7] == "fit time in all: 4.0 s, published 84.4 s, 21.1 times as long"
    assert lines[begin + 8] == "2 published rows have no point in the sweep"


def test_a_published_row_counts_once_against_all_points_of_it_which_are_told_apart(tmp_path):
    published = 'training.cell, train.fit_seconds\n"[3, 2]", 27.8\n"[4, 3]", 56.6\n'
    lines = table(fits(tmp_path / "fits.h5", published))
    begin = lines.index("beside published numbers")
    assert lines[begin + 1].split() == ["cell", "total_degree", "fit", "time", "publ."]
    assert lines[begin + 2].split() == ["[training]", "[surrogate]", "s", "s"]
    assert [line.split()[2] for line in lines[begin + 4 : begin + 7]] == ["10", "10", "14"]
    total = "fit time in all: 6.0 s, published 84.4 s, 14.1 times as long"
    assert lines[begin + 7] == f"{total} (each published row once, all our points of it)"


def test_errors_of_observations_beside_energies_and_forces_have_a_column(tmp_path):
    head, units, _, *rows, symbols = table(fits(tmp_path / "fits.h5", ""))
    assert symbols == "relative errors of eps^F_j: force_derivative_j"
    assert head.endswith("eps^F_1")
    assert units.endswith("relative")
    assert [row.split()[-1] for row in rows] == ["1.00e-02", "2.00e-02", "3.00e-02"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a line of dotted keys and at least one row"),
        ("train.n_basis\n3\n", "no column is a swept key (training.cell, surrogate.total_degree)"),
        ("training.cell\n3\n", "there is no column of results"),
        ("training.cell, train.rank, train.rank\n3, 1, 1\n", "a column is there twice"),
        ("training.cell, train.rank\n[3, 2], 1\n", "row 1 has 3 cells for 2 columns"),
        ("training.cell, train.rank\n1, 2\n2, x\n", "row 2, train.rank = x: must be a number, or empty"),
        ("training.cell, train.rank\n1, nan\n", "row 1, train.rank = nan: must be a number, or empty"),
    ],
)
def test_a_published_file_that_cannot_be_used_is_told_before_any_work(text, message):
    with pytest.raises(ConfigError) as caught:
        read_published(text, SWEPT)
    assert str(caught.value).startswith("[report] published")
    assert message in str(caught.value)


def test_the_table_of_the_paper_is_complete_and_has_its_total(request):
    study = load(request.config.rootpath / "inputs" / "point_defects" / "table2.toml")
    published = read_published(published_text(study), study.swept_keys)
    points = [tuple(point.values[key] for key in published.keys) for point in study.points()]
    assert points == [of for of, _ in published.rows]
    column = published.results.index("train.fit_seconds")
    assert math.fsum(row[column] for _, row in published.rows) == pytest.approx(2447.5)
    assert len(published.rows) == 25


def test_a_published_file_that_is_not_there_is_told(tmp_path):
    (tmp_path / "in.toml").write_text('[report]\npublished = "none.csv"\n')
    with pytest.raises(ConfigError, match=r'\[report\] published = "none.csv": no such file in'):
        load(tmp_path / "in.toml")


def vacancies(n, distance):
    return [{"kind": "vacancy", "at": [i * distance, 0]} for i in range(n)]


def test_defects_in_words():
    assert in_words(json.dumps(vacancies(3, 5))) == "3 vacancies"
    assert in_words(json.dumps([{"kind": "interstitial"}, *vacancies(1, 5)])) == "1 interstitial, 1 vacancy"
    assert in_words("[3, 2]") == "[3, 2]"
    assert in_words('{"energy": 0.0, "force": 0.0, "cauchy_born_3": 100.0, "force_derivative_1": 0.5}') == (
        "cauchy_born_3 100, force_derivative_1 0.5"
    )
    assert in_words(1e-6) == "1e-06"


def studies(path, numbers=(2,), tolerances=(1e-2, 1e-3, 1e-4, 1e-5), sizes=(4, 5, 6, 8), energy=1.0):
    """Errors L^-3 RMSE; L_D is L; the energy RMSE is the force RMSE to a power, and so are energy errors."""
    file = ResultFile(path)
    file.create({"version": "0"})
    points = [(size, n, t) for size in sizes for n in numbers for t in tolerances]
    for i, (size, n, t) in enumerate(points):
        rmse = t**0.5 * (1.0 + 0.01 * (i % 3))
        swept = {"training.cell": [size, size], "simulation.defects": vacancies(n, size), "fit.tolerance": t}
        file.write_stage("build", {"dimension": Field(2), "defect_distance": Field(float(size))}, point=i, swept=swept)
        train = {
            "domain_size": Field(float(size)), "test_rmse_force": Field(rmse), "test_rmse_energy": Field(rmse**energy),
        }  # fmt: skip
        file.write_stage("train", train, point=i, swept=swept)
        geometry, relaxation = n * rmse * size**-3.0, n * rmse**energy * size**-2.0 * (1.0 + 0.01 * (i % 2))
        compare = {"geometry_error": Field(geometry), "energy_error": Field(relaxation), "same_basin": Field(True)}
        file.write_stage("compare", compare, point=i, swept=swept)
    return file.path


def test_defects_that_move_with_the_training_cell_do_not_split_the_series(tmp_path):
    series = read_series(studies(tmp_path / "a.h5"))
    against = {name: [s for s in series if s.against == name] for name in ("L", "RMSE")}
    assert [s.label for s in against["RMSE"]] == [f"L = {n}" for n in (4, 5, 6, 8)]
    assert [s.label for s in against["L"]] == [f"tolerance {t}" for t in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert all(s.dimension == 2 for s in series)
    assert against["L"][0].slope("geometry_error").slope == pytest.approx(-3.0, abs=0.1)
    assert against["RMSE"][0].slope("geometry_error").slope == pytest.approx(1.0, abs=0.05)
    assert {f.stem for f in draw(tmp_path / "a.h5", tmp_path)} >= {"a_domain", "a_errors"}


def test_numbers_of_defects_are_series_of_their_own(tmp_path):
    path = studies(tmp_path / "a.h5", numbers=(2, 3), tolerances=(1e-3,))
    series = read_series(path)
    assert [(s.label, s.against) for s in series] == [
        ("2 vacancies, tolerance 0.001", "L"), ("3 vacancies, tolerance 0.001", "L")
    ]  # fmt: skip
    lines = table(path)
    assert lines[0].split()[:5] == ["cell", "defects", "tolerance", "L", "L_D"]
    assert lines[1].split()[:3] == ["[training]", "[simulation]", "[fit]"]
    assert "2 vacancies" in lines[3]
    more = read_series(studies(tmp_path / "b.h5", numbers=(2, 3), sizes=(4, 8)))
    labels = [s.label for s in more if s.against == "RMSE"]
    assert labels == [f"{n} vacancies, L = {size}" for size in (4, 8) for n in (2, 3)]


@pytest.mark.parametrize("n", [3, 4])
def test_a_slope_needs_four_points(tmp_path, n):
    path = studies(tmp_path / "a.h5", sizes=(4,), tolerances=[10.0 ** -(k + 1) for k in range(n)])
    assert (read_sweep(path).slope("geometry_error") is None) == (n == 3)
    assert any("geometry error ~" in line for line in table(path)) == (n == 4)
    path = studies(tmp_path / "b.h5", sizes=(4, 6, 8, 12)[:n], tolerances=(1e-3,))
    assert any("geometry error ~ L^" in line for line in table(path)) == (n == 4)


def test_a_slope_whose_interval_says_nothing_is_left_out():
    x = np.array([5.0, 6.0, 7.0, 8.0])
    line = x**-2.0
    assert slope_of(x, line * [1.0, 1.3, 0.8, 1.0]).slope == pytest.approx(-2.0, abs=0.7)
    assert slope_of(x, line * [0.01, 1.0, 1.0, 1.0]) is None


@pytest.mark.parametrize(("energy", "sizes"), [(1.0, (4,)), (1.0, (4, 8)), (2.0, (4,)), (2.0, (4, 8))])
def test_energies_that_are_fitted_like_forces_explain_a_slope_below_two(tmp_path, energy, sizes):
    path = studies(tmp_path / "a.h5", sizes=sizes, energy=energy, tolerances=[10.0**-k for k in range(1, 7)])
    told = [line for line in table(path) if line.startswith("    below 2: the energy RMSE of the fits ~ (force RMSE)^")]
    assert len(told) == (len(sizes) if energy == 1.0 else 0)
    assert all("^1.00" in line or "^0.99" in line for line in told)


def test_labels_in_figures_hide_neither_each_other_nor_points():
    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlim=(1e-3, 1.0), ylim=(1e-3, 1.0))
    x = np.array([0.1, 0.102, 0.11, 0.115, 0.5, 0.01])
    y = np.array([0.1, 0.11, 0.098, 0.105, 0.5, np.nan])
    texts = ["8", "9", "10", "12", "14", "16"]
    axes.plot(x, y, "o", markersize=7)
    place_labels(axes, texts, x, y, [y])
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == texts[:5]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for box in boxes:
        assert not any(box.contains(*axes.transData.transform(point)) for point in zip(x[:5], y[:5], strict=True))
