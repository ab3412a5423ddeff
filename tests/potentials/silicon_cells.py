"""Cells of silicon and what the tests of its laws share."""

import json
from pathlib import Path

import numpy as np

from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics.bulk import UnitCell, relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.relax import relax
from tests.potentials.eam_cells import FCC, Cell

ORACLES = json.loads((Path(__file__).parents[1] / "data/silicon_oracles.json").read_text())["laws"]
DIAMOND = np.concatenate([FCC, FCC + 0.25])
ACCURATE = Relax(force_tolerance=1e-10)


def stored(law, name, part):
    data = ORACLES[name][part]
    positions = np.array(data["positions"])
    return data, Cell(law, np.array(data["cell"]), positions, np.zeros(len(positions), int))


def turned(environments, determinant, seed=5):
    q_cc, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q_cc *= determinant * np.linalg.det(q_cc)
    return q_cc, environments.with_vectors(environments.r_pc @ q_cc)


def relabelled(cell, seed=6):
    order_a = np.random.default_rng(seed).permutation(len(cell.positions_ac))
    return order_a, Cell(cell.law, cell.cell_cc, cell.positions_ac[order_a], cell.species_a[order_a])


def orders(cell, steps):
    """Fitted orders of central differences of energy, gradient and Hessian times a direction."""
    v_ac = np.random.default_rng(7).normal(size=cell.positions_ac.shape)
    v_ac /= np.abs(v_ac).max()
    derivatives = [
        (lambda h: cell.energy(h * v_ac), np.sum(cell.gradient() * v_ac)),
        (lambda h: cell.gradient(h * v_ac), cell.hessian_times(np.zeros_like(v_ac), v_ac)),
        (lambda h: cell.hessian_times(h * v_ac, v_ac), cell.hessian_times(1e-20j * v_ac, v_ac).imag / 1e-20),
    ]
    fitted = []
    for function, derivative in derivatives:
        errors = [np.linalg.norm((function(h) - function(-h)) / (2 * h) - derivative) for h in steps]
        fitted.append(np.polyfit(np.log(steps), np.log(errors), 1)[0])
    return fitted


def vacancy(law, comm, lattice_constant=None, repeats=4, inward=0.0, settings=ACCURATE):
    """Unrelaxed and relaxed energy of a vacancy in a fixed cubic cell, eV, and the largest force; `inward` displaces
    the four neighbours towards it, angstrom."""
    lattice = LATTICES["diamond"]
    a = lattice_constant or relaxed_lattice(law, lattice, ("Si",))[1]
    unit = UnitCell(law, lattice, a, ("Si",))
    per_site = unit.energy / unit.n_basis
    supercell = apply_defects(build_supercell(lattice, a, 3 * (repeats,), ("Si",)), [Vacancy(at=(0, 0, 0))])
    energy = Energy(law, supercell, comm=comm)
    zero = np.zeros((energy.sites.n_owned, 3))
    before = energy.total(zero) - energy.sites.n_sites * per_site
    u0 = zero.copy()
    if inward:
        length = a * repeats
        r_ac = (supercell.positions_ac + 0.5 * length) % length - 0.5 * length
        near = np.linalg.norm(r_ac, axis=1) < 0.5 * a
        u0[near] = -inward * r_ac[near] / np.linalg.norm(r_ac[near], axis=1)[:, None]
    equilibrium = relax(energy, u0, settings)
    return before, before + equilibrium.energy, equilibrium
