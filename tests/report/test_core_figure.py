"""Maps of dislocation cores and the table of their places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from parmlip.analysis.core_place import elastic_centre
from parmlip.analysis.dislocation_cores import core_state
from parmlip.crystal.dislocation_disc import Disc, build_disc
from parmlip.crystal.dislocation_field import Core
from parmlip.crystal.dislocations import Dislocations, build_dislocations
from parmlip.crystal.lattices import lattice_named
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.report import draw, table
from parmlip.report.core_figure import core_figure
from parmlip.report.core_maps import core_lines, read_core_maps
from tests.program import parmlip

BCC = lattice_named("bcc")
STIFFNESS = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) * 0.8
STIFFNESS[:3, :3] = np.full((3, 3), 1.0) + np.eye(3) * 1.2
SCREW = {"line": (1, 1, 1), "plane": (-1, 1, 0), "burgers": (0.5, 0.5, 0.5), "core": "easy"}
EDGE = {"line": (0, 1, 0), "plane": (0, 0, 1), "burgers": (1.0, 0.0, 0.0)}
PLACE = "place of the core from where it was put: "


def relaxed(made, u_ac):
    """What a relaxation stage writes of cores."""
    found = core_state(made, STIFFNESS, u_ac)
    fields = {
        "displacement": Field(u_ac, "A"), "nye": Field(found.nye_ac, "1/A"),
        "core_position": Field(found.position_nc, "A"), "core_spread": Field(found.spread_n, "A"),
        "core_shift": Field(np.zeros(len(made.cores)), "A"), "cores_present": Field(True),
        "polarity": Field(found.polarity_n, "b"),
    }  # fmt: skip
    if isinstance(made, Disc):
        x, y = found.position_nc[0]
        place = elastic_centre(made, STIFFNESS, u_ac, (x, y))
        fields["core_elastic_position"] = Field(np.array([place.position]), "A")
        fields["core_elastic_misfit"] = Field(place.misfit, "A")
    return fields


def begun(path, made):
    file = ResultFile(path)
    file.create({"version": "0", "config": ""})
    radius = {"radius": Field(made.radius, "A")} if isinstance(made, Disc) else {}
    file.write_stage("build", {
        "n_sites": Field(made.supercell.n_sites), "positions": Field(made.supercell.positions_ac, "A"),
        "cell": Field(made.supercell.cell_cc, "A"), "core_positions": Field(np.array([c.position for c in made.cores])),
        "core_burgers": Field(np.array([c.burgers for c in made.cores])), "n_cores": Field(len(made.cores)), **radius,
    })  # fmt: skip
    return file


def moved(made, x, y=0.0):
    core = Core((made.core.position[0] + x, made.core.position[1] + y), made.core.burgers)
    return replace(made, core=core).predictor(STIFFNESS)


def single(path, asked, *places):
    """A file of elastic fields, the first as the reference's, the others as a sweep's surrogates."""
    made = build_disc(BCC, 3.16, ("W",), radius=24.0, rim=6.0, **asked)
    file = begun(path, made)
    file.write_stage("relax_reference", relaxed(made, moved(made, *places[0])))
    for i, place in enumerate(places[1:]):
        file.write_stage("relax_surrogate", relaxed(made, moved(made, *place)), point=i, swept={"fit.seed": i})
    return path


def drawn(maps):
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    core_figure(figure, maps)
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize(("asked", "places"), [(SCREW, [(0.0, 0.0), (0.5, 0.3)]), (EDGE, [(0.0, 0.0), (-1.1, 0.0)])])
def test_the_table_has_a_row_for_each_law_with_the_place_of_its_core(tmp_path, asked, places):
    lines = core_lines(single(tmp_path / "one.h5", asked, *places))
    assert lines[1].startswith(PLACE)
    rows = [line.split() for line in lines[5:]]
    assert [row[0] for row in rows] == ["reference", "surrogate"]
    for row, (x, y) in zip(rows, places, strict=True):
        assert float(row[4]) == pytest.approx(x, abs=0.01)
        assert float(row[5]) == pytest.approx(y, abs=0.01)
    assert rows[1][-3:] == ["fit.seed", "=", "0"]
    assert any(line.startswith(PLACE) for line in table(tmp_path / "one.h5"))


def test_a_law_that_is_relaxed_once_for_all_points_has_one_row(tmp_path):
    lines = core_lines(single(tmp_path / "one.h5", SCREW, (0.0, 0.0), (0.1, 0.0), (0.2, 0.0), (0.3, 0.0)))
    assert [line.split()[0] for line in lines[5:]] == ["reference", *["surrogate"] * 3]


def test_relaxed_sites_of_an_edge_stand_even_handedly_about_its_core(tmp_path):
    """Of the elastic field in an isotropic solid, which is its own mirror image in the plane through the line."""
    path = single(tmp_path / "one.h5", EDGE, (0.0, 0.0))
    (one,) = read_core_maps(path, None)
    x_nc = one.relaxed()
    off_nc = np.abs(x_nc[:, :2] - np.array(one.elastic_centre))
    row = x_nc[(off_nc[:, 1] < 0.5 * 3.16) & (np.abs(x_nc[:, 1]) > 0.1) & (off_nc[:, 0] < 12.0), 0]
    assert abs(row.mean() - one.elastic_centre[0]) < 0.8  # of sites 1.6 A apart
    assert np.linalg.norm(one.nye_centre()) < 1.6


def test_screws_are_drawn_with_arrows_that_are_shorter_than_the_distance_of_columns(tmp_path):
    maps = read_core_maps(single(tmp_path / "one.h5", SCREW, (0.0, 0.0), (0.5, 0.3)), 0)
    assert [one.law for one in maps] == ["reference", "surrogate"]
    figure = drawn(maps)
    panels = [axes for axes in figure.axes if axes.get_title()]
    told = [f"{one.law}, polarity {one.polarity:+.3f} b" for one in maps]
    assert [axes.get_title() for axes in panels] == [told[0], f"{told[1]}\nseed = 0"]
    for axes in panels:
        assert axes.get_aspect() == 1.0
        assert (axes.get_xlabel(), axes.get_ylabel()) == (r"x ($\mathrm{\AA}$)", r"y ($\mathrm{\AA}$)")
        (arrows,) = (child for child in axes.get_children() if isinstance(child, Quiver))
        length = np.hypot(arrows.U, arrows.V)
        apart = 3.16 * (2.0 / 3.0) ** 0.5
        assert 0.75 * apart < length.max() < 1.2 * apart
        assert length.min() > 0.01 * apart
        (columns,) = (child for child in axes.get_children() if isinstance(child, EllipseCollection))
        assert len(np.unique(columns.get_facecolor(), axis=0)) == 3  # heights


def test_edges_are_drawn_as_relaxed_sites_with_their_bonds(tmp_path):
    maps = read_core_maps(single(tmp_path / "one.h5", EDGE, (0.0, 0.0)), None)
    figure = drawn(maps)
    panel = figure.axes[0]
    bonds = next(child for child in panel.get_children() if isinstance(child, LineCollection))
    lengths = [np.linalg.norm(end - start) for start, end in bonds.get_segments()]
    assert len(lengths) > 100
    assert max(lengths) < 1.2 * 1.2 * 3.16
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["where the core was put", "centre of Nye's density", "centre of the elastic field"]


def test_maps_of_spread_cores_are_wider_and_have_smaller_sites_without_bonds(tmp_path):
    made = build_disc(lattice_named("fcc"), 3.6, ("Cu",), radius=24.0, rim=6.0, line=(1, -1, 2), plane=(-1, 1, 1),
                      burgers=(0.5, 0.5, 0.0))  # fmt: skip
    begun(tmp_path / "one.h5", made).write_stage("relax_reference", relaxed(made, moved(made, 0.0)))
    (one,) = read_core_maps(tmp_path / "one.h5", None)
    widths, sizes = [], []
    for spread in (1.0, 9.0):
        panel = drawn([replace(one, spread=spread)]).axes[0]
        sites = next(child for child in panel.get_children() if isinstance(child, PathCollection))
        assert any(isinstance(child, LineCollection) for child in panel.get_children()) == (spread == 1.0)
        widths.append(np.ptp(panel.get_xlim()))
        sizes.append(sites.get_sizes()[0])
    assert widths[1] > 1.5 * widths[0]
    assert widths[1] <= 2.0 * one.radius
    assert sizes[1] < sizes[0]


def test_quadrupoles_have_a_map_of_a_core_of_each_sign_and_no_row(tmp_path):
    asked = Dislocations("quadrupole", (1, 1, 1), (-1, 1, 0), (0.5, 0.5, 0.5))
    made = build_dislocations(BCC, 3.16, (12, 15, 1), ("W",), asked)
    file = begun(tmp_path / "four.h5", made)
    file.write_stage("relax_reference", relaxed(made, made.predictor(STIFFNESS)))
    maps = read_core_maps(tmp_path / "four.h5", None)
    assert len(maps) == 2
    assert maps[0].burgers_c[2] == -maps[1].burgers_c[2]
    for one in maps:
        assert np.linalg.norm(one.nye_centre()) < 0.2
        assert np.linalg.norm(one.x_nc[:, :2], axis=1).max() <= one.radius
    assert core_lines(tmp_path / "four.h5") == []
    assert len([axes for axes in drawn(maps).axes if axes.get_title()]) == 2


def test_couplings_have_a_map_of_their_own_that_names_the_radius(tmp_path):
    asked = {key: value for key, value in SCREW.items() if key != "core"}
    made = build_disc(BCC, 3.16, ("W",), radius=18.0, rim=6.0, **asked)
    file = begun(tmp_path / "one.h5", made)
    file.write_stage("relax_reference", relaxed(made, moved(made, 0.0)))
    file.write_stage("qmmm", relaxed(made, moved(made, 0.2)), point=0, swept={"qmmm.radius": 8.0})
    maps = read_core_maps(tmp_path / "one.h5", 0)
    assert [(one.law, one.point) for one in maps] == [("reference", ""), ("QM/MM", "R_QM = 8.0")]
    assert [line.split()[0] for line in core_lines(tmp_path / "one.h5")[-2:]] == ["reference", "QM/MM"]


def test_cells_without_dislocations_have_neither(tmp_path):
    file = ResultFile(tmp_path / "none.h5")
    file.create({"version": "0", "config": ""})
    file.write_stage("build", {"n_sites": Field(1), "positions": Field(np.zeros((1, 3)), "A")})
    assert read_core_maps(tmp_path / "none.h5", None) == []
    assert core_lines(tmp_path / "none.h5") == []


def test_reports_of_discs_draw_maps(tmp_path):
    path = single(tmp_path / "one.h5", SCREW, (0.0, 0.0))
    assert tmp_path / "one_cores.png" in draw(path, tmp_path)
    assert (tmp_path / "one_cores.png").stat().st_size > 10_000


RUN = """
[run]
stages = ["build", "reference", "relax", "report"]
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-FS84"
[simulation]
domain = "disc"
radius = 18.0
dislocations = { kind = "single", line = [1, 1, 1], plane = [-1, 1, 0], burgers = [0.5, 0.5, 0.5], core = "easy" }
[relax]
laws = ["reference"]
force_tolerance = 1e-5
"""


def test_a_run_with_one_law_tells_and_draws_the_core_that_stays_where_it_was_put(tmp_path):
    (tmp_path / "run.toml").write_text(RUN)
    done = parmlip(tmp_path, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reference core: centre of its elastic field (" in done.stdout
    row = done.stdout.split(PLACE)[1].splitlines()[4].split()
    assert row[0] == "reference"
    assert max(abs(float(row[i])) for i in (1, 2, 4, 5)) < 0.2
    assert 0.0 < float(row[6]) < 0.1
    assert (tmp_path / "run_cores.png").exists()
