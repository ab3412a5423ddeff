"""Saddles of vacancy hops against independent programs; paths; failure; rank independence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.line_search import dot
from parmlip.mechanics.path import Path, minimum_energy_path
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.saddle import find_saddle, lowest_frequency
from parmlip.mechanics.stability import Product
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.eam import builtin

SETTINGS = Relax(force_tolerance=1e-10)


@dataclass(frozen=True)
class Hop:
    """A vacancy at the origin and the relaxed states before and after a neighbour's jump into it."""

    energy: Energy
    green: BulkGreen | None
    start_nd: np.ndarray
    end_nd: np.ndarray
    before: float  # energy at the start, eV

    def path(self, **options) -> Path:
        return minimum_energy_path(self.energy, self.start_nd, self.end_nd, self.green, **options)

    def saddle(self, path: Path, **options):
        top = path.top
        along_nd = path.image_knd[top + 1] - path.image_knd[top - 1]
        return find_saddle(self.energy, path.image_knd[top], along_nd, self.green, **options)


@cache
def copper() -> SiteLaw:
    return builtin("Cu-Mishin2001")


def vacancy_cell(repeats: tuple, a: float, vacancies=((0.0, 0.0, 0.0),)) -> Supercell:
    return apply_defects(build_supercell(LATTICES["fcc"], a, repeats, ("Cu",)), [Vacancy(at=v) for v in vacancies])


def jump(cell: Supercell, a: float, step: tuple, to=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Displacements (n_sites, 3) by which the atom at to + step fills the vacancy at `to`."""
    u_ad = np.zeros((cell.n_sites, 3))
    square_a = ((cell.positions_ac - a * (np.array(to) + step)) ** 2).sum(axis=1)
    assert square_a.min() < 1e-12
    u_ad[np.argmin(square_a)] = -a * np.array(step)
    return u_ad


def hop(repeats: tuple, step: tuple, a: float, comm: MPI.Comm = MPI.COMM_SELF) -> Hop:
    cell = vacancy_cell(repeats, a)
    energy = Energy(copper(), cell, comm=comm)
    green = bulk_green(energy)
    start = relax(energy, np.zeros((energy.sites.n_owned, 3)), SETTINGS, green=green)
    end = relax(energy, energy.sites.restrict(jump(cell, a, step)), SETTINGS, green=green)
    return Hop(energy, green, start.u_nd, end.u_nd, start.energy)


@pytest.mark.parametrize(
    ("repeats", "step", "a", "barrier", "lowest", "tolerance"),
    [
        # a Newton-refined nudged elastic band of another program; the lowest eigenvalues are those of H in eV/A^2
        ((2, 2, 1), (0.5, 0.5, 0.0), 3.615, 0.8733695492023017, -2.5811300831404305, 1e-8),
        ((2, 2, 1), (0.5, 0.0, 0.5), 3.615, 0.8283313775502208, -2.2313756498482844, 1e-8),
        ((3, 3, 3), (0.5, 0.5, 0.0), 3.615, 0.6889593534719438, -1.6921926647241796, 1e-8),
        # matscipy and ASE, with another spline of the same table
        ((2, 2, 2), (0.5, 0.5, 0.0), 3.61492507, 0.6846466198756218, -1.751055126376523, 2e-6),
    ],
)
def test_vacancy_hops_have_the_barriers_and_unstable_modes_of_other_programs(
    repeats, step, a, barrier, lowest, tolerance
):
    of = hop(repeats, step, a)
    found = of.saddle(of.path())
    assert found.max_force <= 1e-10
    assert found.energy - of.before == pytest.approx(barrier, abs=tolerance)
    mass_n = np.full(of.energy.sites.n_owned, 2.0)
    assert 2.0 * lowest_frequency(of.energy, found.u_nd, mass_n, found.mode) == pytest.approx(lowest, abs=2e-6)


def test_the_unstable_mode_relative_to_the_bulk_is_that_of_the_stored_spectrum_and_solves_its_equation():
    of = hop((3, 3, 3), (0.5, 0.5, 0.0), 3.615)
    found = of.saddle(of.path())
    assert found.lowest[0] == pytest.approx(-0.2451445, abs=1e-6)
    mode = found.mode
    with Product(of.energy, found.u_nd) as product:
        residual = product(mode.v_nd) - mode.value * mode.image_nd
    comm = of.energy.comm
    assert dot(mode.v_nd, mode.image_nd, comm) == pytest.approx(1.0, abs=1e-10)
    assert np.sqrt(dot(residual, of.green(residual), comm)) <= 1.1 * found.residuals[0]


@pytest.mark.mpi(2, 3)
def test_saddles_do_not_depend_on_the_number_of_ranks(comm):
    alone, together = (hop((2, 2, 1), (0.5, 0.0, 0.5), 3.615, c) for c in (MPI.COMM_SELF, comm))
    paths = alone.path(), together.path()
    found = alone.saddle(paths[0]), together.saddle(paths[1])
    assert paths[0].energy_k == pytest.approx(paths[1].energy_k, abs=1e-10)
    assert found[0].energy == pytest.approx(found[1].energy, abs=1e-10)
    assert found[0].lowest == pytest.approx(found[1].lowest, rel=1e-6)
    whole = together.energy.sites.gather_to_all(found[1].u_nd)
    assert whole == pytest.approx(alone.energy.sites.gather_to_all(found[0].u_nd), abs=1e-8)


def test_paths_climb_evenly_from_one_equilibrium_to_the_other():
    of = hop((2, 2, 2), (0.5, 0.5, 0.0), 3.615)
    path = of.path(n_images=5)
    assert len(path.image_knd) == 7
    assert path.energy_k == pytest.approx(path.energy_k[::-1], abs=0.01)  # the hop is its own mirror image
    assert np.diff(path.position_k) == pytest.approx(np.full(6, path.position_k[-1] / 6), rel=0.02)
    assert path.top == 3
    assert path.force <= 0.05


def test_newton_converges_quadratically_and_in_as_many_steps_in_large_cells():
    of = hop((6, 6, 6), (0.5, 0.5, 0.0), 3.615)
    found = of.saddle(of.path())
    assert found.iterations <= 5
    assert found.energy - of.before == pytest.approx(0.6885, abs=2e-4)


def test_a_search_without_a_green_function_finds_the_same_saddle():
    of = hop((2, 2, 1), (0.5, 0.5, 0.0), 3.615)
    top = of.path()
    with_green = of.saddle(top)
    plain = find_saddle(of.energy, top.image_knd[top.top], top.image_knd[-1] - top.image_knd[0], None)
    assert plain.energy == pytest.approx(with_green.energy, abs=1e-10)


def test_a_minimum_is_not_taken_for_a_saddle():
    of = hop((2, 2, 1), (0.5, 0.5, 0.0), 3.615)
    with pytest.raises(ConvergenceError, match="has 0 negative modes instead of one"):
        find_saddle(of.energy, of.start_nd, of.end_nd - of.start_nd, of.green, force_tolerance=1e-9)


def test_a_saddle_of_two_jumps_at_a_time_is_told_with_its_number_of_modes():
    a, sites = 3.615, ((0.0, 0.0, 0.0), (2.0, 2.0, 0.0))
    cell = vacancy_cell((4, 4, 2), a, sites)
    energy = Energy(copper(), cell, comm=MPI.COMM_SELF)
    green = bulk_green(energy)
    half = 0.5 * (jump(cell, a, (0.5, 0.5, 0.0)) + jump(cell, a, (0.5, 0.5, 0.0), sites[1]))
    half_nd = energy.sites.restrict(half)
    with pytest.raises(ConvergenceError, match="has 2 negative modes instead of one"):
        find_saddle(energy, half_nd, half_nd, green, breaks=0)
    found = find_saddle(energy, half_nd, half_nd, green)  # one of the two jumps is left
    assert (found.index, found.max_force <= 1e-10) == (1, True)


def test_a_path_without_a_top_is_an_error():
    of = hop((2, 2, 1), (0.5, 0.5, 0.0), 3.615)
    path = of.path()
    short = Hop(of.energy, of.green, of.start_nd, 0.9 * of.start_nd + 0.1 * path.image_knd[2], of.before)
    with pytest.raises(ConvergenceError, match="no image of 3 lies above both ends"):
        short.path(n_images=3, max_iterations=0)


def test_a_search_that_is_cut_short_says_how_far_it_came():
    of = hop((2, 2, 1), (0.5, 0.5, 0.0), 3.615)
    with pytest.raises(ConvergenceError, match="not converged after 1 iterations; the largest force is "):
        of.saddle(of.path(), max_iterations=1)
