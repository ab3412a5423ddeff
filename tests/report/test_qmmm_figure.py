"""The figure of QM/MM errors against R_QM, and the names and rates of its series."""

import numpy as np
import pytest

from parmlip.io.hdf5 import Field, ResultFile
from parmlip.report.figures import draw
from parmlip.report.qmmm_names import about
from parmlip.report.qmmm_patch import patch_lines, read_patches
from parmlip.report.qmmm_table import coupled_lines, read_coupled

RADII = (10.0, 14.0, 20.0, 28.0)
LATTICE_CONSTANT = 3.2
CONFIG = """
[simulation]
domain = "{domain}"
{defect}
[surrogate]
kind = "ace"
order = 2
[fit]
weights = {{ energy = 100.0 }}
[qmmm]
kind = "{kind}"
mm = "surrogate"
"""
SERIES = ("taylor", 2, "force_mixing_K1"), ("taylor", 3, "force_mixing_K1"), ("ace", 2, "force_mixing_K1_virial")


def written(
    path, series=SERIES, kind="force", domain="disc", defect="defects = []", error=lambda r, s: r**-3.0, radii=RADII,
    same=lambda r: True,
):  # fmt: skip
    """A result file with what the stage qmmm would give."""
    file = ResultFile(path)
    file.create({"config": CONFIG.format(kind=kind, domain=domain, defect=defect), "input": "", "published": ""})
    point = 0
    for number, (law, order, weights) in enumerate(series):
        for radius in radii:
            swept = {"surrogate.kind": law, "surrogate.order": order, "fit.weights": weights, "qmmm.radius": radius}
            if law == "ace":
                matching = {"force_derivative_1": {"relative": 2e-3}}
                file.write_stage("train", {"matching": Field(matching)}, point=point, swept=swept)
            fields = {"geometry_error": error(radius, number), "same_basin": same(radius), "kind": kind,
                      "radius_angstrom": radius, "radius_lattice": radius / LATTICE_CONSTANT}  # fmt: skip
            file.write_stage("qmmm", {k: Field(v) for k, v in fields.items()}, point=point, swept=swept)
            point += 1
    return path


def test_series_are_named_by_their_law_and_have_the_rates_of_table_3_1(tmp_path):
    found = read_coupled(written(tmp_path / "run.h5"))
    assert [(one.label, one.rate) for one in found] == [
        ("expansion, order 2", -3.0), ("expansion, order 3", -5.0), ("ACE, force_mixing_K1_virial", -4.0),
    ]  # fmt: skip
    for one in found:
        assert one.slope("geometry_error").slope == pytest.approx(-3.0)
        assert one.window("geometry_error") == (10.0, 28.0)
    assert found[2].conditions == {"force_derivative_1": 2e-3}
    assert found[0].conditions == {}


@pytest.mark.parametrize(
    ("weights", "kind", "domain", "vacancy", "dislocation"),
    [
        ("energy_mixing_K2", "energy", "disc", -3.0, -1.0),
        ("energy_mixing_K2_virial", "energy", "disc", -4.0, -2.0),
        ("energy_mixing_K3", "energy", "disc", -5.0, -2.0),
        ("force_mixing_K1", "force", "disc", -3.0, -1.0),
        ("force_mixing_K2", "force", "disc", -5.0, -2.0),
        ("force_mixing_K2_virial", "force", "disc", -6.0, -3.0),
        ("energy_mixing_K2_virial", "energy", "ball", -5.5, None),
        ("force_mixing_K2", "force", "ball", -7.5, None),
        ("balanced", "force", "disc", None, None),
        ("energy_mixing_K2", "force", "disc", None, None),
    ],
)
def test_fits_have_the_rates_of_what_their_weights_match(tmp_path, weights, kind, domain, vacancy, dislocation):
    series = (("ace", 2, weights),)
    (one,) = read_coupled(written(tmp_path / "vacancy.h5", series, kind, domain))
    assert one.rate == vacancy
    if domain == "disc":
        edge = 'dislocations = { kind = "single" }'
        (one,) = read_coupled(written(tmp_path / "edge.h5", series, kind, domain, edge))
        assert one.rate == dislocation


@pytest.mark.parametrize(("domains", "labels"), [
    ((40.0, 56.0, 80.0, 112.0), ["R_MM with R_QM"]),
    ((40.0, 40.0, 80.0, 80.0), ["R_MM = 40 A", "R_MM = 80 A"]),
])  # fmt: skip
def test_radii_with_domains_of_their_own_are_one_series(tmp_path, domains, labels):
    file = ResultFile(tmp_path / "run.h5")
    file.create({"config": CONFIG.format(kind="force", domain="disc", defect=""), "input": "", "published": ""})
    for point, (radius, domain) in enumerate(zip(RADII, domains, strict=True)):
        fields = {"geometry_error": radius**-2.0, "same_basin": True, "kind": "force",
                  "radius_angstrom": radius, "radius_lattice": radius / LATTICE_CONSTANT}  # fmt: skip
        swept = {"simulation.radius": domain, "qmmm.radius": radius}
        file.write_stage("qmmm", {k: Field(v) for k, v in fields.items()}, point=point, swept=swept)
    found = read_coupled(tmp_path / "run.h5")
    assert [one.label for one in found] == labels
    assert sum(len(one.x) for one in found) == len(RADII)


def test_the_report_tells_slope_window_and_the_errors_of_the_fit(tmp_path):
    lines = coupled_lines(written(tmp_path / "run.h5"))
    expected = "over 4 points of 3.1 to 8.8 a, 95 % interval -3.00 to -3.00; theory R_QM^-4 until the errors of the fit"
    assert any(expected in line and "force_derivative_1 2.0e-03" in line for line in lines)
    assert all("from point to point -3.0, -3.0, -3.0" in line for line in lines)
    assert any(line.startswith("expansion, order 3: force mixing") and "theory R_QM^-5" in line for line in lines)
    assert not any("until" in line for line in lines if line.startswith("expansion"))


def test_the_figure_has_a_panel_with_every_series_and_line(tmp_path):
    from matplotlib.figure import Figure

    from parmlip.report.qmmm_figure import coupled_panel

    rng = np.random.default_rng(0)
    path = written(tmp_path / "run.h5", error=lambda r, s: r ** -(3.0 + s) * np.exp(0.05 * rng.standard_normal()))
    axes = Figure().subplots()
    coupled_panel(axes, read_coupled(path))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [text.split(":")[0] for text in texts[:3]] == [
        "expansion, order 2", "expansion, order 3", "ACE, force_mixing_K1_virial",
    ]  # fmt: skip
    assert all("slope -" in text for text in texts[:3])
    assert [text for text in texts if text.startswith("theory")] == [
        f"theory: $R_{{QM}}^{{{rate}}}$" for rate in (-3, -4, -5)
    ]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    (written_figure,) = [p for p in draw(path, tmp_path) if p.name == "run_qmmm.png"]
    assert written_figure.stat().st_size > 10_000


ENERGY_MIXING = CONFIG.format(kind="energy", domain="disc", defect="")


def swept_run(path, points, config=ENERGY_MIXING, **more):
    """A result file with a point for each of some swept values, errors R^-3 unless `more` says otherwise."""
    file = ResultFile(path)
    file.create({"config": config, "input": "", "published": ""})
    for point, swept in enumerate(points):
        radius = swept["qmmm.radius"]
        fields = {"geometry_error": radius**-3.0, "same_basin": True, "kind": "energy", "radius_angstrom": radius,
                  "radius_lattice": radius / LATTICE_CONSTANT}  # fmt: skip
        fields |= {name: value(radius) for name, value in more.items()}
        file.write_stage("qmmm", {k: Field(v) for k, v in fields.items()}, point=point, swept=swept)
    return path


def test_series_of_the_same_weights_are_told_apart_by_every_swept_key_that_counts(tmp_path):
    points = [
        {"surrogate.kind": kind, "surrogate.order": 2, "surrogate.total_degree": degree, "surrogate.cutoff": 5.0,
         "fit.weights": "energy_mixing_K2", "qmmm.radius": radius}
        for kind, degree in (("taylor", 10), ("ace", 10), ("ace", 14)) for radius in RADII
    ]  # fmt: skip
    found = read_coupled(swept_run(tmp_path / "run.h5", points))
    assert [(one.label, len(one.x)) for one in found] == [
        ("expansion, order 2", 4),
        ("ACE, energy_mixing_K2, total degree 10", 4),
        ("ACE, energy_mixing_K2, total degree 14", 4),
    ]


def test_couplings_with_and_without_load_have_labels_in_words_and_only_one_has_the_rate_of_the_theory(tmp_path):
    points = [{"qmmm.correction": on, "qmmm.radius": radius} for on in (False, True) for radius in RADII]
    config = ENERGY_MIXING.replace("{ energy = 100.0 }", '"energy_mixing_K2"')
    found = read_coupled(swept_run(tmp_path / "run.h5", points, config))
    assert [(one.label, one.rate) for one in found] == [
        ("ghost forces not corrected", None), ("ghost forces corrected", -3.0),
    ]  # fmt: skip


def test_slopes_are_told_with_what_limits_them(tmp_path):
    points = [{"surrogate.kind": "taylor", "qmmm.radius": radius} for radius in RADII]
    path = swept_run(
        tmp_path / "run.h5", points, mm_radius_angstrom=lambda r: 50.0, residual_reference=lambda r: 1e-3,
        residual_force=lambda r: 5e-4 if r == 20.0 else 1e-6, geometry_error=lambda r: max(r**-3.0, 14.0**-3.5),
    )  # fmt: skip
    (line,) = coupled_lines(path)
    assert "few MM sites before the rim at R_QM 28;" in line
    assert "floor at the end" in line
    assert "limited by force_tolerance at R_QM 20: the forces left make about 0.5 of the error" in line
    (clean,) = coupled_lines(
        swept_run(
            tmp_path / "clean.h5", points, mm_radius_angstrom=lambda r: 90.0, residual_reference=lambda r: 1e-3,
            residual_force=lambda r: 1e-6,
        )
    )  # fmt: skip
    assert not any(word in clean for word in ("few MM", "floor", "force_tolerance"))


def test_panels_share_the_range_of_errors_and_have_a_tick_at_every_radius(tmp_path):
    from matplotlib.figure import Figure

    from parmlip.report.qmmm_figure import coupled_figure
    from parmlip.report.qmmm_table import heading

    path = written(tmp_path / "run.h5", radii=(8.0, 11.0, 15.0, 20.0), series=SERIES[:1])
    one, other = read_coupled(path)[0], read_coupled(written(tmp_path / "e.h5", SERIES[:1], "energy"))[0]
    figure = Figure()
    panels = figure.subplots(1, 2)
    coupled_figure(figure, panels, [one, other], heading(path))
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert sorted(panels[0].get_xticks()) == [8.0, 11.0, 15.0, 20.0]
    assert [axes.get_title() for axes in panels] == ["Force mixing", "Energy mixing"]


def test_headings_name_material_defect_and_mm_law():
    inputs = {
        "crystal": {"species": ["W"], "lattice": "bcc"},
        "reference": {"kind": "eam", "parameters": "W-Zhou"},
        "simulation": {"defects": [{"kind": "vacancy"}, {"kind": "vacancy"}]},
        "surrogate": {"kind": "ace"},
        "fit": {"weights": {"force_derivative_1": 100.0, "energy": 0.0}},
        "qmmm": {"mm": "surrogate"},
    }
    assert about(inputs, ["qmmm.radius"]) == "W (bcc), W-Zhou; 2 vacancies; MM law: ACE, force_mixing_K1"
    assert about(inputs, ["fit.weights"]) == "W (bcc), W-Zhou; 2 vacancies"
    line = {"kind": "single", "burgers": [0.5, 0.5, 0.5], "line": [1, 1, -2]}
    screw = {**inputs, "simulation": {"dislocations": {**line, "line": [1, 1, 1]}}}
    screw["surrogate"] = {"kind": "taylor", "order": 3}
    assert (
        about(screw, []) == "W (bcc), W-Zhou; single screw dislocation; MM law: expansion of order 3 of the reference"
    )
    assert about({**inputs, "simulation": {"dislocations": line}}, ["fit.weights"]).endswith("edge dislocation")


def test_patch_tests_are_told_and_drawn_once_for_each_region(tmp_path):
    points = [{"qmmm.correction": on, "qmmm.radius": radius} for on in (False, True) for radius in (10.0, 14.0)]
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((30, 3))
    ghost = np.zeros((30, 3))
    ghost[4] = [0.0, 0.03, 0.04]
    patch = {"drift": 0.02, "drift_corrected": 0.0, "unrelaxed_reference": reference,
             "unrelaxed_energy": reference + ghost, "unrelaxed_energy_corrected": reference}  # fmt: skip
    path = swept_run(tmp_path / "run.h5", points, ghost_force=lambda r: 0.05, ghost_force_corrected=lambda r: 0.0,
                     distance=lambda r: np.linspace(2.0, 40.0, 30), patch=lambda r: patch)  # fmt: skip
    assert [(one.radius, one.label) for one in read_patches(path)] == [(10.0, ""), (14.0, "")]
    row = next(line.split() for line in patch_lines(path) if line.strip().startswith("14 "))
    assert row == ["14", "5.00e-02", "0.00e+00", "2.00e-02", "0.00e+00", "5.00e-02", "0.00e+00"]
    assert "run_patch.png" in [p.name for p in draw(path, tmp_path)]


def test_forces_left_are_weighed_by_the_compliance_where_no_forces_of_the_reference_are_known(tmp_path):
    points = [{"surrogate.kind": "taylor", "qmmm.radius": radius} for radius in RADII]
    norms = {10.0: [0.4, 1e-6], 14.0: [1e-2, 1e-6], 20.0: [1e-2, 1e-6], 28.0: [1e-2, 4e-6]}
    path = swept_run(
        tmp_path / "run.h5", points, residual_norms=lambda r: np.array(norms[r]), geometry_norm=lambda r: 1.0
    )
    (line,) = coupled_lines(path)
    assert "limited by force_tolerance at R_QM 28: the forces left make about 0.22 of the error" in line


def test_a_slope_that_is_not_told_has_its_reason(tmp_path):
    points = [{"surrogate.kind": "taylor", "qmmm.radius": radius} for radius in RADII]
    errors = dict(zip(RADII, (1e-1, 1e-6, 1e-1, 1e-7), strict=True))
    (line,) = coupled_lines(swept_run(tmp_path / "run.h5", points, geometry_error=errors.get))
    assert "no slope over 4 points, its 95 % interval" in line
    assert "is wider than 10" in line
    close = [{"surrogate.kind": "taylor", "qmmm.radius": radius} for radius in (10.0, 11.0, 12.0, 13.0)]
    (line,) = coupled_lines(swept_run(tmp_path / "close.h5", close))
    assert "no slope over 4 points, R_QM differ by less than a factor of 1.5" in line


def test_two_radii_are_drawn_and_the_table_says_what_a_slope_needs(tmp_path):
    path = written(tmp_path / "run.h5", SERIES[:1], radii=RADII[:2])
    (one,) = read_coupled(path)
    assert one.slope("geometry_error") is None
    (line,) = coupled_lines(path)
    assert line == (
        "expansion, order 2: force mixing, geometry error: 2 points of R_QM in the reference's basin, a slope is "
        "fitted to 4; from point to point R_QM^-3.0"
    )
    assert "run_qmmm.png" in [p.name for p in draw(path, tmp_path)]
    alone = written(tmp_path / "alone.h5", SERIES[:1], radii=RADII[:2], same=lambda r: r < 12.0)
    (line,) = coupled_lines(alone)
    assert line.endswith("geometry error: 1 point of R_QM in the reference's basin, a slope is fitted to 4")
    assert "alone_qmmm.png" in [p.name for p in draw(alone, tmp_path)]
    assert coupled_lines(written(tmp_path / "one.h5", SERIES[:1], radii=RADII[:1])) == []
