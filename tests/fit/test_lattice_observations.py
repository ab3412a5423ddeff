"""Rows on the perfect crystal: linear in the coefficients, complete by symmetry, derivatives of each other."""

import itertools

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES
from parmlip.errors import ConfigError
from parmlip.fit.lattice_observations import (
    CauchyBornDerivative,
    ForceDerivative,
    SiteEnergyDerivative,
    sorted_tuples,
)
from parmlip.fit.parameter_orbits import parameter_maps
from parmlip.fit.patches import Crystal, along, patch_of, symmetries, tuple_orbits
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin
from parmlip.potentials.stillinger_weber import builtin as silicon

CRYSTALS = [
    Crystal(LATTICES["bcc"], 3.14, ("W",)),
    Crystal(LATTICES["b2"], 2.9, ("Ni", "Al")),
    Crystal(LATTICES["triangular"], 2.7, ("W",)),
]
RADIUS = 4.7
W = builtin("W-Zhou", (3.8, 5.0))


def basis_for(crystal):
    return ACEBasis(tuple(sorted(crystal.species)), correlation_order=3, total_degree=4, cutoff=4.6, r0=2.7)


def observations(crystal):
    yield from (SiteEnergyDerivative(crystal, order, RADIUS, gamma=0.3) for order in range(4))
    yield from (ForceDerivative(crystal, order, RADIUS, gamma=0.1) for order in (1, 2, 3))
    yield from (CauchyBornDerivative(crystal, order) for order in (1, 2, 3))


@pytest.mark.parametrize("crystal", CRYSTALS, ids=lambda c: c.lattice.name)
def test_rows_times_coefficients_are_the_values_of_the_law(crystal):
    basis = basis_for(crystal)
    law = ACE(basis, np.random.default_rng(0).standard_normal(basis.n_basis))
    for observation in observations(crystal):
        values = observation.values(law)
        assert np.abs(observation.rows(basis) @ law.coefficients - values).max() < 1e-10 * np.abs(values).max()


def test_fourth_order_rows_are_linear_too():
    crystal = CRYSTALS[2]
    basis = basis_for(crystal)
    law = ACE(basis, np.random.default_rng(0).standard_normal(basis.n_basis))
    observation = CauchyBornDerivative(crystal, 4)
    values = observation.values(law)
    assert np.abs(observation.rows(basis) @ law.coefficients - values).max() < 1e-10 * np.abs(values).max()


def test_parts_put_together_are_the_whole():
    crystal = CRYSTALS[2]
    basis = basis_for(crystal)
    law = ACE(basis, np.random.default_rng(0).standard_normal(basis.n_basis))
    for observation in observations(crystal):
        parts = range(observation.n_parts)
        rows = np.concatenate([observation.rows(basis, p) for p in parts])
        np.testing.assert_array_equal(rows, observation.rows(basis))
        values = np.concatenate([observation.values(law, p) for p in parts])
        np.testing.assert_allclose(values, observation.values(law), rtol=0, atol=1e-13 * np.abs(values).max())


@pytest.mark.parametrize(
    ("name", "order"), [("bcc", 48), ("diamond", 24), ("hcp", 12), ("triangular", 12), ("chain", 2)]
)
def test_isometries_of_a_site_are_the_point_group_of_the_crystal(name, order):
    crystal = Crystal(LATTICES[name], 3.0, ("W",) * LATTICES[name].n_slots)
    to_ga = symmetries(patch_of(crystal, 0, 4.0, 4.0), crystal.lattice.dimension)
    assert len(to_ga) == order
    assert (np.sort(to_ga, axis=1) == np.arange(to_ga.shape[1])).all()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_orbits_of_tuples_count_every_ordered_tuple_once(order):
    to_ga = symmetries(patch_of(CRYSTALS[2], 0, 4.0), 2)
    tuples, counts = tuple_orbits(to_ga, order)
    n = to_ga.shape[1]
    assert counts.sum() == n**order
    orderings = [list(o) for o in itertools.permutations(range(order))]
    orbits = [{tuple(p[o]) for p in to_ga[:, t] for o in orderings} for t in tuples]
    assert [len(orbit) for orbit in orbits] == counts.tolist()
    assert len(set().union(*orbits)) == n**order


@pytest.mark.parametrize("order", [2, 3])
def test_the_sum_of_squares_over_orbits_is_that_over_all_tuples_of_neighbours(order):
    crystal, gamma = CRYSTALS[2], 0.2
    basis = basis_for(crystal)
    law = ACE(basis, np.random.default_rng(1).standard_normal(basis.n_basis))
    patch = patch_of(crystal, 0, RADIUS)
    tangent, n = patch.tangent_of_law(law), patch.n_sites
    total = 0.0
    for prefix in itertools.product(range(1, n), repeat=order - 1):
        for components in itertools.product(range(2), repeat=order - 1):
            moves = []
            for a, c in zip(prefix, components, strict=True):
                v_ac = np.zeros((n, 3))
                v_ac[a, c] = np.exp(gamma * np.linalg.norm(patch.positions_ac[a]))
                moves.append(patch.bonds(v_ac))
            change_ac = along(tangent, patch.r_pc, moves[0], moves[1:], law.cutoff)[1:, :2]
            scale_a = np.exp(gamma * np.linalg.norm(patch.positions_ac[1:], axis=1))
            total += np.sum((change_ac * scale_a[:, None]) ** 2)
    reduced = SiteEnergyDerivative(crystal, order, RADIUS, gamma=gamma).values(law)
    assert np.sum(reduced**2) == pytest.approx(total, rel=1e-10)


def test_first_derivatives_of_the_force_are_the_force_constants_and_second_ones_their_change():
    """Against forces of displaced patches by differences, along one random displacement of all sites."""
    crystal = CRYSTALS[2]
    basis = basis_for(crystal)
    law = ACE(basis, np.random.default_rng(2).standard_normal(basis.n_basis))
    patch = patch_of(crystal, 0, RADIUS, RADIUS)
    assert np.abs(patch.gradient_of_law(law)[0]).max() < 1e-12
    n = patch.n_sites
    tangent, unit = patch.tangent_of_law(law), np.zeros((n, 3))
    unit[0, 0] = 1.0
    first = np.sum([np.sum(tangent(patch.r_pc, patch.bonds(u))[:, :2] ** 2) for u in (unit, unit[:, [1, 0, 2]])])
    assert np.sum(ForceDerivative(crystal, 1, RADIUS).values(law) ** 2) == pytest.approx(first, rel=1e-12)
    total = 0.0
    for a, b, c in itertools.product(range(2), range(n), range(2)):
        v_ac, w_ac = np.zeros((n, 3)), np.zeros((n, 3))
        v_ac[0, a], w_ac[b, c] = 1.0, 1.0
        total += np.sum(along(tangent, patch.r_pc, patch.bonds(v_ac), [patch.bonds(w_ac)], law.cutoff)[:, :2] ** 2)
    assert np.sum(ForceDerivative(crystal, 2, RADIUS).values(law) ** 2) == pytest.approx(total, rel=1e-10)


def test_translation_of_the_crystal_gives_no_force():
    """The force constants of all sites add up to zero: rows of order 1 with the size of their orbits taken off."""
    crystal = Crystal(LATTICES["diamond"], 5.43, ("Si",))
    law, patch = silicon("Si-SW"), patch_of(crystal, 0, 3.8, 3.8)
    change_ac = patch.tangent_of_law(law)(patch.r_pc, patch.bonds(np.eye(patch.n_sites, 3)))
    assert np.abs(change_ac.sum(axis=0)).max() < 1e-11 * np.abs(change_ac).max()
    everywhere = np.ones((patch.n_sites, 3))
    assert np.abs(patch.tangent_of_law(law)(patch.r_pc, patch.bonds(everywhere))).max() < 1e-14


@pytest.mark.parametrize("twice", [False, True])
def test_nested_differences_of_the_gradient_are_derivatives_of_the_order_below(twice):
    patch = patch_of(CRYSTALS[0], 0, 5.1)
    tangent = patch.tangent_of_law(W)
    v_ac, w_ac = np.random.default_rng(3).standard_normal((2, patch.n_sites, 3)) * 0.1
    dr_pc, dw_pc = patch.bonds(v_ac), patch.bonds(w_ac)
    exact = along(tangent, patch.r_pc, dr_pc, [dw_pc, dw_pc] if twice else [dw_pc], W.cutoff)
    steps = np.array([4e-2, 2e-2, 1e-2])

    def lower(h):
        return along(tangent, patch.r_pc + h * dw_pc, dr_pc, [dw_pc] if twice else [], W.cutoff)

    errors = [np.abs((lower(h) - lower(-h)) / (2 * h) - exact).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


def test_symmetric_components_of_the_elastic_tensors_are_there_once_with_their_number():
    crystal = CRYSTALS[2]
    density = CauchyBorn(W, crystal.lattice, crystal.lattice_constant, crystal.species)
    for order, tensor in ((1, density.first()), (2, density.second()), (3, density.third())):
        reduced = CauchyBornDerivative(crystal, order).values(W)
        assert len(reduced) < tensor.size or order == 1
        assert np.sum(reduced**2) == pytest.approx(np.sum(tensor**2), rel=1e-12)


@pytest.mark.parametrize("crystal", CRYSTALS, ids=lambda c: c.lattice.name)
def test_orbits_of_the_fourth_derivatives_stand_for_all_components(crystal):
    law = W
    if "Ni" in crystal.species:
        basis = basis_for(crystal)
        law = ACE(basis, np.random.default_rng(3).standard_normal(basis.n_basis))
    density = CauchyBorn(law, crystal.lattice, crystal.lattice_constant, crystal.species)
    fourth = density.fourth()
    observation = CauchyBornDerivative(crystal, 4)
    values = observation.values(law)
    assert len(values) < len(sorted_tuples(len(density.direction_xpc), 4)[0]) / 3
    assert np.sum(values**2) == pytest.approx(np.sum(fourth.tensor**2), rel=1e-7)
    assert sum(observation.n_rows(p) for p in range(observation.n_parts)) == len(values)
    for to, sign in zip(*parameter_maps(crystal), strict=True):
        turned = fourth.tensor[np.ix_(to, to, to, to)] * np.einsum("a,b,c,d->abcd", sign, sign, sign, sign)
        assert np.abs(turned - fourth.tensor).max() < 1e-6 * np.abs(fourth.tensor).max()


def test_squares_are_divided_by_weights_exponential_in_the_distance_of_every_neighbour():
    """Chen, Ortner, Wang (2021), (3.1) with (3.2): |V_rho|^2 / prod exp(-2 gamma |rho_i|)."""
    gamma = 0.2
    plain, weighted = (SiteEnergyDerivative(CRYSTALS[0], 1, 5.1, gamma=g) for g in (0.0, gamma))
    distance_t = np.linalg.norm(plain.patch.positions_ac[plain._orbits[0][:, 0]], axis=1)
    w_t = np.exp(-2 * gamma * distance_t)
    np.testing.assert_allclose(weighted.values(W) ** 2, plain.values(W) ** 2 / np.repeat(w_t, 3), rtol=1e-13)


def test_what_cannot_be_observed_is_refused():
    with pytest.raises(ConfigError, match="of order 0 to 3, not 4"):
        SiteEnergyDerivative(CRYSTALS[0], 4, 5.0)
    with pytest.raises(ConfigError, match="of order 1 to 3, not 0"):
        ForceDerivative(CRYSTALS[0], 0, 5.0)
    with pytest.raises(ConfigError, match="of order 1 to 4, not 5"):
        CauchyBornDerivative(CRYSTALS[0], 5)
    with pytest.raises(ConfigError, match=r"radius 4 A of the observed neighbours is below the cutoff 5 A"):
        SiteEnergyDerivative(CRYSTALS[0], 1, 4.0).values(W)
