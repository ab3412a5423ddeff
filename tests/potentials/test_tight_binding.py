"""Tight-binding silicon: identities, derivatives, invariances and its input (values: `test_oracles_values`)."""

import numpy as np
import pytest

from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.potentials.tight_binding_electrons import k_mesh
from tests.potentials.tight_binding_cells import (
    PERIODIC,
    evaluate,
    order,
    primitive,
    silicon,
    skewed,
    slightly_skewed,
    stored_config,
)

STEPS = np.array([8e-3, 4e-3, 2e-3])
# Canonical and fixed Fermi level, both energies, Gamma and meshes with real and with complex phases.
SETTINGS = {
    "free energy": {"electronic_temperature": 0.2},
    "grand potential": {"electronic_temperature": 0.2, "fermi_level": 6.0},
    "band energy": {"electronic_temperature": 0.2, "convention": "band_energy"},
    "band energy at a fixed level": {"electronic_temperature": 0.2, "convention": "band_energy", "fermi_level": 5.5},
    "k points": {"electronic_temperature": 0.2, "k_points": (3, 2, 1)},
    "zero temperature": {"electronic_temperature": 0.0},
    "odd number of electrons": {"electronic_temperature": 0.0, "charge": 1.0},
    "original": {"cutoff": "original"},
    "energy shift": {"cutoff": "energy_shift", "electronic_temperature": 0.1},
    "force shift": {"cutoff": "force_shift", "electronic_temperature": 0.1},
}


def test_the_vacancy_agrees_with_quippy():
    _, cell_cc, positions_ac = stored_config(0)
    result = evaluate(silicon(convention="band_energy"), cell_cc, positions_ac[1:])
    assert result.energy == pytest.approx(73.5365286081, rel=1e-9)


@pytest.mark.parametrize("name", SETTINGS)
def test_forces_virial_and_site_energies_belong_to_the_energy(name):
    law, (cell_cc, positions_ac) = silicon(**SETTINGS[name]), slightly_skewed()
    rng = np.random.default_rng(3)
    v_ac, d_cc = rng.normal(size=positions_ac.shape), rng.normal(size=(3, 3))
    d_cc += d_cc.T
    here = evaluate(law, cell_cc, positions_ac)
    assert here.site_energies_a.sum() == pytest.approx(here.energy, rel=1e-13)
    assert np.ptp(here.site_energies_a) > 0.01
    np.testing.assert_allclose(here.forces_ac.sum(axis=0), 0.0, atol=1e-12)
    moves, strains = [], []
    steps = STEPS / 4 if name != "odd number of electrons" else STEPS / 16  # three levels nearly alike at the top
    for h in steps:
        ends = [evaluate(law, cell_cc, positions_ac + s * h * v_ac).energy for s in (1, -1)]
        moves.append((ends[0] - ends[1]) / (2 * h) + np.sum(here.forces_ac * v_ac))
    for h in steps:
        both = [np.eye(3) + s * 0.5 * h * d_cc for s in (1, -1)]
        ends = [evaluate(law, cell_cc @ f_cc, positions_ac @ f_cc).energy for f_cc in both]
        strains.append((ends[0] - ends[1]) / h + np.sum(here.virial_cc * d_cc))
    assert order(moves, steps) == pytest.approx(2.0, abs=0.1)
    assert order(strains, steps) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("fermi_level", [None, 5.9])
def test_rotation_reflection_translation_and_relabelling_change_nothing_but_directions(fermi_level):
    law, (cell_cc, positions_ac) = silicon(fermi_level=fermi_level, k_points=(2, 1, 1)), skewed()
    here = evaluate(law, cell_cc, positions_ac)
    rng = np.random.default_rng(4)
    q_cc, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    for turn_cc in (q_cc, -q_cc):
        turned = evaluate(law, cell_cc @ turn_cc, (positions_ac + [0.3, -7.0, 2.0]) @ turn_cc)
        assert turned.energy == pytest.approx(here.energy, rel=1e-12)
        np.testing.assert_allclose(turned.forces_ac, here.forces_ac @ turn_cc, rtol=0, atol=1e-10)
        np.testing.assert_allclose(turned.virial_cc, turn_cc.T @ here.virial_cc @ turn_cc, rtol=0, atol=1e-9)
        np.testing.assert_allclose(turned.site_energies_a, here.site_energies_a, rtol=0, atol=1e-11)
    order_a = rng.permutation(8)
    shifted = positions_ac + rng.integers(-2, 3, (8, 3)) @ cell_cc  # sites moved by cell vectors
    again = evaluate(law, cell_cc, shifted[order_a])
    assert again.energy == pytest.approx(here.energy, rel=1e-12)
    np.testing.assert_allclose(again.forces_ac, here.forces_ac[order_a], rtol=0, atol=1e-10)


@pytest.mark.parametrize("repeats", [2, 3])
@pytest.mark.parametrize("fermi_level", [None, 5.9])
def test_a_supercell_at_gamma_is_the_primitive_cell_with_as_many_k_points(repeats, fermi_level):
    settings = {"electronic_temperature": 0.1, "fermi_level": fermi_level}
    cell_cc, positions_ac = primitive()
    positions_ac[1] += [0.05, -0.08, 0.03]
    shift_nc = np.array(list(np.ndindex(repeats, repeats, repeats))) @ cell_cc
    many_ac = (shift_nc[:, None] + positions_ac).reshape(-1, 3)
    large = evaluate(silicon(**settings), repeats * cell_cc, many_ac)
    mesh = {"k_points": 3 * (repeats,), "k_scheme": "gamma_centred"}
    small = evaluate(silicon(**settings, **mesh), cell_cc, positions_ac)
    n = repeats**3
    assert large.energy == pytest.approx(n * small.energy, rel=1e-12)
    np.testing.assert_allclose(large.forces_ac, np.tile(small.forces_ac, (n, 1)), rtol=0, atol=1e-10)
    np.testing.assert_allclose(large.virial_cc, n * small.virial_cc, rtol=0, atol=1e-9)
    np.testing.assert_allclose(large.site_energies_a, np.tile(small.site_energies_a, n), rtol=0, atol=1e-11)


@pytest.mark.parametrize("centred", [False, True])
def test_half_of_the_mesh_stands_for_all_of_it(centred):
    counts = (4, 3, 2)
    points_kc, weight_k = k_mesh(counts, centred, PERIODIC)
    assert weight_k.sum() == pytest.approx(1.0, rel=1e-14)
    assert len(points_kc) <= 14
    all_of_it = np.concatenate([points_kc, -points_kc])
    all_of_it = np.unique(np.round((all_of_it - np.floor(all_of_it + 1e-9)) * 24).astype(int) % 24, axis=0)
    assert len(all_of_it) == 24
    assert (all_of_it == 0).all(axis=1).any() == centred
    flat, _ = k_mesh(counts, centred, (True, False, True))
    assert not flat[:, 1].any()


def test_energies_converge_exponentially_in_the_mesh():
    cell_cc, positions_ac = primitive()
    energies = [evaluate(silicon(k_points=(q, q, q)), cell_cc, positions_ac).energy for q in (2, 4, 6, 8, 12)]
    errors = np.abs(np.array(energies[:-1]) - energies[-1])
    assert (errors[1:] < 0.3 * errors[:-1]).all()
    assert errors[-1] < 2e-3


def test_zero_temperature_is_the_limit_of_finite_ones():
    cell_cc, positions_ac = skewed()
    cold = evaluate(silicon(electronic_temperature=0.0), cell_cc, positions_ac)
    for convention in ("free_energy", "band_energy"):
        warm = evaluate(silicon(electronic_temperature=0.002, convention=convention), cell_cc, positions_ac)
        assert warm.energy == pytest.approx(cold.energy, rel=1e-12)
        np.testing.assert_allclose(warm.forces_ac, cold.forces_ac, rtol=0, atol=1e-10)


def test_the_fermi_level_is_found_in_a_gap_without_rounding():
    _, cell_cc, positions_ac = stored_config(1)
    cold = silicon(electronic_temperature=0.0).states(cell_cc, PERIODIC, positions_ac).filling
    warm = silicon(electronic_temperature=1e-3).states(cell_cc, PERIODIC, positions_ac).filling
    # One level on either side: the middle of the gap, at low temperature too.
    below, above = np.sort(cold.level_kx[0])[127:129]
    assert cold.fermi_level == pytest.approx(0.5 * (below + above), abs=1e-12)
    assert warm.fermi_level == pytest.approx(cold.fermi_level, abs=1e-5)
    assert warm.entropy == pytest.approx(0.0, abs=1e-12)


def test_a_fixed_fermi_level_gives_the_legendre_transform():
    cell_cc, positions_ac = skewed()
    free = silicon(electronic_temperature=0.3).states(cell_cc, PERIODIC, positions_ac).filling
    fixed = silicon(electronic_temperature=0.3, fermi_level=free.fermi_level)
    filling = fixed.states(cell_cc, PERIODIC, positions_ac).filling
    assert filling.n_electrons == pytest.approx(32.0, rel=1e-12)
    assert filling.energy == pytest.approx(free.free_energy - 32.0 * free.fermi_level, rel=1e-12)
    assert free.free_energy == pytest.approx(free.band_energy - 0.3 * free.entropy, rel=1e-14)
    assert free.energy == free.free_energy
    # Forces at the same filling are the same.
    one = evaluate(silicon(electronic_temperature=0.3), cell_cc, positions_ac)
    np.testing.assert_allclose(evaluate(fixed, cell_cc, positions_ac).forces_ac, one.forces_ac, rtol=0, atol=1e-11)


def test_a_cluster_and_a_lonely_atom_are_structures_too():
    box = 40.0 * np.eye(3)
    law = silicon(electronic_temperature=0.05, k_points=(2, 2, 2))
    atom = evaluate(law, box, np.zeros((1, 3)), (False, False, False))
    periodic = evaluate(law, box, np.zeros((1, 3)))
    assert atom.energy == pytest.approx(periodic.energy, rel=1e-13)
    assert not atom.forces_ac.any()
    far = evaluate(law, box, np.array([[0.0, 0, 0], [10.0, 0, 0]]), (False, False, False))
    assert far.energy == pytest.approx(2 * atom.energy, rel=1e-13)
    near = evaluate(law, box, np.array([[0.0, 0, 0], [2.3, 0, 0]]), (False, False, False))
    assert near.energy < far.energy
    np.testing.assert_allclose(near.forces_ac[0], -near.forces_ac[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_no_electrons_and_all_states_full_are_fillings_too(temperature):
    cell_cc, positions_ac = skewed()
    empty = evaluate(silicon(electronic_temperature=temperature, charge=32.0), cell_cc, positions_ac)
    assert empty.energy == 0.0
    assert not empty.forces_ac.any()
    law = silicon(electronic_temperature=temperature, charge=-32.0)
    full = law.states(cell_cc, PERIODIC, positions_ac).filling
    assert full.energy == pytest.approx(2.0 * full.level_kx.sum(), rel=1e-14)
    assert full.n_electrons == 64.0


def test_the_levels_of_the_vacancy_lie_just_below_the_fermi_level_that_is_fixed_elsewhere():
    _, cell_cc, positions_ac = stored_config(0)
    fixed = silicon(electronic_temperature=0.0, fermi_level=5.5212408).states(cell_cc, PERIODIC, positions_ac[1:])
    level_x = fixed.filling.level_kx[0]
    np.testing.assert_allclose(level_x[125:128], 5.505, atol=1e-3)  # threefold
    assert fixed.filling.n_electrons == 256.0  # four more than the neutral vacancy has
    with pytest.raises(DataError, match=r"the level at 5\.505\d* eV is degenerate and filled in part"):
        evaluate(silicon(electronic_temperature=0.0), cell_cc, positions_ac[1:])
    neutral = silicon().states(cell_cc, PERIODIC, positions_ac[1:]).filling
    assert neutral.n_electrons == pytest.approx(252.0, rel=1e-13)
    np.testing.assert_allclose(neutral.occupation_kx[0, 125:128], 1.0 / 3.0, atol=1e-6)


def test_a_degenerate_level_filled_in_part_at_zero_temperature_is_refused():
    _, cell_cc, positions_ac = stored_config(0)
    law = silicon(cutoff="force_shift", electronic_temperature=0.0)
    with pytest.raises(DataError, match=r"electronic_temperature = 0: the level at 5\.25561 eV is degenerate"):
        evaluate(law, cell_cc, positions_ac)
    assert np.isfinite(evaluate(silicon(cutoff="force_shift"), cell_cc, positions_ac).energy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutoff": "sharp"}, r"cutoff_variant = 'sharp' is unknown.*force_shift"),
        ({"k_points": (2, 2)}, r"k_points = \[2, 2\]: three whole numbers"),
        ({"k_points": (2, 2, 0)}, r"k_points = \[2, 2, 0\]: three whole numbers"),
        ({"k_scheme": "random"}, r"k_scheme = 'random' is unknown.*gamma_centred"),
        ({"electronic_temperature": -0.1}, r"electronic_temperature = -0\.1: k_B T in eV"),
        ({"fermi_level": np.nan}, r"fermi_level = nan must be finite"),
        ({"fermi_level": 5.5, "charge": 1.0}, r"charge = 1\.0: a fixed fermi_level"),
        ({"convention": "enthalpy"}, r"convention = 'enthalpy' is unknown.*band_energy"),
    ],
)
def test_settings_without_meaning_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        silicon(**settings)


def test_structures_without_an_answer_are_refused():
    cell_cc, positions_ac = skewed()
    with pytest.raises(ConfigError, match="no parameters for C, Ge, only for Si"):
        silicon().evaluate(cell_cc, PERIODIC, positions_ac, 6 * ["Si"] + ["Ge", "C"])
    with pytest.raises(DataError, match="without sites"):
        evaluate(silicon(), cell_cc, np.zeros((0, 3)))
    with pytest.raises(DataError, match=r"72 electrons do not fit into the 64 places"):
        evaluate(silicon(charge=-40.0), cell_cc, positions_ac)
    close_ac = positions_ac.copy()
    close_ac[1] = close_ac[0] + [1.2, 0.0, 0.0]
    with pytest.raises(GeometryError, match=r"1\.2 angstrom apart, closer than 1\.4"):
        evaluate(silicon(), cell_cc, close_ac)
    with pytest.raises(GeometryError, match="sites too close for these orbitals"):
        evaluate(silicon(), 0.65 * cell_cc, 0.65 * positions_ac)
