"""What the reference's forces tell of the error of a coupled equilibrium; the QM region that a tolerance asks for."""

from __future__ import annotations

import logging
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.sampled_residual import Estimate, draw_sample, estimated, importance
from parmlip.config import Study
from parmlip.construct_qmmm import Coupling, reference_forces_on
from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.io.hdf5 import Field
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.coupled_response import CoupledResponse
from parmlip.mechanics.force_mixing import SiteLawForces
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.parallel.logs import timed

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
RealArray = NDArray[np.float64]

_SAMPLES: Final = 48  # of a law of whole structures, by default
_MORE: Final = 8  # times that number at most, where noise hides whether a tolerance is met
_RATE: Final = 2.0  # of the estimate's decay with R_QM before it has been seen, between those of screws and vacancies
_RATES: Final = (1.0, 6.0)  # that are believed
_GROWTH: Final = 1.6  # of R_QM at most, each time
_EDGE: Final = 1e-6  # angstrom


def has_estimate(study: Study) -> bool:
    """Whether the error is estimated: always if reference forces are cheap."""
    given = study.qmmm
    return not study.reference.is_total or given.tolerance is not None or given.samples != "auto"


def estimate_fields(
    study: Study,
    of: tuple[Lattice, float],
    found: Coupling,
    energy: ClampedEnergy,
    u_ad: RealArray,
    perfect: ClampedDomain | None,
) -> tuple[Fields, Estimate]:
    """The estimate of ||D(u - u^H)|| at the coupled equilibrium. Collective on ``energy.comm``.

    Parameters
    ----------
    energy : ClampedEnergy
        Whose Hessian stands for the reference's, unless `perfect` is given.
    u_ad : ndarray, shape (n_sites, d)
        The equilibrium, the same on every rank, angstrom.
    perfect : ClampedDomain, optional
        As `CoupledResponse` takes it.
    """
    r, given = found.regions, study.qmmm
    asked_a = r.free_a if given.kind == "energy" else r.free_a & ~r.qm_a  # forces on QM sites are balanced
    number: int | None = None if isinstance(given.samples, str) else given.samples
    if number is None and study.reference.is_total:
        number = _SAMPLES
    u_nd = energy.sites.restrict(u_ad)
    by_distance = isinstance(found.domain, Disc) or given.kind == "energy"  # whose QM sites are not near balance
    strain_a = None if by_distance else _strain(energy, u_ad, study.compare.stencil)
    share_a = importance(r.distance_a, r.radius_a, asked_a, 2 if found.domain.kind == "disc" else 3, strain_a)
    most = None if number is None else _MORE * number
    with (
        timed("error estimate"),
        StencilSpace(energy.supercell, energy.sites, study.compare.stencil) as space,
        CoupledResponse(energy, u_nd, perfect) as response,
    ):
        while True:
            sample = draw_sample(share_a, number, study.run.seed)
            f_nd = np.zeros_like(u_nd)
            if asked_a.any():  # else QM is all that moves
                forces = reference_forces_on(study, of, found, energy.sites, sample.chosen_a)
                f_nd = forces.forces(u_nd)
                if isinstance(forces, SiteLawForces):
                    forces.destroy()
            estimate = estimated(f_nd, sample, energy.sites, space, response)
            n = int(np.count_nonzero(sample.chosen_a))
            logger.info(
                "reference forces on %d of %d sites: geometry error about %.3e A%s",
                n, int(np.count_nonzero(asked_a)), estimate.geometry,
                f", sampling noise {estimate.noise:.1e} A" if estimate.noise else "",
            )  # fmt: skip
            open_ = given.tolerance is not None and estimate.geometry <= given.tolerance and not estimate.is_told
            if not open_ or number is None or most is None or 2 * number > most:
                break
            number *= 2  # its sites are those that were asked, and more
    if not estimate.is_told:
        logger.warning(
            "the error's estimate is less than its sampling noise: the error may be as large as %.1e A or more; raise "
            "[qmmm] samples (now %d)", estimate.upper, number,
        )  # fmt: skip
    return {
        "geometry_error_estimate": Field(estimate.geometry, "A", "of ||D(u - u^H)||, from reference forces"),
        "geometry_error_estimate_noise": Field(estimate.noise, "A", "standard deviation by the draw of sites"),
        "residual_reference": Field(estimate.largest_force, "eV/A", "largest component on the sites that were asked"),
        "n_samples": Field(n, "", "sites whose reference forces were asked for"),
    }, estimate


def _strain(energy: ClampedEnergy, u_ad: RealArray, stencil: Literal["voronoi", "nearest"]) -> RealArray:
    """|Du| of every site, (n_sites,), the largest of the site and its neighbours. Collective on ``energy.comm``."""
    sites = energy.sites
    pairs = nearest_neighbours(energy.supercell, stencil, sites.global_n)
    n_p = np.repeat(np.arange(sites.n_owned), np.diff(pairs.first_n))
    square_n = np.zeros(sites.n_owned)
    np.add.at(square_n, n_p, np.sum((u_ad[pairs.site_p] - u_ad[sites.global_n[n_p]]) ** 2, axis=1))
    own_a = np.sqrt(sites.gather_to_all(square_n[:, None])[:, 0])
    most_n = own_a[sites.global_n]
    np.maximum.at(most_n, n_p, own_a[pairs.site_p])
    return np.asarray(sites.gather_to_all(most_n[:, None])[:, 0])


class Growth:
    """The QM regions that a tolerance led through, and the next one."""

    def __init__(self, tolerance: float, least_step: float) -> None:
        self.tolerance = tolerance
        self._least_step = least_step  # angstrom
        self._seen: list[tuple[float, Estimate, int, float]] = []
        self._by_buffer = 0.0  # angstrom

    def record(self, radius: float, estimate: Estimate, n_qm: int, error: float, by_buffer: float = 0.0) -> None:
        """One coupled equilibrium; `error` is NaN without a truth, `by_buffer` is not in the estimate, angstrom."""
        self._seen.append((radius, estimate, n_qm, error))
        self._by_buffer = by_buffer

    @property
    def met(self) -> bool:
        """Whether the last estimate, noise and the buffer's error added, is below the tolerance and not all noise."""
        estimate = self._seen[-1][1]
        return estimate.upper + self._by_buffer <= self.tolerance and estimate.is_told

    def next_radius(self, largest: float) -> float | None:
        """R_QM that the decay seen so far asks for, at most `largest`, angstrom; None if no larger one helps."""
        radius, estimate, _, _ = self._seen[-1]
        if radius >= largest - _EDGE or self._by_buffer >= self.tolerance:
            return None
        rate = _RATE
        if len(self._seen) > 1:
            before, earlier, _, _ = self._seen[-2]
            seen = np.log(earlier.upper / estimate.upper) / np.log(radius / before)
            rate = float(np.clip(seen, *_RATES))
        left = self.tolerance - self._by_buffer
        wanted = radius * min((estimate.upper / left) ** (1.0 / rate), _GROWTH)
        return min(max(wanted, radius + self._least_step), largest)

    def obstacle(self, study: Study) -> str:
        """Why no larger region was taken, in words."""
        if self._by_buffer >= self.tolerance:
            return (
                f"the surface of QM clusters alone makes an error of {self._by_buffer:.1e} A, whatever R_QM; make "
                f"buffer = {study.qmmm.buffer} wider"
            )
        return f"no larger QM region fits into [simulation] radius = {study.simulation.radius:g}"

    def fields(self) -> Fields:
        """What the result file has of it."""
        radius, estimates, n_qm, error = zip(*self._seen, strict=True)
        history = {
            "radius_angstrom": Field(np.array(radius), "A", "R_QM"),
            "n_qm": Field(np.array(n_qm, dtype=np.int64), "", "sites"),
            "estimate": Field(np.array([e.geometry for e in estimates]), "A", "of the geometry error"),
            "noise": Field(np.array([e.noise for e in estimates]), "A", "of the estimate"),
        }
        if np.isfinite(error).all():
            history["geometry_error"] = Field(np.array(error), "A", "against the truth")
        return {"tolerance_met": Field(self.met), "growth": Field(history)}
