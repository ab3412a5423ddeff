"""One dislocation in a disc with a clamped far field."""

import numpy as np
import pytest

from parmlip.config import Relax
from parmlip.crystal.dislocation_disc import build_disc
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.neighbours import find_pairs
from parmlip.errors import ConfigError, GeometryError
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.relax import relax
from parmlip.potentials.eam import builtin

A = 3.1652
BCC = lattice_named("bcc", None)
LAW = builtin("W-FS84", None)
SCREW = {"line": (1, 1, 1), "plane": (-1, 1, 0), "burgers": (0.5, 0.5, 0.5), "core": "easy"}
EDGE = {"line": (0, 0, 1), "plane": (0, 1, 0), "burgers": (1.0, 0.0, 0.0), "core": "auto"}


def disc(radius, rim=2.0 * LAW.cutoff, **given):
    return build_disc(BCC, A, ("W",), radius=radius, rim=rim, **{**SCREW, **given})


def stiffness():
    return UnitCell(LAW, BCC, A, ("W",)).stiffness()[1]


def relaxed(made, comm):
    energy = ClampedEnergy(LAW, made.supercell, made.free_a, comm=comm)
    start_ac = made.predictor(stiffness())
    trio = np.argsort(made.distances(), kind="stable")[:3]
    start_ac[trio, 2] += 0.107 * made.core.burgers[2]  # the core is polarised: to one side
    settings = Relax(method="lbfgs", force_tolerance=1e-6, max_iterations=500)
    found = relax(energy, energy.sites.restrict(start_ac), settings)
    return start_ac, energy.sites.gather_to_all(found.u_nd), found


def test_the_free_sites_are_those_within_the_radius_and_the_rim_is_around_them():
    made = disc(15.0, rim=9.0)
    distance_a = made.distances()
    assert (made.free_a == (distance_a < 15.0)).all()
    assert 23.0 < distance_a.max() < 24.0
    per_area = 2.0 / A**3 * made.supercell.cell_cc[2, 2]
    assert made.supercell.n_sites == pytest.approx(np.pi * 24.0**2 * per_area, rel=0.02)


@pytest.mark.parametrize("given", [SCREW, EDGE])
def test_around_the_core_the_predictor_has_the_burgers_vector_and_no_sites_overlap(given):
    made = disc(25.0, **given)
    u_ac = made.predictor(stiffness())
    x_ac = made.supercell.positions_ac - made.centre_c
    pairs = find_pairs(made.supercell.cell_cc, made.supercell.periodic, x_ac + u_ac, 0.7 * np.sqrt(0.75) * A)
    far_p = made.distances()[np.repeat(np.arange(len(x_ac)), np.diff(pairs.first_n))] > 6.0
    assert not far_p.any()
    right_a = (x_ac[:, 0] > 20.0) & (np.abs(x_ac[:, 1]) < 3.0)
    up, down = (u_ac[right_a & (sign * x_ac[:, 1] > 0.0)].mean(axis=0) for sign in (1.0, -1.0))
    np.testing.assert_allclose(down - up, made.core.burgers, atol=0.12 * np.linalg.norm(made.core.burgers))


@pytest.mark.mpi
def test_relaxation_moves_free_sites_only_and_leaves_no_force_on_them(comm):
    made = disc(10.0)
    start_ac, u_ac, found = relaxed(made, comm)
    assert found.converged
    assert found.max_force <= 1e-6
    assert (u_ac[~made.free_a] == start_ac[~made.free_a]).all()
    assert np.abs(u_ac - start_ac)[made.free_a].max() > 1e-3


def test_near_the_core_discs_of_two_sizes_agree_the_better_the_larger_they_are():
    from mpi4py import MPI

    columns = []
    for radius in (9.0, 14.0, 21.0):
        made = disc(radius)
        _, u_ac, _ = relaxed(made, MPI.COMM_SELF)
        near = np.flatnonzero(made.distances() < 6.0)
        near = near[np.lexsort(np.round(made.supercell.positions_ac[near], 3).T)]
        columns.append(u_ac[near] - u_ac[near].mean(axis=0))
    first, second = (np.abs(columns[i] - columns[2]).max() for i in (0, 1))
    assert second < 0.7 * first < 0.1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"radius": 4.0}, "must be at least"),
        ({"radius": 12.0, "rim": 0.0}, "rim = 0: must be greater"),
        ({"radius": 12.0, "core": (0.0, 0.0)}, "is on a column"),
        ({"radius": 12.0, **EDGE, "core": (0.25, 0.5)}, "glide plane holds sites"),
        ({"radius": 12.0, "burgers": (0.3, 0.3, 0.3)}, "is not a lattice vector"),
        ({"radius": 12.0, "burgers": (1.0, 0.0, 0.0)}, "must lie in plane"),
    ],
)
def test_what_cannot_be_built_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        disc(**given)


def test_one_site_must_be_free():
    from mpi4py import MPI

    made = disc(10.0)
    with pytest.raises(GeometryError, match="one must be free"):
        ClampedEnergy(LAW, made.supercell, np.zeros(made.supercell.n_sites, dtype=bool), comm=MPI.COMM_SELF)
