"""Cauchy-Born derivatives: each order against differences of the one below, symmetries, elastic constants."""

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES
from parmlip.mechanics.bulk import UnitCell, relaxed_lattice
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin

ZHOU = builtin("W-Zhou", (3.8, 5.0))
BASIS = ACEBasis(("W",), correlation_order=3, total_degree=5, cutoff=4.6, r0=2.7)
RANDOM_ACE = ACE(BASIS, np.random.default_rng(0).standard_normal(BASIS.n_basis))
CRYSTALS = [(ZHOU, "bcc", 3.16), (ZHOU, "hcp", 2.8), (ZHOU, "triangular", 2.7), (RANDOM_ACE, "bcc", 3.14),
            (RANDOM_ACE, "hcp", 2.8)]  # fmt: skip
IDS = [f"{type(law).__name__}-{name}" for law, name, _ in CRYSTALS]


def moved(law, crystal, change_x):
    """The derivatives' own crystal with parameters changed by hand."""
    r_pc = crystal.environments.r_pc + np.tensordot(change_x, crystal.direction_xpc, 1)
    return crystal.environments.with_vectors(r_pc)


@pytest.mark.parametrize(("law", "name", "a"), CRYSTALS, ids=IDS)
def test_each_order_is_the_derivative_of_the_order_below(law, name, a):
    crystal = CauchyBorn(law, LATTICES[name], a, ("W",))
    v = np.random.default_rng(1).standard_normal(len(crystal.direction_xpc))
    v /= np.linalg.norm(v)

    def energy(h):
        return law.site_energies(moved(law, crystal, h * v)).sum() / crystal.volume

    def gradient(h):
        g_pc = law.site_gradients(moved(law, crystal, h * v))[1]
        return np.einsum("xpc,pc->x", crystal.direction_xpc, g_pc) / crystal.volume

    def hessian(h):
        return crystal._second(moved(law, crystal, h * v).r_pc)

    second, third = crystal.second() @ v, crystal.third() @ v
    steps = np.array([2e-3, 1e-3, 5e-4])
    for lower, exact in ((energy, crystal.first() @ v), (gradient, second), (hessian, third)):
        errors = [np.abs((lower(h) - lower(-h)) / (2 * h) - exact).max() for h in steps]
        assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("law", "name", "a"), CRYSTALS, ids=IDS)
def test_tensors_are_symmetric_in_all_indices(law, name, a):
    crystal = CauchyBorn(law, LATTICES[name], a, ("W",))
    second, third = crystal.second(), crystal.third()
    assert np.abs(second - second.T).max() < 1e-11 * np.abs(second).max()
    for axes in ((1, 0, 2), (0, 2, 1)):
        assert np.abs(third - third.transpose(axes)).max() < 1e-11 * np.abs(third).max()


@pytest.mark.parametrize(("law", "name", "a"), CRYSTALS, ids=IDS)
def test_rotations_change_nothing(law, name, a):
    crystal = CauchyBorn(law, LATTICES[name], a, ("W",))
    d = round(np.sqrt(crystal.n_strain))
    turn = np.zeros((d, d))
    turn[0, 1], turn[1, 0] = 1.0, -1.0
    s = crystal.n_strain
    first, second = crystal.first()[:s].reshape(d, d), crystal.second()[:s, :s].reshape(d, d, d, d)
    # W(Q F) = W(F): P(Q F) = Q P(F), differentiated at Q = I along the turn.
    assert np.abs(np.tensordot(second, turn, 2) - turn @ first).max() < 1e-11 * np.abs(second).max()
    assert np.abs(first - first.T).max() < 1e-11 * np.abs(second).max()


def test_a_cubic_crystals_third_derivatives_have_its_symmetry():
    third = CauchyBorn(ZHOU, LATTICES["bcc"], 3.16, ("W",)).third()[:9, :9, :9].reshape((3,) * 6)
    turn = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    turned = np.einsum("ai,bj,ck,dl,em,fn,ijklmn->abcdef", *[turn] * 6, third, optimize=True)
    assert np.abs(turned - third).max() < 1e-11 * np.abs(third).max()


@pytest.mark.parametrize("name", ["bcc", "hcp", "triangular"])
def test_symmetric_strains_give_the_stiffness_of_the_unit_cell(name):
    lattice, a = relaxed_lattice(ZHOU, LATTICES[name], ("W",))
    crystal, d = CauchyBorn(ZHOU, lattice, a, ("W",)), lattice.dimension
    clamped, relaxed = UnitCell(ZHOU, lattice, a, ("W",)).stiffness()
    pairs = [(0, 0), (1, 1), (0, 1)] if d == 2 else [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    strain_vx = np.array([np.eye(d)[i][:, None] * np.eye(d)[j] for i, j in pairs])
    strain_vx = 0.5 * (strain_vx + strain_vx.transpose(0, 2, 1)).reshape(len(pairs), -1)
    s = crystal.n_strain
    for ours, theirs in ((crystal.second()[:s, :s], clamped), (crystal.relaxed_second(), relaxed)):
        assert np.abs(strain_vx @ ours @ strain_vx.T - theirs).max() < 1e-9 * np.abs(theirs).max()


def test_fourth_derivatives_are_symmetric_to_their_own_error():
    fourth = CauchyBorn(ZHOU, LATTICES["triangular"], 2.7, ("W",)).fourth()
    t = fourth.tensor
    assert fourth.error < 1e-2 * np.abs(t).max()
    # the index of the differences against one of the exact ones
    assert np.abs(t - t.transpose(0, 1, 3, 2)).max() < 2 * fourth.error
