"""Elastic response in fits: what energies and forces leave open, what rows and constraints add."""

from dataclasses import asdict

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConfigError
from parmlip.fit import design
from parmlip.fit.dataset import labelled
from parmlip.fit.homogeneous import constraints_of
from parmlip.fit.lattice_design import lattice_factors, lattice_values
from parmlip.fit.lattice_observations import lattice_observations
from parmlip.fit.patches import Crystal
from parmlip.fit.sampling import sample
from parmlip.mechanics.bulk import UnitCell, bulk_properties
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.potentials import eam
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.units import GPA_PER_EV_A3

COMM = MPI.COMM_SELF


@pytest.fixture(scope="module")
def problem():
    law = eam.builtin("W-Zhou", (3.8, 5.0))
    bulk = bulk_properties(law, lattice_named("bcc"), ("W",))
    cell = build_supercell(bulk.lattice, bulk.lattice_constant, (2, 2, 2), ("W",))
    states = sample(cell, cell.positions_ac, 12, 0.1, "uniform", name="cell", seed=1, index=(0,))
    basis = ACEBasis(
        species=("W",), correlation_order=3, total_degree=9, cutoff=5.0, r0=bulk.lattice_constant * 0.75**0.5,
        r_in=0.7 * bulk.lattice_constant * 0.75**0.5,
    )  # fmt: skip
    data = labelled(law, states, comm=COMM, what="labels")
    crystal = Crystal(bulk.lattice, bulk.lattice_constant, ("W",))
    asked = dict(lattice_observations(("force_derivative_1", "cauchy_born_1", "cauchy_born_2"), crystal, 5.0001, 0.0))
    factors = design.build_factors(basis, data, ("energy", "force"), comm=COMM)
    factors |= lattice_factors(basis, asked, dict(lattice_values(law, asked, comm=COMM)), comm=COMM)
    return law, bulk, basis, factors


def constants(law, bulk):
    """C11, C12, C44 of the minor-symmetrised second derivatives of the energy density, GPa."""
    c, _ = UnitCell(law, bulk.lattice, bulk.lattice_constant, ("W",)).stiffness()
    return np.array([c[0, 0], c[0, 1], c[3, 3]]) * GPA_PER_EV_A3


def fitted(problem, weights, **options):
    _, _, basis, factors = problem
    found = design.fit(factors, weights, {}, solver="rrqr", tolerance=1e-10, column_scaling=True, comm=COMM, **options)
    return ACE(basis, found.coefficients)


STATES = {"energy": 50.0, "force": 10.0}
WAVES = (*STATES, "force_derivative_1")
LINEAR = STATES | {"cauchy_born_1": 10.0, "cauchy_born_2": 10.0}


def test_the_volume_times_a_constant_changes_no_force_and_moves_c12_and_c44_as_one_and_minus_a_half(problem):
    """p det F as an energy density is null: its second derivatives at I are p (1, -1/2) in (C12, C44)."""
    p, h = 1.0, 1e-4

    def density(f):
        return p * np.linalg.det(f)

    second = np.zeros((3, 3, 3, 3))
    for i, j, k, m in np.ndindex(3, 3, 3, 3):
        a, b = np.zeros((3, 3)), np.zeros((3, 3))
        a[i, j], b[k, m] = h, h
        one = np.eye(3)
        second[i, j, k, m] = (
            density(one + a + b) - density(one + a - b) - density(one - a + b) + density(one - a - b)
        ) / (4 * h * h)
    minor = 0.25 * sum(second.transpose(t) for t in ((0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (1, 0, 3, 2)))
    assert [minor[0, 0, 0, 0], minor[0, 0, 1, 1], minor[1, 2, 1, 2]] == pytest.approx([0.0, p, -0.5 * p], abs=1e-6)


def test_without_stress_the_constants_err_along_the_null_direction_and_with_it_they_do_not(problem):
    law, bulk, _, _ = problem
    due = constants(law, bulk)
    second = STATES | {"cauchy_born_2": 10.0}
    stress = {}
    for name, weights in (("states", STATES), ("linear", LINEAR), ("without stress", second)):
        unit = UnitCell(fitted(problem, weights), bulk.lattice, bulk.lattice_constant, ("W",))
        stress[name] = abs(np.trace(unit.strain_gradient()) / 3 / unit.volume) * GPA_PER_EV_A3
        if name == "linear":
            assert np.abs(constants(unit.law, bulk) - due).max() < 4.0
    assert stress["states"] > 10.0 * stress["linear"]


def test_states_and_all_force_constants_leave_open_what_a_pressure_times_the_volume_changes(problem):
    """Changes of C11, C12, C44 that the rows do not see are along (0, 1, -1/2); a row of the stress sees them."""
    _, bulk, basis, factors = problem
    seen = np.concatenate([f.triangle[:, :-1] for (_, o), f in factors.items() if o in WAVES])
    tensors = [
        CauchyBorn(ACE(basis, one), bulk.lattice, bulk.lattice_constant, ("W",)).second()[:9, :9]
        for one in np.eye(basis.n_basis)
    ]
    w = np.array(tensors).reshape(-1, 3, 3, 3, 3) * GPA_PER_EV_A3
    minor = 0.25 * (w + w.transpose(0, 2, 1, 3, 4) + w.transpose(0, 1, 2, 4, 3) + w.transpose(0, 2, 1, 4, 3))
    response = np.stack([minor[:, 0, 0, 0, 0], minor[:, 0, 0, 1, 1], minor[:, 1, 2, 1, 2]])
    spread = {}
    for name, rows in {"waves": seen, "and stress": np.concatenate([seen, stress_rows(factors)])}.items():
        spread[name], vector = np.linalg.eigh(response @ np.linalg.pinv(rows.T @ rows, rcond=1e-14) @ response.T)
        if name == "waves":
            widest = vector[:, -1] * np.sign(vector[1, -1])
            assert widest @ np.array([0.0, 1.0, -0.5]) / np.sqrt(1.25) > 0.99
            assert spread[name][-1] > 20.0 * spread[name][-2]
    assert spread["and stress"][-1] < 0.05 * spread["waves"][-1]


def stress_rows(factors):
    (found,) = (f.triangle[:, :-1] for (_, o), f in factors.items() if o == "cauchy_born_1")
    return found


def test_a_crystal_free_of_stress_can_be_asked_for_alone(problem):
    law, bulk, basis, _ = problem
    exact = constraints_of(("stress",), basis, law, bulk.lattice, bulk.lattice_constant, ("W",))
    unit = UnitCell(fitted(problem, STATES, constraints=exact), bulk.lattice, bulk.lattice_constant, ("W",))
    assert np.abs(unit.strain_gradient()).max() / unit.volume * GPA_PER_EV_A3 < 1e-6


def test_constraints_give_the_references_constants_exactly_and_forces_stay_as_good(problem):
    law, bulk, basis, factors = problem
    exact = constraints_of(("stress", "elastic"), basis, law, bulk.lattice, bulk.lattice_constant, ("W",))
    constrained = fitted(problem, STATES, constraints=exact)
    np.testing.assert_allclose(constants(constrained, bulk), constants(law, bulk), rtol=1e-10)
    free = fitted(problem, STATES)
    errors = [design.matching(factors, x.coefficients)["force"]["rmse"] for x in (free, constrained)]
    assert errors[1] < 1.1 * errors[0]


TEXT = """
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-Zhou"
[simulation]
cell = [4, 4, 4]
[[training]]
cell = [2, 2, 2]
[fit]
weights = { energy = 50.0, force = 10.0 }
"""


GPA = GPA_PER_EV_A3**2


def test_the_key_sets_the_papers_weights_in_gpa_and_a_sweep_changes_them():
    assert loads(TEXT).fit.weights.cauchy_born_2 == 0.0
    names = ("cauchy_born_1", "cauchy_born_2", "cauchy_born_3")
    swept = loads(TEXT + 'elasticity = "nonlinear"\n[sweep]\n"fit.elasticity" = ["none", "linear", "nonlinear"]')
    found = [[getattr(point.study.fit.weights, n) / GPA for n in names] for point in swept.points()]
    assert found == [[0.0, 0.0, 0.0], [10.0, 10.0, 0.0], [10.0, 10.0, 1.0]]
    assert {point.study.fit.weights.energy for point in swept.points()} == {50.0}
    own = loads(TEXT.replace("force = 10.0 }", "force = 10.0, cauchy_born_2 = 20.0 }") + 'elasticity = "linear"')
    assert (own.fit.weights.cauchy_born_1, own.fit.weights.cauchy_born_2) == (10.0 * GPA, 20.0)
    assert loads(own.as_toml()).fit == own.fit
    of_site = loads(TEXT + 'elasticity = "nonlinear"\ncauchy_born_per = "site"')
    assert [getattr(of_site.fit.weights, n) for n in names] == [10.0, 10.0, 1.0]
    with pytest.raises(ConfigError, match="elasticity"):
        loads(TEXT + 'elasticity = "cubic"')


def test_the_minimiser_of_the_papers_loss_with_norms_has_exact_constants_and_the_keys_squares_come_to_it(problem):
    """(4.16) with W |eps^V_1|, not squared, by reweighting: it ends where eps^V_1 = 0, which squares in eV/A^3 miss."""
    law, bulk, basis, factors = problem
    weights = STATES | {"cauchy_born_2": 1e3}
    for _ in range(40):
        literal = fitted(problem, weights)
        found = design.matching(factors, literal.coefficients)["cauchy_born_2"]
        weights["cauchy_born_2"] = min(10.0 / (2.0 * found["rmse"] * found["n_rows"] ** 0.5), 1e10)
    key = asdict(loads(TEXT + 'elasticity = "linear"').fit.weights)
    errors = {
        name: np.abs(constants(fit, bulk) - constants(law, bulk)).max()
        for name, fit in {
            "literal": literal, "key": fitted(problem, {n: key[n] for n in LINEAR}),
            "eV": fitted(problem, LINEAR),
        }.items()
    }  # fmt: skip
    assert errors["literal"] < 1e-4
    assert errors["key"] < 0.02
    assert errors["eV"] > 100.0 * errors["key"]
