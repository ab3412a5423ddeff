"""What the perfect crystal of the MM law is worth, told before anything is solved with it."""

from __future__ import annotations

import logging
from typing import Final

from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.config_schema import show
from parmlip.construct_qmmm import given_law
from parmlip.crystal.lattices import Lattice
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.lattice_waves import stiffness
from parmlip.parallel.farm import on_root_alone

logger = logging.getLogger(__name__)

Fields = dict[str, Field]

_COARSE: Final = 0.3  # of force constants that are so wrong, relative, a fit is told to be too coarse
_UNSTABLE: Final = 1e-9  # of the largest stiffness: less is rounding


def mm_fields(study: Study, results: Results, of: tuple[Lattice, float], comm: MPI.Comm) -> Fields:
    """Stiffness of the MM law's crystal against its waves, by the reference's where it has site energies.

    Collective on ``comm``. Nothing for expansions of the reference, whose errors are given, and the reference itself.
    """
    given = study.qmmm
    fitted = given.mm == "surrogate" and study.surrogate.kind == "ace"
    if not fitted and given.mm != "law":
        return {}
    law = construct.surrogate_law(results) if fitted else given_law(study)
    reference = None if study.reference.is_total else construct.reference_law(study)
    found = on_root_alone(comm, "waves of the MM law", stiffness, law, reference, *of, study.crystal.species)
    of_what = "the reference's" if found.relative else "its largest"
    if found.relative:
        logger.info(
            "stiffness of the MM law's crystal against waves, by the reference's: lowest %.4g, highest %.4g",
            found.low, found.high,
        )  # fmt: skip
    else:
        logger.info(
            "stiffness of the MM law's crystal: the softest wave has %.3g times that of the stiffest (long waves are "
            "soft; only below 0 it is not stable)", found.low / found.high,
        )  # fmt: skip
    help_of = "[qmmm] mm_law: take another law"
    if fitted:
        help_of = f"raise [surrogate] total_degree (now {show(study.surrogate.total_degree)})"
        if not {"force_derivative_1", "site_energy_2"} & set(study.fit.observed):
            preset = "energy_mixing_K2" if given.kind == "energy" else "force_mixing_K1"
            help_of = f'fit the crystal too, such as by [fit] weights = "{preset}", or {help_of}'
    if found.low < -_UNSTABLE:
        logger.warning(
            "the MM law's perfect crystal is not stable: its stiffness against one wave is %.3g of %s, and a coupled "
            "equilibrium is hardly to be found; %s", found.low, of_what, help_of,
        )  # fmt: skip
    elif fitted and found.relative and found.error > _COARSE:
        logger.warning(
            "the fit is coarse: its force constants are wrong by up to %.0f %% (stiffness against waves %.3g to %.3g "
            "of the reference's), and the errors of the coupling will be the fit's; %s",
            100.0 * found.error, found.low, found.high, help_of,
        )  # fmt: skip
    about = f"least stiffness of the MM law's crystal against a wave, of {of_what}"
    return {
        "mm_stiffness_low": Field(found.low, "", about),
        "mm_stiffness_high": Field(found.high, "", "largest"),
    }
