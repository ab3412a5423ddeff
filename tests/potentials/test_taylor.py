"""Taylor laws: how fast they meet the law they expand, and that their derivatives are their own."""

from dataclasses import dataclass

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES
from parmlip.errors import ConfigError, GeometryError
from parmlip.potentials.base import complex_step
from parmlip.potentials.eam import builtin
from parmlip.potentials.stillinger_weber import builtin as silicon
from parmlip.potentials.taylor import LatticeState, TaylorLaw, lattice_vectors
from tests.potentials.eam_cells import BCC, Cell, crystal
from tests.potentials.silicon_cells import DIAMOND

ZHOU = builtin("W-Zhou", (4.0, 5.0))


@dataclass(frozen=True)
class GivenState:
    """Given vectors of the pairs of one fixed list; `near_n` marks centres that keep their exact second derivatives."""

    r_pc: np.ndarray
    near_n: np.ndarray

    def vectors(self, environments):
        return self.r_pc

    def is_homogeneous(self, environments):
        return ~self.near_n


def taylor(law, lattice, a, **kwargs):
    return TaylorLaw(law, LatticeState(lattice_vectors(LATTICES[lattice], a, law.cutoff + 3.0)), **kwargs)


def cell_of(name, order=2, vacancy=False, **kwargs):
    law, lattice, basis, a = (ZHOU, "bcc", BCC, 3.16) if name == "W" else (silicon("Si-SW"), "diamond", DIAMOND, 5.43)
    cell = crystal(taylor(law, lattice, a, order=order, **kwargs), basis, a, repeats=3 if name == "W" else 2)
    keep = slice(1, None) if vacancy else slice(None)
    return law, Cell(cell.law, cell.cell_cc, cell.positions_ac[keep], cell.species_a[keep])


@pytest.mark.parametrize("vacancy", [False, True], ids=["crystal", "vacancy"])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("name", ["W", "Si"])
def test_energy_errs_by_one_order_more_than_the_expansion_and_forces_by_its_order(name, order, vacancy):
    law, cell = cell_of(name, order, vacancy)
    exact = Cell(law, cell.cell_cc, cell.positions_ac, cell.species_a)
    v_ac = np.random.default_rng(5).uniform(-1, 1, cell.positions_ac.shape)
    steps = np.array([0.02, 0.01, 0.005])
    energy = [np.linalg.norm(cell.law.site_energies(cell.environments(h * v_ac))
                             - law.site_energies(exact.environments(h * v_ac))) for h in steps]  # fmt: skip
    force = [np.linalg.norm(cell.gradient(h * v_ac) - exact.gradient(h * v_ac)) for h in steps]
    for errors, expected in ((energy, order + 1), (force, order)):
        assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("error", [0.0, 0.1])
@pytest.mark.parametrize("order", [2, 3])
def test_gradient_tangent_and_hessian_are_derivatives_of_each_other(order, error):
    _, cell = cell_of("W", order, vacancy=True, force_constant_error=error)
    rng = np.random.default_rng(6)
    u_ac, v_ac = rng.uniform(-0.1, 0.1, (2, *cell.positions_ac.shape))
    h = 1e-4
    slope = (cell.energy(u_ac + h * v_ac) - cell.energy(u_ac - h * v_ac)) / (2 * h)
    assert slope == pytest.approx(np.sum(cell.gradient(u_ac) * v_ac), rel=1e-7)
    environments = cell.environments(u_ac)
    dr_pc = cell.difference(v_ac)
    exact = complex_step(cell.law, environments)(dr_pc)
    np.testing.assert_allclose(cell.law.linearised(environments)(dr_pc), exact, atol=1e-12 * abs(exact).max())
    moved = Cell(cell.law, cell.cell_cc, cell.positions_ac + u_ac, cell.species_a)
    product = cell.hessian_times(u_ac, v_ac).ravel()
    np.testing.assert_allclose(moved.hessian() @ v_ac.ravel(), product, atol=1e-10 * abs(product).max())


def test_the_prescribed_error_multiplies_the_force_constants_of_the_crystal_alone():
    law, cell = cell_of("W", force_constant_error=0.1)
    exact = Cell(law, cell.cell_cc, cell.positions_ac, cell.species_a).hessian()
    np.testing.assert_allclose(cell.hessian(), 1.1 * exact, atol=1e-12 * abs(exact).max())
    near = np.arange(len(cell.positions_ac)) < 5
    state = GivenState(cell.environments().r_pc, near)
    at_defect = cell.law.about(state)
    dr_pc = np.random.default_rng(7).normal(size=state.r_pc.shape)
    tangent = at_defect.linearised(cell.environments())(dr_pc)
    plain = law.linearised(cell.environments())(dr_pc)
    scale_p = np.where(near, 1.0, 1.1)[cell.centre_p][:, None]
    np.testing.assert_allclose(tangent, scale_p * plain, atol=1e-12 * abs(plain).max())


def test_an_expansion_about_a_given_state_is_exact_there():
    law, cell = cell_of("W", vacancy=True)
    u_ac = np.random.default_rng(8).uniform(-0.1, 0.1, cell.positions_ac.shape)
    there = cell.environments(u_ac)
    at = cell.law.about(GivenState(there.r_pc, np.zeros(len(u_ac), bool)))
    for ours, exact in zip(at.site_gradients(there), law.site_gradients(there), strict=True):
        np.testing.assert_array_equal(ours, exact)


def test_what_cannot_be_expanded_is_refused():
    _, cell = cell_of("W")
    environments = cell.environments()
    environments.r_pc[0] *= 0.5
    with pytest.raises(GeometryError, match="from all vectors of the crystal"):
        cell.law.site_energies(environments)
    for kwargs in ({"order": 4}, {"force_constant_error": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(kwargs))):
            taylor(ZHOU, "bcc", 3.16, **kwargs)
