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
from parmlip.mechanics.site_entropy import (
    SiteEntropies,
    absolute_site_entropies,
    site_entropies,
    site_entropy_gradient,
    truncated,
)
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
    fields: Fields = {}
    with _AtState(energy, u_nd) as relative:
        if len(chosen):
            with timed("entropy: sites"):
                found = _site_entropies(study, relative, chosen)
            logger.info("site entropies of %d sites, sum %.6f k_B, at most %d steps", len(chosen), found.values.sum(),
                        found.steps)  # fmt: skip
            fields["sites"] = Field(chosen, about="global numbers of the sites asked for")
            of = "F H F" if asked.decomposition == "relative" else "H"
            fields["site_entropy"] = Field(found.values, "k_B", f"-1/2 trace of [log+ {of}]_ll")
            fields["site_steps"] = Field(found.steps, about="Lanczos steps of the slowest vector")
            if asked.decomposition == "relative":
                fields["site_method_difference"] = Field(
                    found.difference, "k_B", "contour against Ritz values, largest"
                )
        if asked.gradients:
            fields |= _gradients(ThirdDerivative(energy, u_nd), relative, chosen, whole=asked.gradients is True)
    if asked.truncation_radius is not None and len(chosen):
        with timed("entropy: truncated sites"):
            cut = _truncated(study, energy, u_nd, chosen)
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


def _site_entropies(study: Study, relative: RelativeHessian, chosen: IntArray) -> SiteEntropies:
    """By the decomposition that the input wants. Collective."""
    asked = study.entropy
    if asked.decomposition == "absolute":
        return absolute_site_entropies(relative, chosen, tolerance=asked.krylov_tolerance, batch=asked.batch)
    method = "ritz" if asked.method == "ritz" else "contour"
    return site_entropies(relative, chosen, method=method, tolerance=asked.krylov_tolerance, batch=asked.batch)


def _truncated(study: Study, energy: Energy, u_nd: FloatArray, chosen: IntArray) -> FloatArray:
    """S_l at the displacement cut off at `truncation_radius` from site l (eq. 3.3), of all chosen. Collective."""
    u_ad = energy.sites.gather_to_all(u_nd)
    value_s, radius = np.zeros(len(chosen)), float(study.entropy.truncation_radius or 0.0)
    for i, site in enumerate(chosen):
        cut_nd = energy.sites.restrict(truncated(energy.supercell, u_ad, int(site), radius))
        with _AtState(energy, cut_nd) as relative:
            value_s[i] = _site_entropies(study, relative, np.array([site])).values[0]
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
