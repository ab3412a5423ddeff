"""Cells of the entropy oracle, in this program's order of sites."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ase.build import bulk

from parmlip.crystal.defects import Substitution, Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.fit.observations import Configuration
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.third_derivatives import ThirdDerivative
from parmlip.potentials import eam, stillinger_weber, toy

ORACLE = json.loads((Path(__file__).parents[1] / "data" / "entropy_sites_oracle.json").read_text())
SI = stillinger_weber.builtin("Si-SW")
LAW = {"Si_vac_n2": SI, "Cu_vac_n3": eam.builtin("Cu-Mishin2001")}
LATTICE = {"Si": "diamond", "Cu": "fcc"}


def matched(cell, positions_ac):
    """Displacement of the cell's sites to the nearest given positions, and the numbers of these."""
    lengths_c = np.diag(cell.cell_cc)
    offset = cell.positions_ac[:, None] - np.asarray(positions_ac)[None]
    offset -= np.rint(offset / lengths_c) * lengths_c
    j = np.argmin((offset**2).sum(axis=-1), axis=1)
    assert len(set(j.tolist())) == len(j)
    return -offset[np.arange(len(j)), j], j


def perfect_order(cell, symbol, n, a):
    """The oracle's number of every site of a perfect cell."""
    atoms = bulk(symbol, LATTICE[symbol], a=a, cubic=True)
    index = np.array(np.unravel_index(np.arange(n**3 * len(atoms)), (n, n, n, len(atoms)))).T
    return matched(cell, index[:, :3] * a + atoms.positions[index[:, 3]])[1]


def defect(key):
    """Law, cell, displacement, and the oracle's number of every site of the perfect grid."""
    given, symbol = ORACLE["defects"][key], key[:2]
    n, a = given["n"], given["a"]
    perfect = build_supercell(LATTICES[LATTICE[symbol]], a, (n, n, n), (symbol,))
    cell = apply_defects(perfect, [Vacancy((0, 0, 0))])
    u_ad, _ = matched(cell, given["pos_def"])
    return LAW[key], cell, u_ad, perfect_order(perfect, symbol, n, a)


def site64():
    """The displaced perfect cell of the oracle's site gradient, and the oracle's number of every site."""
    a = ORACLE["gradients"]["site64"]["a"]
    cell = build_supercell(LATTICES["diamond"], a, (2, 2, 2), ("Si",))
    order = perfect_order(cell, "Si", 2, a)
    k = 3 * np.arange(64)[:, None] + np.arange(3)
    return SI, cell, 0.04 * np.sin(1.7 * k**2 + 0.3 * k + 1)[order], order


def chain(delta, n=800):
    """The impure chain of n sites (800: the oracle's); site i is at i."""
    impure = [Substitution((0, 0, 0), "He"), Substitution((1, 0, 0), "He")]
    cell = apply_defects(build_supercell(LATTICES["chain"], 1.0, (n, 1, 1), ("H",)), impure)
    i = np.rint(cell.positions_ac[:, 0])
    return toy.builtin("chain-toy", delta), cell, 0.2 * np.sin(1.3 * i * i + 0.5 * i)[:, None]


def square(delta):
    """The impure square lattice of 45 x 45 sites, and the places (x, y) of its sites."""
    impure = [Substitution((22, 22, 0), "He"), Substitution((23, 22, 0), "He"), Substitution((22, 23, 0), "Li")]
    cell = apply_defects(build_supercell(LATTICES["square"], 1.0, (45, 45, 1), ("H",)), impure)
    place = np.rint(cell.positions_ac[:, :2]).astype(int)
    i = place[:, 0] * 45 + place[:, 1]
    u_ad = np.zeros((2025, 2))
    u_ad[:, 0] = 0.1 * np.sin(1.3 * i * i + 0.5 * i)
    return toy.builtin("square-toy", delta), cell, u_ad, place


def configuration(key):
    """A rattled cell of the oracle's total gradients."""
    given = ORACLE["gradients"][key]
    positions_ac = np.array(given["pos"])
    return Configuration(np.diag(given["cell"]), (True,) * 3, positions_ac, ("Si",) * len(positions_ac))


def at_state(law, cell, u_ad, comm):
    """F H F and third derivatives at a displacement."""
    energy = Energy(law, cell, comm=comm)
    u_nd = energy.sites.restrict(u_ad)
    matrix = hessian.assembled(energy, u_nd)
    return energy, RelativeHessian(matrix, law, cell, energy.sites), ThirdDerivative(energy, u_nd)
