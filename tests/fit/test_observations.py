"""Labels, design rows of observations, and what energies are measured against."""

import numpy as np
import pytest

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.fit.dataset import Dataset
from parmlip.fit.observations import (
    OBSERVATIONS,
    Configuration,
    Evaluation,
    Labels,
    configuration_of,
    label,
)
from parmlip.fit.sampling import rattled, sample
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin

LAW = builtin("W-EAM4")
BASIS = ACEBasis(("W",), correlation_order=2, total_degree=5, cutoff=5.0, r0=2.74)
COEFFICIENTS = np.random.default_rng(7).standard_normal(BASIS.n_basis)


def vacancy_cell(lattice="bcc", constant=3.14, repeats=(2, 2, 2)):
    return apply_defects(build_supercell(LATTICES[lattice], constant, repeats, ("W",)), [Vacancy((0.0, 0.0, 0.0))])


def shaken(supercell, index=0, name="shaken"):
    moved = rattled(supercell.positions_ac, 0.1, "uniform", seed=3, index=(index,), dimension=supercell.dimension)
    return configuration_of(supercell, name, moved)


def moved_by(configuration, step_ac):
    return Configuration(
        configuration.cell_cc, configuration.periodic, configuration.positions_ac + step_ac, configuration.species,
        configuration.dimension, configuration.name, configuration.reference_positions_ac,
    )  # fmt: skip


@pytest.mark.parametrize(("lattice", "constant", "repeats"), [("bcc", 3.14, (2, 2, 2)), ("triangular", 2.7, (4, 4, 1))])
def test_rows_times_coefficients_are_the_labels_of_the_linear_law(lattice, constant, repeats):
    configuration = shaken(vacancy_cell(lattice, constant, repeats))
    labels = label(ACE(BASIS, COEFFICIENTS), configuration)
    evaluation = Evaluation(BASIS, configuration)
    d = configuration.dimension
    for name, expected in [("energy", 1), ("force", configuration.n_sites * d), ("virial", d * (d + 1) // 2)]:
        rows = OBSERVATIONS[name].rows(evaluation)
        values = OBSERVATIONS[name].values(configuration, labels)
        assert rows.shape == (expected, BASIS.n_basis)
        assert values.shape == (expected,)
        scale = (np.abs(rows) @ np.abs(COEFFICIENTS)).max()
        assert np.abs(rows @ COEFFICIENTS - values).max() < 1e-12 * scale, name


def test_forces_and_virial_are_derivatives_of_the_energy():
    law = ACE(BASIS, COEFFICIENTS)
    configuration = shaken(vacancy_cell())
    labels = label(law, configuration)
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(configuration.positions_ac.shape)
    strain = rng.standard_normal((3, 3))
    strain += strain.T

    def strained(h):
        f = np.eye(3) + h * strain
        return Configuration(
            configuration.cell_cc @ f, configuration.periodic, configuration.positions_ac @ f, configuration.species
        )

    def order(state, exact, steps):
        slopes = [(label(law, state(h)).energy - label(law, state(-h)).energy) / (2 * h) for h in steps]
        errors = np.abs(np.array(slopes) - exact)
        return np.log2(errors[0] / errors[1])

    forces = -np.vdot(labels.forces_ac, direction)
    assert order(lambda h: moved_by(configuration, h * direction), forces, (2e-3, 1e-3)) == pytest.approx(2.0, abs=0.1)
    virial = -np.vdot(labels.virial_cc, strain)
    assert order(strained, virial, (1e-3, 5e-4)) == pytest.approx(2.0, abs=0.1)


def test_an_energy_against_the_reference_is_the_difference_of_two_absolute_ones():
    cell = vacancy_cell()
    configuration = shaken(cell)
    absolute = configuration_of(cell, "shaken", configuration.positions_ac, difference=False)
    lattice = configuration_of(cell, "lattice")
    assert lattice.reference is None
    assert absolute.reference is None
    difference = label(LAW, absolute).energy - label(LAW, lattice).energy
    assert label(LAW, configuration).energy == pytest.approx(difference, rel=1e-10)
    rows = [OBSERVATIONS["energy"].rows(Evaluation(BASIS, c)) for c in (configuration, absolute, lattice)]
    assert np.allclose(rows[0], rows[1] - rows[2], atol=1e-12 * np.abs(rows[1]).max())


def test_reference_states_are_computed_once():
    cell = vacancy_cell()
    energies, rows = {}, {}
    for index in range(3):
        label(LAW, shaken(cell, index), energies)
        OBSERVATIONS["energy"].rows(Evaluation(BASIS, shaken(cell, index), rows))
    assert len(energies) == len(rows) == 1
    label(LAW, shaken(vacancy_cell(constant=3.15)), energies)
    assert len(energies) == 2


def test_missing_labels_give_no_observation():
    configuration = shaken(vacancy_cell())
    assert all(o.values(configuration, Labels(energy=None)) is None for o in OBSERVATIONS.values())


def test_a_species_without_parameters_is_named():
    cell = build_supercell(LATTICES["bcc"], 3.0, (2, 2, 2), ("Mo",))
    with pytest.raises(ConfigError, match="'Mo'"):
        label(LAW, configuration_of(cell, "wrong"))


def test_colliding_sites_are_an_error_with_the_type():
    cell = vacancy_cell()
    positions = cell.positions_ac.copy()
    positions[0] = positions[1] + 0.01
    with pytest.raises(GeometryError, match="'bad'.*valid from"):
        label(LAW, configuration_of(cell, "bad", positions))


def test_a_sample_begins_with_the_unrelaxed_cell_and_its_absolute_energy():
    cell = vacancy_cell()
    states = sample(cell, cell.positions_ac + 0.01, 3, 0.1, "julip", name="vacancy", seed=1, index=(0,))
    assert [s.reference is None for s in states] == [True, False, False, False]
    assert np.array_equal(states[0].positions_ac, cell.positions_ac)
    for state in states[1:]:
        assert np.abs(state.positions_ac - cell.positions_ac - 0.01).max() <= 0.1 / np.sqrt(3)
        assert np.array_equal(state.reference_positions_ac, cell.positions_ac)
    assert (
        len(sample(cell, cell.positions_ac, 3, 0.1, "julip", name="t", seed=1, index=(0,), with_reference=False)) == 3
    )


def test_a_sample_with_absolute_energies_begins_with_its_centre_and_has_no_unrelaxed_cell():
    cell = vacancy_cell()
    centre = cell.positions_ac + 0.01
    states = sample(cell, centre, 3, 0.1, "julip", name="dipole", seed=1, index=(0,), absolute=True)
    assert [s.reference is None for s in states] == [True] * 4
    np.testing.assert_array_equal(states[0].positions_ac, centre)
    assert states[0].positions_ac is not centre
    rattled = sample(cell, centre, 3, 0.1, "julip", name="dipole", seed=1, index=(0,))[1:]
    for one, other in zip(states[1:], rattled, strict=True):
        np.testing.assert_array_equal(one.positions_ac, other.positions_ac)


@pytest.mark.parametrize(("kind", "half_width"), [("uniform", 0.06), ("julip", 0.06 / np.sqrt(3))])
def test_rattling_is_uniform_in_its_half_width(kind, half_width):
    zero = np.zeros((4000, 3))
    u = rattled(zero, 0.06, kind, seed=1, index=(0, 1), dimension=3)
    assert np.abs(u).max() <= half_width
    assert u.std() == pytest.approx(half_width / np.sqrt(3), rel=0.02)
    assert abs(u.mean()) < 0.02 * half_width


def test_rattling_is_named_by_seed_and_index_and_moves_only_what_moves():
    zero = np.zeros((50, 3))
    first = rattled(zero, 0.1, "uniform", seed=1, index=(0, 1), dimension=2)
    assert np.array_equal(first, rattled(zero, 0.1, "uniform", seed=1, index=(0, 1), dimension=2))
    assert not first[:, 2].any()
    for seed, index in [(2, (0, 1)), (1, (0, 2)), (1, (1, 1))]:
        assert not np.array_equal(first, rattled(zero, 0.1, "uniform", seed=seed, index=index, dimension=2))
    assert not zero.any()
    with pytest.raises(ConfigError, match="gaussian"):
        rattled(zero, 0.1, "gaussian", seed=1, index=(0,), dimension=3)


def test_a_data_set_survives_storage():
    first, second = vacancy_cell(), vacancy_cell("triangular", 2.7, (4, 4, 1))
    states = [configuration_of(first, "a"), shaken(second, 1, "b"), shaken(first, 0, "a"), shaken(second, 2, "b")]
    labels = [label(LAW, s) for s in states]
    labels[1] = Labels(labels[1].energy, None, None, {"energy": 3.0})
    labels[3] = Labels(None, labels[3].forces_ac, None)
    before = Dataset(tuple(states), tuple(labels))
    after = Dataset.unpacked(before.packed())
    assert after.types == before.types == ("a", "b")
    for a, b in zip(after.configurations, before.configurations, strict=True):
        assert a.key == b.key
        assert (a.reference is None) == (b.reference is None)
        assert a.reference is None or a.reference.key == b.reference.key
        assert a.name == b.name
    for a, b in zip(after.labels, before.labels, strict=True):
        assert a.energy == b.energy
        assert a.weights.get("energy", 1.0) == b.weights.get("energy", 1.0)
        for x, y in [(a.forces_ac, b.forces_ac), (a.virial_cc, b.virial_cc)]:
            assert (x is None) == (y is None)
            assert x is None or np.array_equal(x, y)
    assert len(Dataset.unpacked(Dataset((), ()).packed())) == 0


def test_a_data_set_whose_parts_do_not_fit_is_refused():
    state = configuration_of(vacancy_cell(), "a")
    with pytest.raises(DataError, match="1 configurations have 0 labels"):
        Dataset((state,), ())
    with pytest.raises(DataError, match="configuration 0: 3 forces for 15 sites"):
        Dataset((state,), (Labels(0.0, np.zeros((3, 3))),))
