"""Matching conditions: scaled laws have known errors, ascent only adds, tensors agree with differences."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.analysis.matching import CellPair, cauchy_born_errors
from parmlip.analysis.matching_conditions import Condition, MatchingConditions
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell, supercell_from_arrays
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.mechanics.energy import Energy
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin
from parmlip.potentials.total import Evaluated

ZHOU = builtin("W-Zhou", (4.6, 5.6))
OTHER = builtin("W-Zhou", (3.8, 5.0))  # another taper: close, but not proportional
BASIS = ACEBasis(("W",), correlation_order=2, total_degree=4, cutoff=4.6, r0=2.7)
RANDOM_ACE = ACE(BASIS, 1e-2 * np.random.default_rng(0).standard_normal(BASIS.n_basis))
TRIANGULAR = (LATTICES["triangular"], 2.72, ("W",))
H = 0.1  # half width of the balls, angstrom
NAMES = ("force_constants", "force_constants_hom", "virial_0", "virial_1", "virial_2")


@dataclass(frozen=True)
class Scaled:
    """A law times a factor."""

    law: Any
    factor: float

    @property
    def species(self):
        return self.law.species

    @property
    def cutoff(self):
        return self.law.cutoff

    @property
    def closest(self):
        return self.law.closest

    def site_energies(self, environments):
        return self.factor * self.law.site_energies(environments)

    def site_gradients(self, environments):
        energy_n, g_pc = self.law.site_gradients(environments)
        return self.factor * energy_n, self.factor * g_pc

    def hessian_blocks(self, environments, site_p, pattern):
        return self.factor * self.law.hessian_blocks(environments, site_p, pattern)

    def linearised(self, environments):
        tangent = self.law.linearised(environments)
        return lambda dr_pc: self.factor * tangent(dr_pc)


class Whole:
    """A law of site energies as one of whole structures."""

    species = ("W",)
    closest = 0.0

    def __init__(self, law):
        self.law = law

    def evaluate(self, cell_cc, periodic, positions_ac, symbols):
        cell = supercell_from_arrays(cell_cc, periodic, positions_ac, symbols, 2)
        energy = Energy(self.law, cell, comm=MPI.COMM_SELF)
        zero = np.zeros((cell.n_sites, 2))
        forces_ac = np.pad(energy.difference_and_forces(zero)[1], ((0, 0), (0, 1)))
        return Evaluated(float(energy.site_energies(zero).sum()), forces_ac)


def crystal(repeats=(5, 5, 1)):
    """With a vacancy."""
    lattice, a, species = TRIANGULAR
    return apply_defects(build_supercell(lattice, a, repeats, species), [Vacancy(at=(0, 0, 0))])


def states(pair, n=6):
    """Random displacements about zero, the same on any number of ranks."""
    rng = np.random.default_rng(5)
    shape = (n, pair.sites.n_sites, pair.reference.dimension)
    return [pair.sites.restrict(u_ad) for u_ad in rng.uniform(-H, H, shape)]


def conditions(surrogate, *, comm=MPI.COMM_SELF, n_ascent=2):
    """All that is told of one cell, and of the crystal."""
    with CellPair(ZHOU, surrogate, crystal(), comm=comm) as pair:
        zero = np.zeros((pair.sites.n_owned, 2))
        energy, force = pair.ball_errors(zero, states(pair), H, n_ascent)
        constants = pair.hessian_error(zero)
    lattice, a, species = TRIANGULAR
    with CellPair(ZHOU, surrogate, build_supercell(lattice, a, (4, 4, 1), species), comm=comm) as pair:
        perfect = pair.hessian_error(np.zeros((pair.sites.n_owned, 2)))
    virial = cauchy_born_errors(ZHOU, surrogate, lattice, a, species)
    return MatchingConditions(energy, force, constants, perfect, virial[0], virial[1], virial[2])


@pytest.mark.mpi(3)
def test_a_law_of_whole_structures_is_measured_as_one_of_site_energies(comm):
    found = []
    for law in (ZHOU, Whole(ZHOU)):
        with CellPair(law, OTHER, crystal(), comm=comm) as pair:
            zero = np.zeros((pair.sites.n_owned, 2))
            found.append([*pair.ball_errors(zero, states(pair, 3), H, 2), pair.hessian_error(zero)])
    for one, whole in zip(*found, strict=True):
        scale = one.reference  # Hessians are found to 1e-6 of themselves, not of their difference
        assert [whole.rmse, whole.reference] == pytest.approx([one.rmse, one.reference], abs=1e-6 * scale)
        assert whole.random == (None if one.random is None else pytest.approx(one.random, rel=1e-8))
        # ascent goes to corners of the cube: a component of the gradient that is nearly zero has either sign
        assert whole.error == pytest.approx(one.error, rel=0.01)


def test_a_law_matches_itself():
    for name, found in conditions(ZHOU).items():
        assert found.error == found.rmse == 0.0, name
        assert found.reference > 0.0


@pytest.mark.parametrize("e", [1e-6, -0.2])
def test_a_law_that_is_scaled_is_wrong_by_the_same_part(e):
    found = conditions(Scaled(ZHOU, 1.0 + e), n_ascent=0)
    assert len(list(found.items())) == 7
    for name, one in found.items():
        assert one.error == pytest.approx(abs(e) * one.reference, rel=1e-6), name
    other = conditions(Scaled(ZHOU, 1.0 - 2.0 * e), n_ascent=0)
    for name, one in found.items():
        assert getattr(other, name).rmse == pytest.approx(2.0 * one.rmse, rel=1e-6), name


def test_ascent_finds_larger_errors_and_more_of_it_no_smaller_ones():
    found = [conditions(OTHER, n_ascent=n) for n in (0, 1, 2, 4)]
    for name in ("energy", "force_dual"):
        errors = [getattr(each, name).error for each in found]
        assert errors == sorted(errors), name
        assert errors[0] == getattr(found[0], name).random == getattr(found[-1], name).random
        assert errors[1] > 1.2 * errors[0], name


def test_ascent_stays_in_the_ball():
    seen = []
    with CellPair(ZHOU, OTHER, crystal(), comm=MPI.COMM_SELF) as pair:
        inside, errors = states(pair), pair.errors
        centre = states(pair, 7)[-1]
        pair.errors = lambda u_nd: (seen.append(u_nd), errors(u_nd))[1]
        pair.ball_errors(centre, [centre + 0.5 * u for u in inside], 0.5 * H, 3)
    assert len(seen) > len(inside)
    assert max(np.abs(u - centre).max() for u in seen) <= 0.5 * H * (1.0 + 1e-12)


def test_the_directions_of_ascent_are_the_gradients_of_the_errors():
    with CellPair(ZHOU, OTHER, crystal(), comm=MPI.COMM_SELF) as pair:
        u, v, *_ = states(pair)
        for error in (pair._energy_error, pair._force_error):
            slope = (error(u + 1e-5 * v)[0] - error(u - 1e-5 * v)[0]) / 2e-5
            assert np.vdot(error(u)[1], v) == pytest.approx(slope, rel=1e-5)


def test_the_rmse_of_the_hessian_is_that_of_its_rows():
    with CellPair(ZHOU, OTHER, crystal(), comm=MPI.COMM_SELF) as pair:
        zero = np.zeros((pair.sites.n_owned, 2))
        found = pair.hessian_error(zero)
        columns = []
        h = 1e-4
        for k in range(zero.size):
            e = np.zeros(zero.size)
            e[k] = h
            g = [pair.errors(sign * e.reshape(zero.shape))[1].reshape(-1) for sign in (1, -1)]
            columns.append((g[0] - g[1]) / (2 * h))
    rows = np.sqrt(np.sum(np.array(columns) ** 2) / zero.size)
    assert found.rmse == pytest.approx(rows, rel=0.25)  # 8 random directions stand for all


@pytest.mark.parametrize("surrogate", [OTHER, RANDOM_ACE], ids=["eam", "ace"])
@pytest.mark.parametrize("name", ["triangular", "hcp"])
def test_errors_of_the_energy_density_are_those_of_differences(name, surrogate):
    lattice, a, species = LATTICES[name], 2.75, ("W",)
    found = cauchy_born_errors(ZHOU, surrogate, lattice, a, species)
    crystals = [CauchyBorn(law, lattice, a, species) for law in (ZHOU, surrogate)]
    n, h = len(crystals[0].direction_xpc), 5e-4

    def gradient(change_x):
        """Of the difference of the energy densities."""
        g_x = []
        for c in crystals:
            e = c.environments.with_vectors(c.environments.r_pc + np.tensordot(change_x, c.direction_xpc, 1))
            g_x.append(np.einsum("xpc,pc->x", c.direction_xpc, c.law.site_gradients(e)[1]) / c.volume)
        return g_x[0] - g_x[1]

    assert found[0].error == pytest.approx(np.linalg.norm(gradient(np.zeros(n))), rel=1e-12)
    steps = h * np.eye(n)
    second = np.array([(gradient(s) - gradient(-s)) / (2 * h) for s in steps])
    assert found[1].error == pytest.approx(np.linalg.norm(second), rel=1e-3)
    assert found[1].rmse == pytest.approx(np.sqrt(np.mean(second**2)), rel=1e-3)
    third = np.array(
        [[(gradient(s + t) - gradient(s - t) - gradient(t - s) + gradient(-s - t)) / (4 * h * h) for t in steps]
         for s in steps]
    )  # fmt: skip
    assert found[2].error == pytest.approx(np.linalg.norm(third), rel=5e-3)


@pytest.mark.mpi
def test_conditions_do_not_depend_on_the_number_of_ranks(comm):
    alone, together = conditions(OTHER), conditions(OTHER, comm=comm)
    for (name, one), (_, many) in zip(alone.items(), together.items(), strict=True):
        assert [many.error, many.rmse, many.reference] == pytest.approx(
            [one.error, one.rmse, one.reference], rel=1e-6, abs=1e-14
        ), name


def test_without_samples_there_is_nothing_to_tell():
    with CellPair(ZHOU, OTHER, crystal(), comm=MPI.COMM_SELF) as pair, pytest.raises(ValueError, match="no samples"):
        pair.ball_errors(np.zeros((pair.sites.n_owned, 2)), [], H, 1)


def test_of_several_cells_the_worst_counts_condition_by_condition():
    small, large = Condition(1.0, 0.5, 9.0), Condition(2.0, 0.1, 3.0)
    one = MatchingConditions(energy=small, force_dual=large)
    two = MatchingConditions(energy=large, force_dual=replace(small, error=0.0), virial_1=small)
    worst = one.worst(two)
    assert worst == two.worst(one) == MatchingConditions(energy=large, force_dual=large, virial_1=small)
    assert [line.split()[0] for line in worst.lines(2)] == ["condition", "energy", "force_dual", "virial_1"]
