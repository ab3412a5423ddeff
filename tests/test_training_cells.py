"""Training cells of the paper's 2D studies: shapes, sizes, domains with weights of their own (Ortner, Wang 2022)."""

import numpy as np
import pytest
from mpi4py import MPI

from parmlip import construct
from parmlip.config import loads
from parmlip.construct_controlled import defect_distance
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import run

INPUT = """
[run]
stages = ["build", "reference", "train"]
output = "{output}"
[crystal]
lattice = "triangular"
species = ["W"]
[reference]
parameters = "W-Zhou"
taper = [4.6, 5.6]
[simulation]
cell = [6, 6]
[[training]]
name = "vacancy"
shape = "orthorhombic"
cell = [3, 2]
defects = [{{ kind = "vacancy", at = [0.5, 0.5] }}]
samples = 6
test_samples = 1
rattle = {{ amplitude = 0.01, kind = "julip" }}
[surrogate]
cutoff = 5.5
dimension = 2
correlation_order = 2
total_degree = 8
"""
OF = (LATTICES["triangular"], 2.7)


def first(*overrides):
    study = loads(INPUT.format(output="x.h5"), overrides)
    return study, construct.supercell(study, study.training[0], OF)


@pytest.mark.parametrize(
    ("cell", "n_sites", "n_observations"),
    [((3, 2), 11, 6800), ((4, 3), 23, 14000), ((5, 3), 29, 17600), ((6, 4), 47, 28400), ((7, 5), 69, 41600)],
)
def test_orthorhombic_cells_have_the_sites_of_table_2(cell, n_sites, n_observations):
    _, supercell = first(f"training.cell={list(cell)}")
    assert supercell.n_sites == n_sites
    assert 200 * (1 + 3 * n_sites) == n_observations
    assert supercell.cell_cc[:2, :2] == pytest.approx(np.diag([cell[0], np.sqrt(3.0) * cell[1]]) * 2.7)


def test_both_shapes_are_cells_of_the_same_crystal():
    """Without defects every site has the six neighbours of the triangular lattice, at the same vectors."""
    vectors = []
    for shape in ("conventional", "orthorhombic"):
        _, cell = first(f"training.shape={shape}", "training.defects=[]", "training.cell=[4, 4]")
        pairs = find_pairs(cell.cell_cc, cell.periodic, cell.positions_ac, 1.1 * 2.7)
        assert (pairs.count_n == 6).all()
        r_pc = pair_vectors(pairs, cell.cell_cc, cell.positions_ac)
        vectors.append({tuple(r_c) for r_c in np.round(r_pc, 9).tolist()})
    assert len(vectors[0]) == 6
    for r_c in vectors[0]:
        assert min(np.linalg.norm(np.subtract(r_c, other)) for other in vectors[1]) < 1e-8


@pytest.mark.parametrize("at", ["[0, 0]", "[0.5, 0.5]"])
def test_the_triangle_centre_is_the_same_site_in_both_shapes(at):
    study, cell = first(f'training.defects=[{{ kind = "interstitial", site = "triangle_centre", at = {at} }}]')
    pairs = find_pairs(cell.cell_cc, cell.periodic, cell.positions_ac, 0.7 * 2.7, np.array([cell.n_sites - 1]))
    distance_p = np.linalg.norm(pair_vectors(pairs, cell.cell_cc, cell.positions_ac), axis=1)
    np.testing.assert_allclose(distance_p, [2.7 / np.sqrt(3.0)] * 3)
    assert len(study.training[0].defects) == 1


def test_homogeneous_cells_have_the_shape_of_the_first_domain(tmp_path):
    study = loads(INPUT.format(output=tmp_path / "one.h5"))
    run(study, MPI.COMM_SELF)
    file = ResultFile(tmp_path / "one.h5")
    factors = file.read("train", "factors")
    assert factors["homogeneous"]["force"]["n_rows"] == study.fit.homogeneous * 12 * 2
    assert factors["vacancy"]["force"]["n_rows"] == 7 * 11 * 2  # the unrelaxed cell and six samples
    assert file.read("train", "domain_size") == pytest.approx(3.0)


def test_perfect_cells_for_laws_of_whole_structures_have_the_sites_of_the_first_training_cell():
    study, _ = first()
    repeats = construct.affordable_repeats(study)
    assert np.prod(repeats) * len(OF[0].basis_bc) == construct.perfect_supercell(study, study.training[0], OF).n_sites
    conventional = loads(INPUT.format(output="x.h5").replace("orthorhombic", "conventional"))
    assert construct.affordable_repeats(conventional) == (3, 2, 1)


@pytest.mark.parametrize(
    ("at", "distance"),
    [([[1, 1], [4, 1]], 3.0), ([[1, 1], [1, 4]], 3.0), ([[0, 0], [5, 0]], 1.0), ([[1, 1], [3, 3], [1, 3]], 2.0),
     ([[0, 0], [3, 3]], 3.0)],  # the image at (3, -3)
)  # fmt: skip
def test_the_distance_of_defects_is_that_of_the_nearest_images(at, distance):
    defects = "[" + ", ".join(f'{{ kind = "vacancy", at = {x} }}' for x in at) + "]"
    study, _ = first(f"simulation.defects={defects}")
    cell = construct.supercell(study, study.simulation, OF)
    assert defect_distance(study, cell, OF) == pytest.approx(distance)


def test_defects_that_go_with_the_training_cell_are_built_at_each_point(tmp_path):
    vacancies = [f'[{{ kind = "vacancy", at = [0, 0] }}, {{ kind = "vacancy", at = [{n}, 0] }}]' for n in (2, 3)]
    rows = ", ".join(f"[[{n}, 2], {defects}]" for n, defects in zip((3, 4), vacancies, strict=True))
    together = f'sweep."training.cell, simulation.defects"=[{rows}]'
    study = loads(INPUT.format(output=tmp_path / "two.h5"), [together, "sweep.fit.tolerance=[1e-4, 1e-6]"])
    run(study, MPI.COMM_SELF)
    file = ResultFile(tmp_path / "two.h5")
    assert [file.read("build", "defect_distance", i) for i in range(4)] == pytest.approx([2.0, 2.0, 3.0, 3.0])
    assert [len(file.read("label", "training", i)["n_sites"]) for i in range(4)] == [13] * 4
    domains = [file.read("train", "domain_size", i) for i in range(4)]
    assert domains == pytest.approx([3.0, 3.0, 12.0**0.5, 12.0**0.5])
    assert not file.complete("build")


def test_orthorhombic_cells_of_other_lattices_are_refused():
    with pytest.raises(ConfigError, match='shape = "orthorhombic": is for'):
        loads(INPUT.format(output="x.h5"), ["crystal.lattice=square"])
