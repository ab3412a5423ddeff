"""Atoms that overlap are told before they are evaluated."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from parmlip.config import loads
from parmlip.evaluate import evaluate
from parmlip.evaluate_overlaps import warn_of_overlaps

COPPER = loads('[reference]\nparameters = "Cu-Mishin2001"\n')
EMT = loads('[reference]\nkind = "ase"\ncalculator = "ase.calculators.emt.EMT"\n')


@pytest.fixture
def told(caplog, monkeypatch):
    """Warnings so far."""
    monkeypatch.setattr(logging.getLogger("parmlip"), "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def crowded(distance):
    """Copper, with an atom at this distance from a periodic image of the first."""
    atoms = bulk("Cu", cubic=True)
    atoms += Atoms("Cu", [atoms.cell[2] - [0.0, 0.0, distance]])
    return atoms


@pytest.mark.mpi(2)
@pytest.mark.parametrize("study", [COPPER, EMT], ids=["sites", "structures"])
def test_the_worst_pair_of_a_structure_is_told_with_its_distance(study, comm, told):
    structures = [bulk("Cu", cubic=True), crowded(0.4), crowded(1.7)]
    evaluate(study, structures, "reference", None, comm, None)
    if comm.rank == 0:
        pair = "structure 1: atoms 0 (Cu) and 4 (Cu) overlap: they are 0.4 A apart"
        assert told() == [f"{pair}, 0.15 of the sum of their covalent radii"]


def test_a_long_list_is_cut_and_counted(comm, told):
    warn_of_overlaps([crowded(0.1 * i) for i in range(1, 9)], comm=comm)
    assert [line[:11] for line in told()[:-1]] == [f"structure {i}" for i in range(5)]
    assert told()[-1] == "8 structures of 8 have overlapping atoms"


def test_radii_are_of_the_species_and_bonds_do_not_overlap(comm, told):
    bonds = [Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), Atoms("OH", [[0, 0, 0], [0, 0, 0.96]]), bulk("C", "diamond", 3.57)]
    alone, lost = Atoms("H", [[0, 0, 0]]), Atoms("H", [[0, 0, np.nan]])
    warn_of_overlaps([*bonds, alone, lost], comm=comm)
    assert told() == []
    warn_of_overlaps([Atoms("WH", [[0, 0, 0], [0, 0, 0.96]])], comm=comm)
    assert told()[0].startswith("structure 0: atoms 0 (W) and 1 (H) overlap: they are 0.96 A apart, 0.5")
