"""Prescribed errors of controlled surrogates: of elastic constants exactly, of short waves without any."""

import numpy as np
import pytest

from parmlip.crystal.elasticity import full_tensor, rotated, voigt_matrix
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.oriented import oriented
from parmlip.errors import ConfigError
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.potentials.base import BlockPattern, Environments
from parmlip.potentials.eam import builtin
from parmlip.potentials.taylor import LatticeState, TaylorLaw, lattice_vectors
from parmlip.potentials.taylor_perturbation import HarmonicError

A = 3.1652
BCC = lattice_named("bcc", None)
ERROR = full_tensor(np.diag([0.0, 0.0, 0.0, 0.1, 0.1, 0.1]) + 0.03 * np.diag([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))


def law(lattice=BCC, order=3, **given):
    reference = builtin("W-FS84", None)
    state = LatticeState(lattice_vectors(lattice, A, 2.0 * reference.cutoff + 3.0))
    return TaylorLaw(reference, state, order=order, **given)


def error(c_ijkl=ERROR, short_wave=0.0):
    return HarmonicError(c_ijkl, A**3 / 2.0, 1.2 * A, short_wave)


def test_the_elastic_constants_change_by_what_is_prescribed_in_any_frame():
    frame = oriented(BCC, (1, 1, 1), (-1, 1, 0))
    for lattice, axes_cc in ((BCC, np.eye(3)), (frame.lattice, frame.axes_cc)):
        c_ijkl = rotated(ERROR, axes_cc)
        before = UnitCell(law(lattice), lattice, A, ("W",)).stiffness()[1]
        after = UnitCell(law(lattice, harmonic_error=error(c_ijkl)), lattice, A, ("W",)).stiffness()[1]
        np.testing.assert_allclose(after - before, voigt_matrix(c_ijkl), atol=1e-10)


def test_short_waves_change_the_force_constants_but_no_cauchy_born_derivative():
    plain, other = law(), law(harmonic_error=error(0.0 * ERROR, 0.5))
    first, second = (CauchyBorn(one, BCC, A, ("W",)) for one in (plain, other))
    for order, name in enumerate(("first", "second", "third"), 1):
        strains = (slice(9),) * order  # shifts of the cell's second site are a short wave
        np.testing.assert_allclose(getattr(second, name)()[strains], getattr(first, name)()[strains], atol=1e-9)
    cell, site_p = environments(0.05)
    pattern = dense(cell)
    difference = other.hessian_blocks(cell, site_p, pattern) - plain.hessian_blocks(cell, site_p, pattern)
    assert np.abs(difference).max() > 0.1


def test_gradient_linearised_and_hessian_are_derivatives_of_the_energy():
    one = law(harmonic_error=error(short_wave=0.3), third_order_error=-0.4, force_constant_error=0.1)
    cell, site_p = environments(0.05)
    direction = np.random.default_rng(3).normal(size=cell.r_pc.shape)
    step = 1e-20
    moved = cell.with_vectors(cell.r_pc + 1j * step * direction)
    energy_n, g_pc = one.site_gradients(moved)
    np.testing.assert_allclose(energy_n.imag.sum() / step, np.sum(one.site_gradients(cell)[1] * direction), rtol=1e-12)
    np.testing.assert_allclose(one.linearised(cell)(direction), g_pc.imag / step, atol=1e-11)
    n = len(cell.first_n) - 1
    v_nc = np.random.default_rng(4).normal(size=(n, 3))
    centre_p = np.repeat(np.arange(n), np.diff(cell.first_n))
    dg_pc = one.linearised(cell)(v_nc[site_p] - v_nc[centre_p])
    force_nc = np.zeros((n, 3))
    np.add.at(force_nc, site_p, dg_pc)
    np.add.at(force_nc, centre_p, -dg_pc)
    blocks = one.hessian_blocks(cell, site_p, dense(cell)).reshape(n, n, 3, 3)
    np.testing.assert_allclose(np.einsum("ijcd,jd->ic", blocks, v_nc), force_nc, atol=1e-10)


def test_third_derivatives_with_an_error_of_minus_one_are_none():
    cell, _ = environments(0.1)
    without, second = law(third_order_error=-1.0), law(order=2)
    for x, y in zip(without.site_gradients(cell), second.site_gradients(cell), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-12)
    with pytest.raises(ConfigError, match="needs order = 3"):
        law(order=2, third_order_error=0.5)


def environments(amplitude):
    """A cell of 3 x 3 x 3 with random displacements."""
    cell_cc = 3.0 * BCC.cell(A)
    shifts = np.stack(np.meshgrid(*3 * (np.arange(3),), indexing="ij"), -1).reshape(-1, 1, 3)
    x_nc = ((shifts + BCC.basis_bc) / 3.0).reshape(-1, 3) @ cell_cc
    pairs = find_pairs(cell_cc, (True, True, True), x_nc, 5.8)
    u_nc = np.random.default_rng(2).uniform(-amplitude, amplitude, x_nc.shape)
    centre_p = np.repeat(np.arange(len(x_nc)), np.diff(pairs.first_n))
    r_pc = pair_vectors(pairs, cell_cc, x_nc) + u_nc[pairs.site_p] - u_nc[centre_p]
    zero_n, zero_p = np.zeros(len(x_nc), np.int64), np.zeros(len(r_pc), np.int64)
    return Environments(pairs.first_n, r_pc, zero_n, zero_p), pairs.site_p


def dense(cell):
    n = len(cell.first_n) - 1
    return BlockPattern(np.arange(n + 1) * n, np.tile(np.arange(n), n))
