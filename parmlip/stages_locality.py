"""The stage locality: derivatives of a site entropy against the distance, and the error of its truncation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.analysis.errors import Slope
from parmlip.analysis.locality import envelope, slope_between
from parmlip.config import Study
from parmlip.crystal.distances import distances_to
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics import hessian
from parmlip.mechanics.bulk import nearest_distance
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.site_entropy import SiteGradient, site_entropies, site_entropy_gradient, truncated
from parmlip.mechanics.third_derivatives import ThirdDerivative
from parmlip.parallel.logs import timed
from parmlip.stages_equilibrium import Crystal, crystal_of

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
FloatArray = NDArray[np.float64]

_STREAM = 5  # of the random numbers


def locality_fields(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Decay of |dS_l/du_n| and of |S_l(u) - S_l(T u)|, with their slopes. Collective on ``comm``."""
    asked, of = study.locality, crystal_of(study, results)
    assert of is not None  # the input was checked
    law = construct.reference_law(study)
    cell = construct.supercell(study, study.simulation, of)
    energy = Energy(law, cell, comm=comm)
    site, distance_a = _site(study, cell, of)
    components = asked.components or tuple(range(cell.dimension))
    n_states = asked.displacement.samples
    cutoff_r = np.array(sorted(asked.cutoffs))
    found: list[SiteGradient] = []
    sizes, squares, largest = [], np.zeros(len(cutoff_r)), 0.0
    for sample in range(n_states):
        u_ad = _state(study, results, energy, sample)
        largest = max(largest, float(np.abs(u_ad).max()))
        if study.reference.kind == "toy":
            _check_bonds(cell, u_ad, of)
        with timed("locality: derivatives"), _relative(energy, u_ad) as relative:
            third = ThirdDerivative(energy, energy.sites.restrict(u_ad))
            found.append(site_entropy_gradient(relative, third, site, components=components, tolerance=asked.tolerance))
            sizes.append(np.linalg.norm(energy.sites.gather_to_all(found[-1].gradient_nd), axis=1))
        logger.info("site %d: entropy %.10f k_B, %d Lanczos steps", site, found[-1].value, found[-1].steps)
        with timed("locality: truncation"):
            cut_r = [_truncated_entropy(study, energy, u_ad, site, r, components) for r in cutoff_r]
        squares += (np.array(cut_r) - found[-1].value) ** 2 / n_states
    interval, size_a = _interval(study, cell, of), np.max(sizes, axis=0)
    decay = envelope(distance_a, size_a, asked.bins, interval)
    _tell("derivatives", decay.slope, interval, -2 * cell.dimension)
    fields = {
        "site": Field(site),
        "dimension": Field(cell.dimension),
        "entropy": Field(found[0].value, "k_B", "site entropy of the first state, relative to the perfect crystal"),
        "steps": Field(max(f.steps for f in found), about="Lanczos steps of the derivatives"),
        "fit_from": Field(interval[0], "A"),
        "fit_to": Field(interval[1], "A"),
        "largest_displacement": Field(largest, "A"),
        "distance": Field(distance_a, "A", "of every site from the one"),
        "derivative": Field(size_a, "k_B/A", "|dS_l/du_n|, of several states the largest"),
        "envelope_distance": Field(decay.distance_b, "A"),
        "envelope": Field(decay.value_b, "k_B/A", "largest derivative of each bin"),
        **_slope_fields("", decay.slope),
    }
    if asked.cutoffs:
        error_r = np.sqrt(squares)
        line = slope_between(cutoff_r, error_r, (0.0, np.inf))
        _tell("truncation error", line, (cutoff_r[0], cutoff_r[-1]), -cell.dimension)
        fields |= {
            "cutoff": Field(cutoff_r, "A"),
            "truncation_error": Field(
                error_r, "k_B", "|S_l(u) - S_l(T u)|, T u = 0 outside of the cutoff; RMS of states"
            ),
            **_slope_fields("truncation_", line),
        }
    return fields


@contextmanager
def _relative(energy: Energy, u_ad: FloatArray) -> Iterator[RelativeHessian]:
    """F H F at a displacement."""
    matrix = hessian.operator(energy, energy.sites.restrict(u_ad))
    try:
        with RelativeHessian(matrix, energy.law, energy.supercell, energy.sites) as relative:
            yield relative
    finally:
        matrix.destroy()


def _truncated_entropy(
    study: Study, energy: Energy, u_ad: FloatArray, site: int, radius: float, components: tuple[int, ...]
) -> float:
    cut_ad = truncated(energy.supercell, u_ad, site, radius * (1.0 + 1e-12))
    with _relative(energy, cut_ad) as relative:
        found = site_entropies(relative, np.array([site]), method="ritz", tolerance=study.locality.tolerance)
    return float(found.component_sc[0, list(components)].sum())


def _site(study: Study, cell: Supercell, of: Crystal) -> tuple[int, FloatArray]:
    """The site, and the distances of all sites from it."""
    at = study.locality.at
    half = 0.5 * np.array(study.simulation.repeats) * (np.arange(3) < cell.dimension)
    place = (half if at is None else np.array([*at, 0.0, 0.0][:3])) @ of[0].cell(of[1])
    near_a = distances_to(cell, place[None])
    if at is not None and near_a.min() > 1e-3 * of[1]:
        raise ConfigError(f"[locality] at = {list(at)}: no site is there; the nearest is {near_a.min():.3f} A away")
    site = int(np.argmin(np.round(near_a, 9)))
    return site, distances_to(cell, cell.positions_ac[site][None])


def _interval(study: Study, cell: Supercell, of: Crystal) -> tuple[float, float]:
    """Beyond L/8 the periodic images are felt in one dimension; small cells of more are fitted up to L/4."""
    if not isinstance(study.locality.fit, str):
        return study.locality.fit[0], study.locality.fit[1]
    shortest = float(np.linalg.norm(cell.cell_cc[: cell.dimension], axis=1).min())
    return 3.0 * of[1] * nearest_distance(of[0]), shortest / (8.0 if cell.dimension == 1 else 4.0)


def _state(study: Study, results: Results, energy: Energy, sample: int) -> FloatArray:
    """Displacements of all sites, the same on every rank."""
    asked, cell = study.locality.displacement, energy.supercell
    d, shape = cell.dimension, (cell.n_sites, cell.dimension)
    if asked.kind == "equilibrium":
        return np.asarray(results.read("relax_reference", "displacement"))
    assert cell.grid is not None  # a lattice
    number_a = np.where(cell.grid.number_a >= 0, cell.grid.number_a, np.arange(cell.n_sites))
    if asked.kind == "chirp":
        free = asked.components or tuple(range(d))
        k = len(free) * number_a[:, None] + np.arange(len(free))
        u_ad = np.zeros(shape)
        u_ad[:, list(free)] = asked.amplitude * np.sin(1.3 * k * k + 0.5 * k)
        return u_ad
    if asked.kind == "smooth":
        fraction_ac = cell.positions_ac @ np.linalg.inv(cell.cell_cc)
        u_ad = np.tile(asked.amplitude * np.sin(2.0 * np.pi * fraction_ac[:, :d]).sum(axis=1)[:, None], (1, d))
    else:
        rng = np.random.default_rng([study.run.seed, _STREAM, sample])
        x_nd = energy.sites.restrict(asked.amplitude * rng.standard_normal(shape))
        with _relative(energy, np.zeros(shape)) as relative:
            rough = relative.to_sites(relative.lift(relative.from_sites(x_nd[:, :, None])))
        u_ad = energy.sites.gather_to_all(np.ascontiguousarray(rough[:, :, 0]))
    if asked.components:
        u_ad[:, [c for c in range(d) if c not in asked.components]] = 0.0
    return u_ad


def _check_bonds(cell: Supercell, u_ad: FloatArray, of: Crystal) -> None:
    """Bonds of the toy law are known by rounding: neighbours must not move by half a step against each other."""
    pairs = nearest_neighbours(cell, "nearest", np.arange(cell.n_sites))
    largest = float(np.abs(u_ad[pairs.site_p] - u_ad[pairs.centre_p]).max(initial=0.0))
    if largest >= 0.5 * of[1]:
        raise ConfigError(
            f"[locality] displacement amplitude: neighbours move by {largest:.3f} A against each other, the toy law "
            f"allows less than {0.5 * of[1]:g}; take a smaller one"
        )


def _slope_fields(prefix: str, line: Slope | None) -> Fields:
    if line is None:
        return {}
    low, high = line.interval()
    return {
        f"{prefix}slope": Field(line.slope, "", "of the logarithms"),
        f"{prefix}slope_low": Field(low, "", "95 % interval"),
        f"{prefix}slope_high": Field(high),
        f"{prefix}intercept": Field(line.intercept),
    }


def _tell(what: str, line: Slope | None, interval: tuple[float, float], bound: int) -> None:
    if line is None:
        logger.info("%s: fewer than three values between %.4g and %.4g A, no slope", what, *interval)
        return
    low, high = line.interval()
    logger.info("%s ~ r^%.2f (95 %%: %.2f to %.2f) from %.4g to %.4g A; bound r^%d", what, line.slope, low, high,
                *interval, bound)  # fmt: skip
