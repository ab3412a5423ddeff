"""Rows on the perfect crystal: linear in the coefficients, derivatives of each other."""

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES
from parmlip.errors import ConfigError
from parmlip.fit.lattice_observations import CauchyBornDerivative, Crystal, SiteEnergyDerivative
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin

CRYSTALS = [
    Crystal(LATTICES["bcc"], 3.14, ("W",)),
    Crystal(LATTICES["b2"], 2.9, ("Ni", "Al")),
    Crystal(LATTICES["triangular"], 2.7, ("W",)),
]
RADIUS = 4.7


def basis_for(crystal):
    return ACEBasis(tuple(sorted(crystal.species)), correlation_order=3, total_degree=4, cutoff=4.6, r0=2.7)


def observations(crystal):
    yield from (SiteEnergyDerivative(crystal, order, RADIUS, gamma=0.3) for order in range(4))
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
    assert np.abs(observation.rows(basis) @ law.coefficients - values).max() < 1e-9 * np.abs(values).max()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_the_site_energy_are_those_of_the_order_below(order):
    law, crystal = builtin("W-Zhou", (3.8, 5.0)), CRYSTALS[0]
    exact = SiteEnergyDerivative(crystal, order, 5.1)
    here = exact._environment(law.species, law.cutoff)
    probe_pc = exact._probe(here)

    def lower(h):
        around = here.with_vectors(here.r_pc + h * probe_pc)
        energy_n, g_pc = law.site_gradients(around)
        if order < 3:
            return energy_n if order == 1 else g_pc.ravel()
        return np.concatenate([
            law.linearised(around)(unit.reshape(g_pc.shape)).ravel() for unit in np.eye(g_pc.size)
        ])  # fmt: skip

    values = exact.values(law)
    expected = values if order == 3 else values.reshape(-1, probe_pc.size) @ probe_pc.ravel()
    steps = np.array([1e-2, 5e-3, 2.5e-3])
    errors = [np.abs((lower(h) - lower(-h)) / (2 * h) - expected).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


def test_weights_are_exponential_in_the_distance_of_every_neighbour():
    law, crystal = builtin("W-Zhou", (3.8, 5.0)), CRYSTALS[0]
    plain, weighted = (SiteEnergyDerivative(crystal, 1, 5.1, gamma=g).values(law) for g in (0.0, 0.2))
    r_pc = SiteEnergyDerivative(crystal, 1, 5.1)._environment(law.species, law.cutoff).r_pc
    np.testing.assert_allclose(weighted, plain * np.repeat(np.exp(0.4 * np.linalg.norm(r_pc, axis=1)), 3), rtol=1e-13)


def test_what_cannot_be_observed_is_refused():
    with pytest.raises(ConfigError, match="of order 0 to 3, not 4"):
        SiteEnergyDerivative(CRYSTALS[0], 4, 5.0)
    with pytest.raises(ConfigError, match="of order 1 to 4, not 5"):
        CauchyBornDerivative(CRYSTALS[0], 5)
    with pytest.raises(ConfigError, match=r"radius 4 A of the observed neighbours is below the cutoff 5 A"):
        SiteEnergyDerivative(CRYSTALS[0], 1, 4.0).values(builtin("W-Zhou", (3.8, 5.0)))
