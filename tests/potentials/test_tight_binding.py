"""Tight-binding silicon against quippy and an independent program, its invariances and its input."""

import numpy as np
import pytest
import scipy.linalg
from scipy.optimize import brentq

from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.potentials.tight_binding_electrons import k_mesh
from tests.potentials.tight_binding_cells import (
    ORACLES,
    PERIODIC,
    STORED,
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


@pytest.mark.parametrize("variant", STORED)
@pytest.mark.parametrize(("point", "k_c"), [("Gamma", (0, 0, 0)), ("X", (0.5, 0.5, 0)), ("L", (0.5, 0, 0))])
def test_bands_at_special_points_are_those_of_an_independent_program(variant, point, k_c):
    cell_cc, positions_ac = primitive()
    h_xy, s_xy = silicon(cutoff=variant).matrices(cell_cc, PERIODIC, positions_ac, np.array(k_c))
    stored = ORACLES[f"bands_a5.43_{STORED[variant]}"]["eigs_at_points"][point]
    np.testing.assert_allclose(scipy.linalg.eigh(h_xy, s_xy, eigvals_only=True), stored, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", STORED)
def test_gaps_on_the_mesh_are_those_of_an_independent_program(variant):
    law = silicon(cutoff=variant, k_points=(12, 12, 12), k_scheme="gamma_centred", electronic_temperature=0.0)
    cell_cc, positions_ac = primitive()
    filling = law.states(cell_cc, PERIODIC, positions_ac).filling
    level_kx = np.sort(filling.level_kx, axis=1)
    highest, lowest = level_kx[:, 3].max(), level_kx[:, 4].min()
    stored = ORACLES[f"bands_a5.43_{STORED[variant]}"]
    assert (highest, lowest) == pytest.approx((stored["VBM"], stored["CBM"]), abs=1e-10)
    assert lowest - highest == pytest.approx(stored["gap"], abs=1e-10)
    rounded = {"quip": 1.015, "original": 1.015, "energy_shift": 0.952, "force_shift": -0.036}
    assert round(lowest - highest, 3) == rounded[variant]
    if variant != "force_shift":  # the middle of the gap, where that is one
        assert filling.fermi_level == pytest.approx(0.5 * (highest + lowest), abs=1e-12)


@pytest.mark.parametrize("number", [0, 1])
def test_energy_forces_and_stress_agree_with_quippy(number):
    stored, cell_cc, positions_ac = stored_config(number)
    result = evaluate(silicon(convention="band_energy"), cell_cc, positions_ac)
    assert result.energy == pytest.approx(stored["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(result.forces_ac, stored["forces_eV_A"], rtol=0, atol=1e-9)
    stress_cc = -result.virial_cc / np.linalg.det(cell_cc)
    np.testing.assert_allclose(stress_cc, stored["stress_eV_A3"], rtol=0, atol=1e-10)


def test_the_vacancy_agrees_with_quippy():
    _, cell_cc, positions_ac = stored_config(0)
    result = evaluate(silicon(convention="band_energy"), cell_cc, positions_ac[1:])
    assert result.energy == pytest.approx(73.5365286081, rel=1e-9)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("variant", STORED)
def test_energies_at_zero_and_finite_temperature_agree_with_an_independent_program(number, variant):
    stored, cell_cc, positions_ac = stored_config(number)
    stored = stored[f"numpy_{STORED[variant]}"]
    cold = silicon(cutoff=variant, electronic_temperature=0.0).states(cell_cc, PERIODIC, positions_ac)
    assert cold.filling.energy == pytest.approx(stored["E_T0_2sum"], rel=1e-12)
    np.testing.assert_allclose(cold.filling.level_kx[0, 127:129], [stored["HOMO"], stored["LUMO"]], rtol=0, atol=1e-11)
    warm = silicon(cutoff=variant).states(cell_cc, PERIODIC, positions_ac).filling
    assert warm.band_energy == pytest.approx(stored["E_T0p01"], rel=1e-11)
    assert warm.free_energy == pytest.approx(stored["F_T0p01"], rel=1e-11)
    assert warm.energy == warm.free_energy
    assert warm.n_electrons == pytest.approx(256, abs=1e-10)
    # SKTB counts every state once and fixes the Fermi level.
    law = silicon(cutoff=variant, electronic_temperature=0.0, fermi_level=5.5212408)
    fixed = law.states(cell_cc, PERIODIC, positions_ac).filling
    assert fixed.n_electrons == 2 * stored["SKTB_n_occupied"]
    sktb = stored["SKTB_ZeroTGrand_eF5p5212408_energy_sum_occ_eps_no_spin_factor"]
    assert 0.5 * fixed.band_energy == pytest.approx(sktb, rel=1e-12)


@pytest.mark.parametrize(
    ("variant", "mesh", "repeats", "key"),
    [("quip", 1, 2, "gamma64"), ("original", 1, 2, "gamma64"), ("quip", 6, 1, "k6x6x6MP")],
)
def test_lattice_constants_and_energies_are_those_of_an_independent_program(variant, mesh, repeats, key):
    # 64 atoms at Gamma are a conventional cell with the mesh 2 x 2 x 2 about Gamma; so are 16 with two.
    scheme = "gamma_centred" if mesh == 1 else "monkhorst_pack"
    law = silicon(cutoff=variant, k_points=3 * (max(mesh, repeats),), k_scheme=scheme)

    def cube(a):
        basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
        return evaluate(law, a * np.eye(3), a * np.concatenate([basis, basis + 0.25]))

    a = brentq(lambda a: np.trace(cube(a).virial_cc), 5.4, 5.46, xtol=1e-12)
    assert a == pytest.approx(ORACLES[f"{key}_a0_{variant}"], abs=1e-8)  # stored from a minimum of energies
    assert cube(a).energy / 8 == pytest.approx(ORACLES[f"{key}_E_per_atom_{variant}"], rel=1e-12)


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
    # One level on either side: at low temperature the middle.
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
    with pytest.raises(DataError, match="sites too close for these orbitals"):
        evaluate(silicon(), 0.65 * cell_cc, 0.65 * positions_ac)
