"""Nye's tensor, and fingerprints of loops by it."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.analysis.loop_state import first_shells, loop_state
from parmlip.analysis.nye import nye_tensor
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.loops import LoopAsked, build_loop
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics.domain import partitioned

A = 3.165
BCC = lattice_named("bcc")
PLATELET = LoopAsked((1, 1, 1), (0.5, 0.5, 0.5), 7.0, "hexagon", "insert")
SLIP = LoopAsked((-1, 1, 0), (0.5, 0.5, 0.5), 7.0)


def start(cell):
    return cell.start(0.28, np.arange(cell.supercell.n_sites))


def test_strained_and_turned_crystals_have_no_dislocations():
    cell = build_supercell(BCC, A, (5, 5, 5), ["W"])
    strain = np.eye(3) + 0.02 * np.random.default_rng(0).uniform(-1.0, 1.0, (3, 3))
    angle = 0.1
    turn = np.array([[np.cos(angle), np.sin(angle), 0.0], [-np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    for deform in (strain, turn):
        moved = replace(cell, cell_cc=cell.cell_cc @ deform)
        x = cell.positions_ac @ deform
        alpha = nye_tensor(moved, BCC, A, np.arange(250) % 2, x, np.arange(250))
        assert np.abs(alpha).max() < 1e-12


def test_the_tensor_of_some_sites_is_that_of_all():
    cell = build_loop(BCC, A, (10, 10, 10), ("W",), replace(SLIP, diameter=5.0))
    s = cell.supercell
    x = s.positions_ac + start(cell)
    whole = nye_tensor(s, BCC, A, cell.basis_a, x, np.arange(s.n_sites))
    some = np.array([1999, 3, 1001, 998])
    np.testing.assert_array_equal(nye_tensor(s, BCC, A, cell.basis_a, x, some), whole[some])
    assert np.abs(whole).max() > 0.05


@pytest.mark.mpi(3)
@pytest.mark.parametrize("asked", [PLATELET, SLIP])
def test_the_line_of_a_start_is_where_it_was_put(comm, asked):
    cell = build_loop(BCC, A, (14, 14, 14), ("W",), asked)
    found = loop_state(cell, partitioned(cell.supercell, comm=comm), start(cell))
    assert 0.75 < found.share < 1.1
    assert 0.75 < found.length / cell.loop.length < 1.15
    assert np.linalg.norm(found.centre_c - cell.loop.centre_c) < 0.3 * A
    direction = found.area_c / np.linalg.norm(found.area_c)
    assert direction @ cell.loop.normal_c > 0.97
    assert found.perfect == 14
    assert 0 < found.n_miscoordinated < 200
    alone = loop_state(cell, partitioned(cell.supercell, comm=MPI.COMM_SELF), start(cell))
    np.testing.assert_allclose(found.area_c, alone.area_c, atol=1e-8)
    assert found.n_miscoordinated == alone.n_miscoordinated


def test_a_crystal_without_its_loop_has_no_line():
    cell = build_loop(BCC, A, (12, 12, 12), ("W",), SLIP)
    sites = partitioned(cell.supercell, comm=MPI.COMM_SELF)
    noise = np.random.default_rng(2).uniform(-0.02, 0.02, (cell.supercell.n_sites, 3))
    for u in (0.0 * noise, noise):
        found = loop_state(cell, sites, u)
        assert abs(found.share) < 0.05
        assert found.n_miscoordinated == 0


def test_loops_of_the_opposite_burgers_vector_have_the_opposite_area():
    """Seen with the Burgers vector of the first."""
    ours = build_loop(BCC, A, (14, 14, 14), ("W",), SLIP)
    theirs = build_loop(BCC, A, (14, 14, 14), ("W",), replace(SLIP, burgers=(-0.5, -0.5, -0.5)))
    sites = partitioned(ours.supercell, comm=MPI.COMM_SELF)
    assert loop_state(ours, sites, start(theirs)).share == pytest.approx(
        -loop_state(ours, sites, start(ours)).share, abs=0.05
    )


@pytest.mark.parametrize(("lattice", "n"), [("bcc", 14), ("fcc", 12), ("diamond", 4)])
def test_neighbours_are_those_of_the_crystal(lattice, n):
    assert first_shells(lattice_named(lattice), 4.0)[0] == n
