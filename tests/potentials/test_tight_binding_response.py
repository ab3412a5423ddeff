"""Second derivatives of tight-binding energies by perturbation theory, against differences and against each other."""

import numpy as np
import pytest

from parmlip.errors import ConfigError, DataError
from parmlip.potentials.tight_binding_response import force_curvature, respond
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
SETTINGS = {
    "canonical": {"electronic_temperature": 0.2},
    "canonical and cold": {"electronic_temperature": 0.01},
    "fixed Fermi level": {"electronic_temperature": 0.2, "fermi_level": 6.0},
    "k points": {"electronic_temperature": 0.2, "k_points": (3, 2, 1)},
    "zero temperature": {"electronic_temperature": 0.0},
    "band energy": {"electronic_temperature": 0.2, "convention": "band_energy"},
    "band energy at a fixed level": {"electronic_temperature": 0.2, "convention": "band_energy", "fermi_level": 5.5},
    "force shift": {"cutoff": "force_shift", "electronic_temperature": 0.1},
}
SECOND = [name for name in SETTINGS if not name.startswith("band")]


@pytest.mark.parametrize("name", SETTINGS)
def test_site_gradients_are_derivatives_of_site_energies_and_add_up_to_the_forces(name):
    law, (cell_cc, positions_ac) = silicon(**SETTINGS[name]), skewed()
    energy_l, gradient_lac = respond(law, cell_cc, PERIODIC, positions_ac).site_gradients(range(8))
    here = evaluate(law, cell_cc, positions_ac)
    np.testing.assert_allclose(energy_l, here.site_energies_a, rtol=0, atol=1e-12)
    np.testing.assert_allclose(-gradient_lac.sum(axis=0), here.forces_ac, rtol=0, atol=1e-11)
    np.testing.assert_allclose(gradient_lac.sum(axis=1), 0.0, atol=1e-11)
    v_ac = np.random.default_rng(3).normal(size=positions_ac.shape)
    errors = []
    for h in STEPS:
        ends = [evaluate(law, cell_cc, positions_ac + s * h * v_ac).site_energies_a for s in (1, -1)]
        errors.append((ends[0] - ends[1]) / (2 * h) - np.einsum("lac,ac->l", gradient_lac, v_ac))
    assert order(errors, STEPS) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", SECOND)
def test_force_constants_are_derivatives_of_the_forces(name):
    law, (cell_cc, positions_ac) = silicon(**SETTINGS[name]), skewed()
    response = respond(law, cell_cc, PERIODIC, positions_ac)
    v_ac = np.random.default_rng(3).normal(size=positions_ac.shape)
    change_ac = response.gradient_change(v_ac)
    errors = []
    for h in STEPS:
        ends = [evaluate(law, cell_cc, positions_ac + s * h * v_ac).forces_ac for s in (1, -1)]
        errors.append((ends[0] - ends[1]) / (2 * h) + change_ac)
    assert order(errors, STEPS) == pytest.approx(2.0, abs=0.1)
    hessian = response.force_constants(range(8)).reshape(24, 24)
    np.testing.assert_allclose(hessian, hessian.T, rtol=0, atol=1e-9)
    np.testing.assert_allclose(hessian @ v_ac.ravel(), change_ac.ravel(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(hessian.reshape(8, 3, 8, 3).sum(axis=2), 0.0, atol=1e-9)  # translations cost nothing


def by_deformation(response):
    """d2E / dF_cd dF_ef (3, 3, 3, 3) and d2E / dF_cd du_ae (3, 3, n_sites, 3), of the tangent map alone."""
    blocks = response.states.blocks
    c_cdef, b_cdae = np.empty((3, 3, 3, 3)), np.zeros((3, 3, len(blocks.onsite_ai), 3))
    for c, d in np.ndindex(3, 3):
        dr_pc = np.zeros_like(blocks.r_pc)
        dr_pc[:, c] = blocks.r_pc[:, d]
        dg_pc = response.tangent(dr_pc)
        c_cdef[c, d] = dg_pc.T @ blocks.r_pc
        np.add.at(b_cdae[c, d], blocks.pairs.site_p, dg_pc)
        np.subtract.at(b_cdae[c, d], blocks.pairs.centre_p, dg_pc)
    return c_cdef, b_cdae


@pytest.mark.parametrize("name", ["canonical", "k points"])
def test_second_derivatives_by_deformation_are_derivatives_of_the_virial_and_the_forces(name):
    law, (cell_cc, positions_ac) = silicon(**SETTINGS[name]), slightly_skewed()
    c_cdef, b_cdae = by_deformation(respond(law, cell_cc, PERIODIC, positions_ac))
    np.testing.assert_allclose(c_cdef, c_cdef.transpose(2, 3, 0, 1), rtol=0, atol=1e-8)
    d_cc = np.random.default_rng(5).normal(size=(3, 3))
    virials, forces = [], []
    steps = STEPS / 4  # pairs at 6.6 angstrom move far
    for h in steps:
        ends, first = [], []
        for s in (1, -1):
            f_cc = np.eye(3) + s * h * d_cc
            there = evaluate(law, cell_cc @ f_cc.T, positions_ac @ f_cc.T)
            # dE / dF = dE / d(strain at F) F^-T
            first.append(-there.virial_cc @ np.linalg.inv(f_cc).T)
            ends.append(-there.forces_ac)
        virials.append((first[0] - first[1]) / (2 * h) - np.einsum("cdef,cd->ef", c_cdef, d_cc))
        forces.append((ends[0] - ends[1]) / (2 * h) - np.einsum("cdae,cd->ae", b_cdae, d_cc))
    assert order(virials, steps) == pytest.approx(2.0, abs=0.1)
    assert order(forces, steps) == pytest.approx(2.0, abs=0.1)


def test_force_constants_of_the_crystal_have_its_symmetry_and_are_stable():
    _, cell_cc, positions_ac = stored_config(0)
    k_lcad = respond(silicon(), cell_cc, PERIODIC, positions_ac).force_constants([0])
    self_cd = k_lcad[0, :, 0]
    np.testing.assert_allclose(self_cd, self_cd[0, 0] * np.eye(3), rtol=0, atol=1e-8)
    assert self_cd[0, 0] > 5.0
    near_cd = k_lcad[0, :, 1]  # along (1, 1, 1)
    np.testing.assert_allclose(np.diag(near_cd), near_cd[0, 0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(near_cd, near_cd.T, rtol=0, atol=1e-8)


def test_force_constants_of_a_supercell_add_up_to_those_of_the_primitive_cell():
    settings = {"electronic_temperature": 0.1}
    small_cc, few_ac = primitive()
    large_cc, many_ac = primitive(repeats=2)
    mesh = {"k_points": (2, 2, 2), "k_scheme": "gamma_centred"}
    small = respond(silicon(**settings, **mesh), small_cc, PERIODIC, few_ac).force_constants([0, 1])
    large = respond(silicon(**settings), large_cc, PERIODIC, many_ac).force_constants([0, 1])
    np.testing.assert_allclose(large.reshape(2, 3, 8, 2, 3).sum(axis=2), small, rtol=0, atol=1e-9)


def test_second_derivatives_of_the_force_on_the_crystal_come_with_their_error():
    cell_cc, positions_ac = primitive(repeats=2)
    law = silicon()
    curvature = force_curvature(law, cell_cc, PERIODIC, positions_ac, 0, [1])
    fine = force_curvature(law, cell_cc, PERIODIC, positions_ac, 0, [1], step=0.005)
    assert curvature.values.shape == (1, 3, 3, 16, 3)
    assert 0.0 < curvature.error < 1e-2 * np.abs(curvature.values).max()
    # The error of the unextrapolated difference is of second order, and the extrapolated values are better by far.
    assert curvature.error / fine.error == pytest.approx(4.0, abs=0.2)
    assert np.abs(curvature.values - fine.values).max() < 0.05 * fine.error
    # The order of differentiation does not matter: site 1 by c and site 1 by e.
    own_cde = curvature.values[0, :, :, 1]
    np.testing.assert_allclose(own_cde, own_cde.transpose(2, 1, 0), rtol=0, atol=fine.error)
    # Against second differences of the force itself.
    h, forces = 0.01, []
    for c_x in (h, 0.0, -h):
        moved_ac = positions_ac.copy()
        moved_ac[1, 0] += c_x
        forces.append(evaluate(law, cell_cc, moved_ac).forces_ac[0])
    plain_d = (forces[0] - 2.0 * forces[1] + forces[2]) / h**2
    np.testing.assert_allclose(own_cde[0, :, 0], plain_d, rtol=0, atol=2.0 * curvature.error)


def test_what_has_no_second_derivatives_is_refused():
    cell_cc, positions_ac = primitive()
    with pytest.raises(ConfigError, match=r"convention = 'band_energy': second derivatives"):
        force_curvature(silicon(convention="band_energy"), cell_cc, PERIODIC, positions_ac, 0, [1])
    with pytest.raises(DataError, match="filled in part"):
        respond(silicon(electronic_temperature=0.0, charge=1.0), cell_cc, PERIODIC, positions_ac)
