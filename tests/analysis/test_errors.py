"""Geometry errors, formation energies and fitted rates."""

import numpy as np
import pytest

from parmlip.analysis.errors import compare_geometry, fit_slope, formation_energy
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.neighbours import Pairs
from parmlip.crystal.norms import stencil_norm
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import DataError

CELL = apply_defects(build_supercell(LATTICES["bcc"], 3.14, (4, 4, 4), ("W",)), [Vacancy((1.0, 1.0, 1.0))])
PAIRS = nearest_neighbours(CELL)
RNG = np.random.default_rng(2)
U, V = 0.1 * RNG.standard_normal((2, CELL.n_sites, 3))


def share(rank: int, size: int) -> Pairs:
    """Nearest neighbours of every size-th site."""
    return nearest_neighbours(CELL, centre_n=np.arange(rank, CELL.n_sites, size))


@pytest.mark.mpi
def test_the_geometry_error_is_the_stencil_norm_of_the_difference(comm):
    result = compare_geometry(share(comm.rank, comm.size), U, V, comm=comm)
    assert result.error == pytest.approx(stencil_norm(PAIRS, U - V), rel=1e-13)
    assert result.reference_norm == pytest.approx(stencil_norm(PAIRS, U), rel=1e-13)
    assert result.surrogate_norm == pytest.approx(stencil_norm(PAIRS, V), rel=1e-13)
    assert result.relative == pytest.approx(result.error / result.reference_norm)
    assert result.max_difference == pytest.approx(np.linalg.norm(U - V, axis=1).max(), rel=1e-13)


@pytest.mark.mpi
def test_translations_are_no_geometry_error_and_ranks_may_own_nothing(comm):
    mine = share(0, 1) if comm.rank == 0 else nearest_neighbours(CELL, centre_n=np.zeros(0, dtype=np.int64))
    result = compare_geometry(mine, U, U + 0.2, comm=comm)
    assert result.error < 1e-13
    assert result.same_basin


@pytest.mark.mpi
def test_another_basin_is_told_on_every_rank(comm):
    moved = U.copy()
    moved[7, 0] += 0.51
    assert not compare_geometry(share(comm.rank, comm.size), U, moved, comm=comm).same_basin
    assert compare_geometry(share(comm.rank, comm.size), U, moved, 0.52, comm=comm).same_basin


@pytest.mark.mpi
def test_a_displacement_that_is_not_finite_is_an_error_on_every_rank(comm):
    bad = U.copy()
    bad[3, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        compare_geometry(share(comm.rank, comm.size), U, bad, comm=comm)


def test_formation_energies_subtract_every_species():
    assert formation_energy(-100.0, {"W": 10}, {"W": -10.5}) == pytest.approx(5.0)
    assert formation_energy(-100.0, {"Ni": 10, "Al": 5}, {"Ni": -5.0, "Al": -11.0}) == pytest.approx(5.0)
    with pytest.raises(DataError, match="'Al'"):
        formation_energy(-100.0, {"Ni": 10, "Al": 5}, {"Ni": -5.0})


@pytest.mark.parametrize("power", [-3.0, 1.0, 2.0])
def test_an_exact_power_law_gives_its_slope(power):
    x = np.geomspace(1e-4, 1e-1, 6)
    fit = fit_slope(x, 3.0 * x**power)
    assert fit.slope == pytest.approx(power, abs=1e-12)
    assert np.exp(fit.intercept) == pytest.approx(3.0, rel=1e-10)
    assert fit.standard_error < 1e-12
    assert np.allclose(fit.at(x), 3.0 * x**power, rtol=1e-10)


def test_the_confidence_interval_covers_the_slope_as_often_as_it_says():
    rng = np.random.default_rng(11)
    x = np.geomspace(1e-3, 1e-1, 5)
    covered = 0
    for _ in range(1000):
        low, high = fit_slope(x, x * np.exp(0.2 * rng.standard_normal(5))).interval(0.9)
        covered += low <= 1.0 <= high
    assert covered / 1000 == pytest.approx(0.9, abs=0.03)


def test_two_points_give_a_slope_without_confidence():
    fit = fit_slope([1e-2, 1e-1], [2e-2, 2e-1])
    assert fit.slope == pytest.approx(1.0)
    assert np.isnan(fit.standard_error)
    assert fit.interval() == (-np.inf, np.inf)


def test_slopes_of_impossible_data_are_refused():
    with pytest.raises(DataError, match="two different"):
        fit_slope([1.0, 1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="positive and finite"):
        fit_slope([1.0, 2.0], [0.0, 2.0])
    with pytest.raises(DataError, match="2 abscissas and 1"):
        fit_slope([1.0, 2.0], [2.0])
