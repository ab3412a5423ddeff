"""Controlled surrogates of dislocations: the rates of the theory without a fit (Wang, Patel, Ortner 2023, table 1)."""

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from parmlip import construct
from parmlip.analysis.errors import fit_slope
from parmlip.config import loads
from parmlip.construct_controlled_lines import dislocated_law
from parmlip.construct_dislocations import dislocated
from parmlip.crystal.dislocations import nearest_images
from parmlip.crystal.lattices import lattice_named
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.energy import Energy
from parmlip.pipeline import run
from parmlip.report import draw, table
from parmlip.report.domains import read_series
from tests.program import alone_and_together

SCREW = (
    '{{ kind = "dipole", line = [1, 1, 1], plane = [-1, 1, 0], burgers = [0.5, 0.5, 0.5], core = "easy", '
    "polarity = 0.107 }}"
)
INPUT = f"""
[run]
stages = ["build", "reference", "train", "relax", "compare"]
output = "{{output}}"
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-FS84"
[simulation]
cell = [24, 18, 1]
dislocations = {SCREW}
[[training]]
name = "dipole"
cell = [8, 6, 1]
dislocations = {SCREW}
[surrogate]
kind = "taylor"
[relax]
force_tolerance = 1e-9
"""


def study(path, *overrides):
    return loads(INPUT.format(output=path), overrides)


def errors(path, swept, *overrides):
    run(study(path, *overrides, f"sweep.{swept}"), MPI.COMM_SELF)
    file = ResultFile(path)
    return file, [file.read("compare", "geometry_error", i) for i in range(len(file.points()))]


def test_the_geometry_error_falls_as_the_first_power_of_l_and_with_third_derivatives_at_least_as_the_second(tmp_path):
    swept = '"training.cell"=[[8, 6, 1], [12, 9, 1]]'
    file, found = errors(tmp_path / "run.h5", swept, 'sweep."surrogate.order"=[2, 3]')
    slopes = []
    for order in (2, 3):
        mine = [i for i, point in enumerate(file.points()) if point["surrogate.order"] == order]
        slopes.append(fit_slope([8.0, 12.0], [found[i] for i in mine]).slope)
    assert slopes[0] == pytest.approx(-1.0, abs=0.15)
    assert slopes[1] < -1.7  # the smallest cell's core is not yet that of the others
    for one in read_series(file.path):  # E(u) - E(0) of an expansion about cores is no energy
        assert np.isnan(one.errors["energy_error"]).all()
        assert (one.errors["formation_energy_error"] < 0.1).all()


def test_with_an_error_of_the_elastic_constants_the_square_of_the_geometry_error_grows_as_log_l_d(tmp_path):
    sizes = [(12, 9), (16, 12), (20, 15)]
    cells = ", ".join(f"[{a}, {b}, 1]" for a, b in sizes)
    error = "surrogate.elastic_error={ C11 = 0.0, C12 = 0.0, C44 = 16.0 }"
    file, found = errors(tmp_path / "run.h5", f'"simulation.cell"=[{cells}]', "surrogate.order=3", error)
    square = np.array(found) ** 2
    rise = np.diff(square) / np.diff(np.log([b for _, b in sizes]))
    assert (rise > 0.0).all()
    assert rise[1] == pytest.approx(rise[0], rel=0.25)
    assert any("L_D" in line for line in table(file.path))
    assert any(f.name == "run_separation.png" for f in draw(file.path, tmp_path))


def test_about_its_own_equilibrium_a_surrogate_has_no_forces(tmp_path):
    given = study(tmp_path / "run.h5", "simulation.cell=[8, 6, 1]", "surrogate.order=2", "surrogate.near=1.0")
    run(given, MPI.COMM_SELF)
    file = ResultFile(tmp_path / "run.h5")
    of = lattice_named("bcc", None), file.read("build", "lattice_constant")
    stiffness_vv = np.asarray(file.read("reference", "elastic_constants")) / 160.2176634
    u_ac = np.asarray(file.read("train", "displacement/0"))
    near = []
    for part in (0.5, 1.0):
        law = dislocated_law(
            study(tmp_path / "other.h5", f"surrogate.near={part}"), of, given.training[0], u_ac, stiffness_vv
        )
        energy = Energy(law, construct.supercell(given, given.training[0], of), comm=MPI.COMM_SELF)
        _, f_nc = energy.difference_and_forces(energy.sites.restrict(u_ac))
        near.append(law.state.n_near)
        largest = np.abs(f_nc).max()
    assert near[0] < near[1]
    assert largest < 1e-2
    everywhere = np.array([law.state.is_homogeneous(energy.environments(energy.sites.restrict(u_ac)))])
    assert everywhere.sum() == energy.sites.n_owned - near[1]


def test_both_rows_of_a_quadrupole_of_screws_see_the_like_cores_of_a_dipole():
    """Vectors of pairs near cores, as the dipole's predictor has them, beside those of the quadrupole's own."""
    asked = loads(
        INPUT.format(output="run.h5"),
        ["simulation.dislocations.kind=quadrupole", "simulation.cell=[16, 24, 1]"],
    )
    law = construct.reference_law(asked)
    lattice, constant = construct.lattice(asked, law)
    c_vv = UnitCell(law, lattice, constant, ("W",)).stiffness()[1]
    dipole, cell = (dislocated(asked, t, (lattice, constant)) for t in (asked.training[0], asked.simulation))
    u_small, u_large = (made.array(c_vv).displacement(made.lattice_positions_ac) for made in (dipole, cell))
    law = dislocated_law(asked, (lattice, constant), asked.simulation, u_small, c_vv)
    energy = Energy(construct.reference_law(asked), cell.supercell, comm=MPI.COMM_SELF)
    environments = energy.environments(energy.sites.restrict(u_large))
    state_pc, actual_pc = law.state.vectors(environments), environments.r_pc
    centre_p = np.repeat(environments.origin.global_n, np.diff(environments.first_n))
    near_p = np.repeat(~law.state.is_homogeneous(environments), np.diff(environments.first_n))
    wrong_p = np.linalg.norm(state_pc - actual_pc, axis=1)
    nearest = np.linalg.norm(actual_pc, axis=1) < 1.25 * 0.75**0.5 * constant
    for core in cell.cores:
        off_ac = nearest_images(cell.lattice_positions_ac[:, :2] - np.array(core.position), cell.vectors_kc)
        of_core = near_p & nearest & (np.linalg.norm(off_ac, axis=1)[centre_p] < 0.5 * dipole.separation)
        assert of_core.sum() > 100
        assert wrong_p[of_core].max() < 0.2 * np.linalg.norm(core.burgers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.dislocations.kind=quadrupole", 'must be "dipole"'),
        (
            'simulation.dislocations={ kind="given", line=[1, 1, 1], plane=[-1, 1, 0], burgers=[0.5, 0.5, 0.5], '
            "cores=[[2.2, 3.3, 1], [6.2, 3.3, -1]] }",
            'must be "dipole" or "quadrupole"',
        ),
        (
            'simulation.dislocations={ kind="quadrupole", line=[1, 0, 0], plane=[0, 0, 1], burgers=[0, 1, 0] }',
            "is for screws",
        ),
        ('run.stages=["build", "reference", "train", "match"]', '"match" is not for dislocations'),
        ("training.dislocations.core=hard", "must be that of"),
        ("surrogate.third_order_error=0.5", "needs order = 3"),
        ("surrogate.elastic_error={ C11 = 1.0 }", "must have C11, C12 and C44"),
    ],
)
def test_what_no_controlled_surrogate_can_be_is_refused(tmp_path, change, words):
    with pytest.raises(ConfigError, match=words):
        run(study(tmp_path / "run.h5", change), MPI.COMM_SELF)


@pytest.mark.mpi(3)
def test_equilibria_of_controlled_surrogates_do_not_depend_on_the_number_of_ranks(comm, shared_tmp):
    """A quadrupole learnt from a dipole, with third derivatives and an error of the elastic constants."""
    if comm.size == 1:
        pytest.skip("needs several ranks")
    text = study(
        "run.h5", "simulation.dislocations.kind=quadrupole", "simulation.cell=[12, 18, 1]", "surrogate.order=3",
        "surrogate.elastic_error={ C11 = 0.0, C12 = 0.0, C44 = 16.0 }", "relax.residual=false",
        "compare.neighbours=nearest",
    ).as_toml()  # fmt: skip
    alone, together = alone_and_together(text, shared_tmp, comm)
    ours, theirs = scalars(together), scalars(alone)
    assert theirs["compare.same_cores"] is True
    for key in ("relax_reference.energy", "relax_surrogate.energy", "compare.formation_energy_error"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-8)
    assert ours["compare.geometry_error"] == pytest.approx(theirs["compare.geometry_error"], rel=1e-5)
    with h5py.File(together) as a, h5py.File(alone) as b:
        for law in ("relax_reference", "relax_surrogate"):
            u, v = (f[law]["displacement"][...] for f in (a, b))
            assert np.abs((u - u.mean(axis=0)) - (v - v.mean(axis=0))).max() < 1e-6
