"""The residual of a surrogate's equilibrium against the true geometry error; core and far field."""

from dataclasses import dataclass

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.analysis.errors import compare_geometry, core_and_far, errors_beyond
from parmlip.analysis.residual import residual
from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.extremes import ritz_values
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.stability import Product
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.potentials.eam import builtin

ZHOU = builtin("W-Zhou", (4.6, 5.6))


OTHER = builtin("W-FS84")


@dataclass(frozen=True)
class Mixed:
    """1 - e of a law and e of another."""

    e: float
    species = ZHOU.species
    cutoff = max(ZHOU.cutoff, OTHER.cutoff)
    closest = 0.0

    def site_energies(self, environments):
        return (1 - self.e) * ZHOU.site_energies(environments) + self.e * OTHER.site_energies(environments)

    def site_gradients(self, environments):
        (v, g), (w, h) = ZHOU.site_gradients(environments), OTHER.site_gradients(environments)
        return (1 - self.e) * v + self.e * w, (1 - self.e) * g + self.e * h

    def hessian_blocks(self, *of):
        return (1 - self.e) * ZHOU.hessian_blocks(*of) + self.e * OTHER.hessian_blocks(*of)

    def linearised(self, environments):
        a, b = ZHOU.linearised(environments), OTHER.linearised(environments)
        return lambda dr_pc: (1 - self.e) * a(dr_pc) + self.e * b(dr_pc)


def case(surrogate, comm=MPI.COMM_SELF, n=12):
    """Residual, true geometry error, the true energy excess, extreme <H v, v> / ||Dv||^2 at the equilibrium."""
    _, a = relaxed_lattice(ZHOU, LATTICES["triangular"], ("W",))
    cell = apply_defects(build_supercell(LATTICES["triangular"], a, (n, n, 1), ("W",)), [Vacancy(at=(0, 0, 0))])
    energies = [Energy(law, cell, comm=comm) for law in (ZHOU, surrogate)]
    sites = energies[0].sites
    zero = np.zeros((sites.n_owned, 2))
    u_ref, u_sur = (relax(e, zero, Relax(force_tolerance=1e-11)).u_nd for e in energies)
    with StencilSpace(cell, sites) as space, Product(energies[0], u_sur) as product:
        found = residual(*energies, u_sur, space, bulk_green(energies[1]))
        values = ritz_values(
            product, space.inverse, lambda r: max(r.residual_lowest, r.residual_highest) < 1e-4, sites, 2,
            max_steps=200, seed=1,
        ).values  # fmt: skip
        error = space.norm(u_ref - u_sur)
    excess = energies[0].difference(u_sur) - energies[0].difference(u_ref)
    return found, error, excess, (values[0], values[-1])


@pytest.mark.parametrize("e", [0.2, 0.1, 0.03])
def test_the_dual_norm_of_the_residual_bounds_the_geometry_error_from_both_sides(e):
    found, error, _, (least, largest) = case(Mixed(e))
    assert error > 1e-3
    assert 0.9 * least <= found.dual / error <= 1.1 * largest


def test_the_first_order_estimates_are_the_errors_up_to_second_order():
    ratios = []
    for e in (0.04, 0.02, 0.01):
        found, error, excess, _ = case(Mixed(e))
        ratios.append([found.geometry / error - 1.0, found.energy / excess - 1.0])
    ratios = np.abs(ratios)
    assert (ratios[-1] < 0.05).all()
    np.testing.assert_allclose(ratios[:-1] / ratios[1:], 2.0, rtol=0.3)  # first order in e


def test_the_reference_itself_leaves_nothing():
    found, error, *_ = case(ZHOU)
    assert error < 1e-12
    assert max(found.dual, found.geometry, found.energy) < 1e-10


@pytest.mark.mpi
def test_estimates_do_not_depend_on_the_number_of_ranks(comm):
    (one, *_), (many, *_) = case(Mixed(0.1)), case(Mixed(0.1), comm)
    assert many.dual == pytest.approx(one.dual, rel=1e-6)
    assert many.geometry == pytest.approx(one.geometry, rel=1e-6)
    assert many.energy == pytest.approx(one.energy, rel=1e-6)


@pytest.mark.mpi
def test_the_squares_of_core_and_far_field_add_up(comm):
    cell = build_supercell(LATTICES["triangular"], 2.7, (8, 8, 1), ("W",))
    u = np.random.default_rng(0).standard_normal((cell.n_sites, 2))
    pairs = nearest_neighbours(cell, "voronoi", np.arange(comm.rank, cell.n_sites, comm.size))
    core = np.arange(cell.n_sites) % 3 == 0
    whole = compare_geometry(pairs, u, 0.0 * u, 10.0, comm=comm).error
    near, far = core_and_far(pairs, u, core, comm=comm)
    assert np.hypot(near, far) == pytest.approx(whole, rel=1e-12)
    assert 0.0 < near < far
    assert core_and_far(pairs, u, ~core, comm=comm) == pytest.approx((far, near))
    assert core_and_far(pairs, u, core | ~core, comm=comm) == pytest.approx((whole, 0.0))


@pytest.mark.mpi
def test_errors_beyond_a_radius_fall_from_the_whole_and_are_those_of_the_far_field(comm):
    cell = build_supercell(LATTICES["triangular"], 2.7, (8, 8, 1), ("W",))
    rng = np.random.default_rng(0)
    u, distance = rng.standard_normal((cell.n_sites, 2)), rng.uniform(0.1, 10.0, cell.n_sites)
    pairs = nearest_neighbours(cell, "voronoi", np.arange(comm.rank, cell.n_sites, comm.size))
    beyond = errors_beyond(pairs, u, distance, np.array([0.0, 3.0, 6.0, 11.0]), comm=comm)
    assert beyond[0] == pytest.approx(compare_geometry(pairs, u, 0.0 * u, 10.0, comm=comm).error, rel=1e-12)
    assert (np.diff(beyond) < 0.0).all()
    assert beyond[2] == pytest.approx(core_and_far(pairs, u, distance <= 6.0, comm=comm)[1], rel=1e-12)
    assert beyond[3] == 0.0
