"""Lattice constants, energies and elastic constants against independent programs, derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES, hcp
from parmlip.errors import ConvergenceError
from parmlip.mechanics.bulk import UnitCell, bulk_properties, relaxed_lattice
from parmlip.potentials.eam import builtin

# name, lattice, species, a0 (A), energy per atom (eV), C11, C12, C44 (GPa): LAMMPS 22Jul2025, from tables of the same
# constants; elastic constants by differences of its stress with strains of 2e-4. For copper these are 169.8799597,
# 122.5880235 and 76.2061727: its steps cross the jump of F''' at the density 1. Here stands what an independent
# evaluation finds with smaller ones (tests/potentials/test_oracles_elastic.py).
CUBIC = [
    ("W-EAM4", "bcc", "W", 3.14339002862993, -8.899995814009053, 523.0366553846, 202.1793610670, 160.8798620074),
    ("W-Zhou", "bcc", "W", 3.1648494554438744, -8.759994064855979, 522.5390727532, 204.2207325884, 160.7546817840),
    ("Cu-Mishin2001", "fcc", "Cu", 3.614925065888083, -3.540218330204913, 169.8769608, 122.5850284, 76.2061465),
]


@pytest.mark.parametrize(("name", "lattice", "species", "a0", "energy", "c11", "c12", "c44"), CUBIC)
def test_cubic_crystals_have_the_published_constants(name, lattice, species, a0, energy, c11, c12, c44):
    bulk = bulk_properties(builtin(name), LATTICES[lattice], (species,))
    assert bulk.lattice_constant == pytest.approx(a0, rel=1e-9)
    assert bulk.energy_per_site == pytest.approx(energy, rel=1e-9)
    got = bulk.relaxed_gpa[[0, 0, 3], [0, 1, 3]]
    np.testing.assert_allclose(got, [c11, c12, c44], rtol=0, atol=1e-3)
    np.testing.assert_allclose(bulk.relaxed_vv, bulk.clamped_vv, rtol=1e-9, atol=1e-12)  # every site is a centre


def test_triangular_tungsten_has_the_constants_of_the_independent_program():
    bulk = bulk_properties(builtin("W-EAM4"), LATTICES["triangular"], ("W",))
    assert bulk.lattice_constant == pytest.approx(2.6771840501493336, rel=1e-9)
    assert bulk.energy_per_site == pytest.approx(-6.632268799349592, rel=1e-10)
    got = bulk.relaxed_vv[[0, 0, 2], [0, 1, 2]]
    np.testing.assert_allclose(got, [17.09320433155656, 6.987561170647897, 5.052820473221042], rtol=0, atol=2e-6)


def test_tapered_zhou_in_the_plane_has_the_canonical_lattice_constant():
    _, a0 = relaxed_lattice(builtin("W-Zhou", taper=(4.6, 5.6)), LATTICES["triangular"], ("W",))
    assert a0 == pytest.approx(2.7271050615, abs=1e-9)


def test_hcp_is_relaxed_in_a_and_c():
    law = builtin("Cu-Mishin2001")
    bulk = bulk_properties(law, LATTICES["hcp"], ("Cu",))
    ratio = float(bulk.lattice.cell_cc[2, 2])
    assert ratio != pytest.approx(np.sqrt(8 / 3), abs=1e-4)

    def energy(a: float, c_over_a: float) -> float:
        return UnitCell(law, hcp(c_over_a), a, ("Cu",)).energy

    for da, dr in [(1e-4, 0), (-1e-4, 0), (0, 1e-4), (0, -1e-4), (1e-4, -1e-4)]:
        assert energy(bulk.lattice_constant + da, ratio + dr) > energy(bulk.lattice_constant, ratio)


def test_inner_relaxation_softens_hcp_and_agrees_with_relaxed_strained_cells():
    law, lattice = builtin("Cu-Mishin2001"), LATTICES["hcp"]
    bulk = bulk_properties(law, lattice, ("Cu",))
    cell = UnitCell(law, bulk.lattice, bulk.lattice_constant, ("Cu",))
    clamped, relaxed = cell.stiffness()
    assert relaxed[5, 5] < 0.9 * clamped[5, 5]
    # C66 by brute force: shear the cell, bring the second site to its minimum by Newton, take a second difference.
    r0, environments = cell.environments.r_pc, cell.environments
    inner = (cell.site_p == 1).astype(float) - (cell.centre_p == 1)

    def relaxed_energy(shear: float) -> float:
        strain = np.zeros((3, 3))
        strain[0, 1] = strain[1, 0] = 0.5 * shear
        w = np.zeros(3)
        for _ in range(8):
            env = environments.with_vectors(r0 @ (np.eye(3) + strain) + inner[:, None] * w)
            gradient = inner @ law.site_gradients(env)[1]
            tangent = law.linearised(env)
            second = np.array([inner @ tangent(inner[:, None] * e) for e in np.eye(3)])
            w = w - np.linalg.solve(second, gradient)
        return float(law.site_energies(env).sum())

    h = 1e-3
    c66 = (relaxed_energy(h) + relaxed_energy(-h) - 2 * relaxed_energy(0.0)) / h**2 / cell.volume
    assert relaxed[5, 5] == pytest.approx(c66, rel=1e-4)


@pytest.mark.parametrize("lattice", ["bcc", "fcc", "diamond", "triangular", "chain"])
def test_stiffness_is_the_second_derivative_of_the_energy(lattice):
    law = builtin("W-Zhou", taper=(5.0, 6.0))
    _, a0 = relaxed_lattice(law, LATTICES[lattice], ("W",))
    cell = UnitCell(law, LATTICES[lattice], a0, ("W",))
    clamped, _ = cell.stiffness()
    strain = np.diag([1.0, 0.0, 0.0])

    def gradient(h: float) -> float:
        env = cell.environments.with_vectors(cell.environments.r_pc @ (np.eye(3) + h * strain))
        return float(np.sum((env.r_pc @ strain) * law.site_gradients(env)[1]))

    steps = np.array([4e-3, 2e-3, 1e-3])
    # `gradient` measures lengths in the stretched cell: it is dE/dh (1 + h).
    slopes = [(gradient(h) / (1 + h) - gradient(-h) / (1 - h)) / (2 * h * cell.volume) for h in steps]
    errors = np.abs(np.array(slopes) - clamped[0, 0])
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("lattice", ["bcc", "fcc", "diamond", "hcp", "triangular", "chain"])
def test_force_constants_are_symmetric_and_obey_the_sum_rule(lattice):
    law = builtin("Cu-Mishin2001")
    cell = UnitCell(law, LATTICES[lattice], relaxed_lattice(law, LATTICES[lattice], ("Cu",))[1], ("Cu",))
    offset_oc, block_oij = cell.force_constants()
    where = {tuple(o): i for i, o in enumerate(offset_oc.tolist())}
    scale = np.abs(block_oij).max()
    for o, i in where.items():
        opposite = block_oij[where[(-o[0], -o[1], -o[2])]]
        np.testing.assert_allclose(opposite.T, block_oij[i], rtol=0, atol=1e-13 * scale)
    d = cell.dimension
    total = block_oij.sum(axis=0).reshape(-1, cell.n_basis, d).sum(axis=1)
    np.testing.assert_allclose(total, 0.0, atol=1e-12 * scale)


def test_a_range_without_a_stress_free_lattice_constant_is_told():
    with pytest.raises(ConvergenceError, match="bcc W has no stress-free lattice constant between 3.750"):
        relaxed_lattice(builtin("W-EAM4"), LATTICES["bcc"], ("W",), guess=5.0)
