"""What the stage entropy tells of single sites: site entropies, truncated ones, and derivatives."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Study
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import Field
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_gradient import total_entropy_gradient
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.site_entropy import site_entropies, site_entropy_gradient, truncated
from parmlip.mechanics.third_derivatives import ThirdDerivative
from parmlip.parallel.logs import timed

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MOST_GRADIENTS = 300  # sites whose derivatives by all displacements are kept: 3 N numbers each


def chosen_sites(study: Study, n_sites: int) -> IntArray:
    """Global numbers of the sites that [entropy] asks for. Local.

    Raises
    ------
    ConfigError
        One of them does not exist.
    """
    asked = study.entropy.sites
    if isinstance(asked, str):
        return np.arange(n_sites if asked == "all" else 0)
    missing = [site for site in asked if site >= n_sites]
    if missing:
        raise ConfigError(f"[entropy] sites: there is no site {missing[0]}; the cell has {n_sites}, from 0")
    return np.array(asked, dtype=np.int64)


def site_fields(study: Study, energy: Energy, u_nd: FloatArray) -> Fields:
    """Site entropies of the sites asked for, k_B, and derivatives. Collective on ``energy.comm``."""
    asked, sites = study.entropy, energy.sites
    chosen = chosen_sites(study, sites.n_sites)
    if not len(chosen) and not asked.gradients:
        return {}
    method = "ritz" if asked.method == "ritz" else "contour"
    fields: Fields = {}
    with _AtState(energy, u_nd) as relative:
        if len(chosen):
            with timed("entropy: sites"):
                found = site_entropies(
                    relative, chosen, method=method, tolerance=asked.krylov_tolerance, batch=asked.batch
                )
            logger.info("site entropies of %d sites, sum %.6f k_B", len(chosen), found.values.sum())
            fields["sites"] = Field(chosen, about="global numbers of the sites asked for")
            fields["site_entropy"] = Field(found.values, "k_B", "-1/2 trace of [log+ F H F]_ll")
            fields["site_method_difference"] = Field(found.difference, "k_B", "contour against Ritz values, largest")
        if asked.gradients:
            fields |= _gradients(ThirdDerivative(energy, u_nd), relative, chosen, whole=asked.gradients is True)
    if asked.truncation_radius is not None and len(chosen):
        with timed("entropy: truncated sites"):
            cut = _truncated(energy, u_nd, chosen, asked.truncation_radius, method)
        about = "S_l with the displacements beyond truncation_radius set to zero"
        fields["truncated_site_entropy"] = Field(cut, "k_B", about)
    return fields


def _gradients(third: ThirdDerivative, relative: RelativeHessian, chosen: IntArray, *, whole: bool) -> Fields:
    """Derivatives of the total, by all displacements or those of the chosen sites, and of these sites. Collective."""
    sites, fields = third.energy.sites, {}
    with timed("entropy: gradient"):
        total = total_entropy_gradient(relative, third, sites=None if whole else chosen)
    gradient_ad = sites.gather(total.gradient_nd)
    logger.info(
        "gradient of the entropy: %d columns of the inverse Hessian, %d steps", total.n_columns, total.iterations
    )
    if whole:
        fields["gradient"] = Field(gradient_ad, "k_B/A", "dS/du of the cell, global site order")
    else:
        of_chosen = None if gradient_ad is None else gradient_ad[chosen]
        fields["sites_gradient"] = Field(
            of_chosen, "k_B/A", "dS/du of the cell by the displacements of the sites asked for"
        )
    if len(chosen) > _MOST_GRADIENTS:
        logger.info("derivatives of single sites are left out: there are more than %d sites", _MOST_GRADIENTS)
    elif len(chosen):
        with timed("entropy: site gradients"):
            each = [sites.gather(site_entropy_gradient(relative, third, int(s)).gradient_nd) for s in chosen]
        of_sites = np.array(each) if sites.comm.rank == 0 else None
        fields["site_gradients"] = Field(of_sites, "k_B/A", "dS_l/du: site asked for, all sites, components")
    return fields


def _truncated(energy: Energy, u_nd: FloatArray, chosen: IntArray, radius: float, method: str) -> FloatArray:
    """S_l at the displacement cut off at `radius` from site l (eq. 3.3), for every chosen site. Collective."""
    u_ad = energy.sites.gather_to_all(u_nd)
    value_s = np.zeros(len(chosen))
    for i, site in enumerate(chosen):
        cut_nd = energy.sites.restrict(truncated(energy.supercell, u_ad, int(site), radius))
        with _AtState(energy, cut_nd) as relative:
            value_s[i] = site_entropies(relative, np.array([site]), method=method).values[0]
    return value_s


class _AtState:
    """F H F at a displacement, freed at the end. Collective."""

    def __init__(self, energy: Energy, u_nd: FloatArray) -> None:
        self._matrix = hessian.assembled(energy, u_nd)
        self._relative = RelativeHessian(self._matrix, energy.law, energy.supercell, energy.sites)

    def __enter__(self) -> RelativeHessian:
        return self._relative

    def __exit__(self, *_: object) -> None:
        self._relative.destroy()
        self._matrix.destroy()
