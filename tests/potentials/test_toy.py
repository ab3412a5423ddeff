"""The scalar toy law: its bonds, its signs and its derivatives."""

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.potentials.base import complex_step
from parmlip.potentials.toy import builtin, toy


def energy_of(law, lattice, repeats):
    return Energy(law, build_supercell(LATTICES[lattice], 1.0, repeats, ("H",)), comm=MPI.COMM_SELF)


def bonds(u, delta):
    """Energy of a periodic chain, each bond once: the independent sum."""
    d = np.roll(u, -1) - u
    return np.sum(d**2 + delta * d**3 + d**4)


@pytest.mark.parametrize("delta", [0.0, 0.5, -0.3])
def test_the_chain_is_the_sum_over_signed_differences_of_neighbours(delta):
    energy = energy_of(builtin("chain-toy", delta), "chain", (12, 1, 1))
    u = np.random.default_rng(1).uniform(-0.12, 0.12, 12)
    assert energy.total(u[:, None]) == pytest.approx(bonds(u, delta), rel=1e-13)
    d = np.roll(u, -1) - u
    slope = 2 * d + 3 * delta * d**2 + 4 * d**3
    _, force = energy.difference_and_forces(u[:, None])
    np.testing.assert_allclose(force[:, 0], slope - np.roll(slope, 1), atol=1e-13)


def test_components_of_the_square_lattice_are_uncoupled_scalar_fields():
    energy = energy_of(builtin("square-toy", 0.5), "square", (5, 6, 1))
    cells = np.rint(energy.supercell.positions_ac[:, :2]).astype(int)
    order = np.empty((5, 6), int)
    order[cells[:, 0], cells[:, 1]] = np.arange(30)
    u_ad = np.random.default_rng(2).uniform(-0.12, 0.12, (30, 2))
    expected = sum(bonds(line, 0.5) for c in range(2) for u in (u_ad[order, c],) for line in (*u, *u.T))
    assert energy.total(u_ad) == pytest.approx(expected, rel=1e-13)
    u_ad[:, 1] = 0.0
    _, force = energy.difference_and_forces(u_ad)
    assert np.abs(force[:, 1]).max() < 1e-15 < np.abs(force[:, 0]).max()


@pytest.mark.parametrize(("name", "lattice", "repeats"), [("chain-toy", "chain", (9, 1, 1)),
                                                         ("square-toy", "square", (4, 5, 1))])  # fmt: skip
def test_tangent_is_the_complex_step_of_the_gradient(name, lattice, repeats):
    energy = energy_of(builtin(name), lattice, repeats)
    rng = np.random.default_rng(3)
    u = rng.uniform(-0.1, 0.1, (energy.sites.n_owned, LATTICES[lattice].dimension))
    environments = energy.environments(u)
    dr_pc = rng.normal(size=environments.r_pc.shape)
    dr_pc[:, LATTICES[lattice].dimension :] = 0.0
    exact = complex_step(energy.law, environments)(dr_pc)
    np.testing.assert_allclose(energy.law.linearised(environments)(dr_pc), exact, atol=1e-13)


def test_impurity_bonds_are_those_of_their_pair_of_species_and_bad_constants_are_refused():
    law = builtin("chain-toy", 0.0)
    h, he, li = 0, 1, 2
    c = law.constants.stiffness_st
    assert (c[h, h], c[h, he], c[he, he], c[he, li], c[li, he]) == (1.0, 1.0, 2.0, 1.5, 1.5)
    for make, message in (
        (lambda: builtin("cube-toy"), "chain-toy, square-toy"),
        (lambda: toy(3), "dimension = 3"),
        (lambda: toy(1, stiffness={("H", "H"): -1.0}), "stiffness of H H = -1"),
        (lambda: toy(1, stiffness={("H", "Xe"): 1.0}), "H Xe"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


@pytest.mark.parametrize(("name", "lattice", "repeats"), [("chain-toy", "chain", (9, 1, 1)),
                                                         ("square-toy", "square", (4, 5, 1))])  # fmt: skip
def test_differences_of_energy_and_forces_have_order_two_and_those_of_the_hessian_are_exact(name, lattice, repeats):
    energy = energy_of(builtin(name), lattice, repeats)
    rng = np.random.default_rng(4)
    u, v = rng.uniform(-0.1, 0.1, (2, energy.sites.n_owned, LATTICES[lattice].dimension))
    v /= np.abs(v).max()

    def gradient(h):
        return energy.gradient_from_pairs(energy.law.site_gradients(energy.environments(u + h * v))[1])

    def hessian_v(h):
        """Second derivatives along v; a complex h tilts the vectors of the displaced cell, for the third."""
        here = energy.environments(u + h.real * v)
        along = (energy.environments(u + 0.05 * v).r_pc - energy.environments(u).r_pc) / 0.05
        environments = here.with_vectors(here.r_pc + 1j * h.imag * along) if h.imag else here
        return energy.gradient_from_pairs(energy.law.linearised(environments)(along))

    steps = np.array([1e-2, 5e-3, 2.5e-3])
    for lower, exact in ((lambda h: energy.total(u + h * v), np.sum(gradient(0.0) * v)), (gradient, hessian_v(0.0))):
        errors = [np.linalg.norm((lower(h) - lower(-h)) / (2 * h) - exact) for h in steps]
        assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)
    third = hessian_v(1e-20j).imag / 1e-20
    np.testing.assert_allclose((hessian_v(1e-2) - hessian_v(-1e-2)) / 2e-2, third, rtol=0, atol=1e-11)
    assert np.abs(third).max() > 1.0


def test_chain_and_square_relax_to_the_spacing_and_another_lattice_is_refused_with_what_to_write():
    for name, lattice in (("chain-toy", "chain"), ("square-toy", "square")):
        assert relaxed_lattice(builtin(name), LATTICES[lattice], ("H",))[1] == pytest.approx(1.0, rel=1e-12)
    with pytest.raises(ConvergenceError, match=r"triangular H has no stress-free .* give \[crystal\] lattice_constant"):
        relaxed_lattice(builtin("square-toy"), LATTICES["triangular"], ("H",))
