"""Perfect crystals: exact rows of energy, stress and elastic constants; fits that share the reference's."""

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES, hcp
from parmlip.errors import ConfigError
from parmlip.fit.homogeneous import PROPERTIES, constraints_of, property_rows
from parmlip.mechanics.bulk import UnitCell
from parmlip.numerics.lstsq import RFactor
from parmlip.numerics.regression import SOLVERS, regress
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin

CRYSTALS = [
    (LATTICES["bcc"], 3.14, ("W",)),
    (LATTICES["diamond"], 5.0, ("W",)),
    (LATTICES["b2"], 2.9, ("Ni", "Al")),
    (hcp(1.6), 2.8, ("W",)),
    (LATTICES["triangular"], 2.7, ("W",)),
]


def basis_for(species):
    return ACEBasis(tuple(sorted(species)), correlation_order=3, total_degree=5, cutoff=4.6, r0=2.7)


@pytest.mark.parametrize(("lattice", "a", "species"), CRYSTALS, ids=lambda x: getattr(x, "name", None))
def test_rows_give_energy_stress_and_elastic_constants_of_any_coefficients(lattice, a, species):
    basis = basis_for(species)
    law = ACE(basis, np.random.default_rng(0).standard_normal(basis.n_basis))
    unit, rows = UnitCell(law, lattice, a, species), property_rows(basis, lattice, a, species)
    _, g_pc = law.site_gradients(unit.environments)
    first = np.array([np.vdot(dr_pc, g_pc) for dr_pc in unit.directions()])
    second = unit.second_derivatives()
    n_v = len(rows["stress"])
    for name, expected in (
        ("energy", [unit.energy]), ("stress", first[:n_v]), ("force", first[n_v:]),
        ("elastic", second[np.triu_indices(len(second))]),
    ):  # fmt: skip
        scale = np.abs(second).max() if name == "elastic" else np.abs(first).max()
        assert np.abs(rows[name] @ law.coefficients - expected).max() < 1e-12 * scale


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constrained_fit_has_the_references_lattice_constant_and_elastic_constants(solver):
    reference = builtin("W-Zhou", (3.8, 5.0))
    basis = ACEBasis(("W",), correlation_order=3, total_degree=8, cutoff=5.0, r0=2.74)
    crystal = (LATTICES["bcc"], 3.16, ("W",))
    equations = constraints_of(PROPERTIES, basis, reference, *crystal)
    rng = np.random.default_rng(1)
    factor = RFactor(basis.n_basis)
    factor.add(rng.standard_normal((300, basis.n_basis)), rng.standard_normal(300))
    found = regress(factor, solver, tolerance=1e-8, constraints=equations, prior_k=basis.smoothness())
    ours, theirs = (UnitCell(law, *crystal) for law in (ACE(basis, found.coefficients), reference))
    assert ours.energy == pytest.approx(theirs.energy, rel=1e-10)
    for mine, other in zip(ours.stiffness(), theirs.stiffness(), strict=True):
        assert np.abs(mine - other).max() < 1e-10 * np.abs(other).max()
    stiffness = np.abs(theirs.stiffness()[0]).max() * theirs.volume
    assert np.abs(ours.strain_gradient() - theirs.strain_gradient()).max() < 1e-10 * stiffness


def test_inner_displacements_are_constrained_too():
    species = ("Ni", "Al")
    basis = basis_for(species)
    rng = np.random.default_rng(3)
    reference = ACE(basis, rng.standard_normal(basis.n_basis))
    crystal = (LATTICES["b2"], 2.9, species)
    factor = RFactor(basis.n_basis)
    factor.add(rng.standard_normal((200, basis.n_basis)), rng.standard_normal(200))
    found = regress(factor, "svd", constraints=constraints_of(("elastic",), basis, reference, *crystal))
    ours, theirs = (UnitCell(law, *crystal) for law in (ACE(basis, found.coefficients), reference))
    for mine, other in zip(ours.stiffness(), theirs.stiffness(), strict=True):
        assert np.abs(mine - other).max() < 1e-9 * np.abs(other).max()
    assert found.residual_norm > 0.1


def test_roughness_grows_with_degree_and_follows_its_formula():
    basis = basis_for(("W",))
    rough = basis.smoothness(4.0)
    assert rough.shape == (basis.n_basis,)
    slots = basis.couplings.slots_k[-1]
    assert rough[-1] == sum(n**4 + 1.5 * ell**4 for n, ell, _ in slots)
    assert rough[0] == 1.0


def test_an_unknown_property_is_refused():
    basis = basis_for(("W",))
    with pytest.raises(ConfigError, match="unknown constraint 'colour'"):
        constraints_of(("colour",), basis, builtin("W-EAM4"), LATTICES["bcc"], 3.14, ("W",))
