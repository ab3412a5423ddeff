"""Stiffness of a law's crystal against its waves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI

from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.lattice_waves import stiffness
from parmlip.mechanics.stability import Product
from parmlip.potentials.eam import builtin

LAW, REFERENCE = builtin("W-FS84"), builtin("W-Zhou", (3.8, 5.0))


def dense(law, lattice, constant, repeats):
    """The Hessian of a perfect supercell without its translations."""
    energy = Energy(law, build_supercell(lattice, constant, repeats, ("W",)), comm=MPI.COMM_SELF)
    shape = (energy.sites.n_owned, energy.dimension)
    with Product(energy, np.zeros(shape)) as product:
        columns = [product(unit.reshape(shape)).ravel() for unit in np.eye(shape[0] * shape[1])]
    moving = scipy.linalg.null_space(np.tile(np.eye(shape[1]), shape[0]))
    return moving.T @ np.array(columns) @ moving


@pytest.mark.parametrize(("name", "constant", "repeats"), [("triangular", 2.7, (8, 8, 1)), ("chain", 2.3, (8, 1, 1))])
def test_the_extremes_are_those_of_a_supercell_with_the_same_waves(name, constant, repeats):
    lattice = lattice_named(name)
    found = stiffness(LAW, REFERENCE, lattice, constant, ("W",))
    of_cell = scipy.linalg.eigvalsh(*(dense(law, lattice, constant, repeats) for law in (LAW, REFERENCE)))
    assert found.relative
    assert found.low <= of_cell.min() * (1.0 + 1e-9)  # longer waves are looked at too
    assert found.low == pytest.approx(of_cell.min(), rel=0.05)
    assert found.high == pytest.approx(of_cell.max(), rel=1e-9)
    assert found.error == pytest.approx(max(1.0 - found.low, found.high - 1.0))


@pytest.mark.parametrize("name", ["bcc", "fcc", "diamond"])
def test_a_law_beside_itself_is_as_stiff_against_every_wave(name):
    constant = {"bcc": 3.165, "fcc": 4.0, "diamond": 5.8}[name]
    found = stiffness(LAW, LAW, lattice_named(name), constant, ("W",))
    if found.relative:  # its own crystal is stable
        assert found.low == pytest.approx(1.0, abs=1e-6)
        assert found.high == pytest.approx(1.0, abs=1e-6)
    else:
        assert found.low < 0.0


def test_a_crystal_that_falls_into_another_has_a_wave_of_negative_stiffness():
    sc = lattice_named("sc")
    alone = stiffness(REFERENCE, None, sc, 2.6, ("W",))
    assert not alone.relative
    assert alone.low < -0.1
    assert alone.error == np.inf
    assert stiffness(LAW, REFERENCE, sc, 2.6, ("W",)).relative is False  # beside what is not stable itself
    bcc = stiffness(REFERENCE, None, lattice_named("bcc"), 3.165, ("W",))
    assert 0.0 < bcc.low < bcc.high == 1.0
