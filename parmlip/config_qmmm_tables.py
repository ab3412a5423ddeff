"""The table [qmmm] of the input file, with every default, and its checks. Lengths in angstrom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from parmlip.config_schema import key, show
from parmlip.errors import ConfigError


@dataclass(frozen=True)
class QMMM:
    """[qmmm]: the reference about every defect of a disc or ball, a cheaper MM law elsewhere."""

    kind: str = key("force", choices=("energy", "force"), about="what is mixed")
    radius: float | tuple[float, ...] | None = key(
        None, above=0.0, about="R_QM about every defect or dislocation, angstrom; a list has one for each"
    )
    buffer: Literal["auto"] | float = key(
        "auto", about="R_BUF, angstrom; auto: the cutoff (energy), twice the cutoff (force), cluster_radius "
        "and twice the cutoff (tight binding by clusters), and a margin; laws of whole structures (ase, dense "
        "tight_binding) need a number: twice the law's range, about 10; qmmm.buffer_force tells what is left"
    )  # fmt: skip
    correction: bool = key(True, about="energy: a dead load takes the ghost force off")
    correction_from: float = key(
        0.5, least=0.0, most=1.0, about="energy: part of R_QM within which no load is put (beta of the paper)"
    )
    mm: str = key(
        "surrogate", choices=("surrogate", "law", "reference"),
        about="the MM law: that of [surrogate], that of mm_law, or the reference itself, to test the coupling",
    )  # fmt: skip
    mm_law: dict[str, Any] = field(
        default_factory=dict,
        metadata={"about": 'mm = "law": keys as of [reference], such as { parameters = "W-FS84" }'},
    )
    truth: Literal["auto"] | bool = key(
        "auto", about="errors against the reference everywhere in the same domain: of the stage relax, or, of a law of "
        "whole structures, QM forces on all sites that move; auto: not of such a law"
    )  # fmt: skip
    tolerance: float | None = key(
        None, above=0.0, about="of ||D(u - u^H)||, angstrom: R_QM grows from `radius` until its estimate is below"
    )
    samples: Literal["auto"] | int = key(
        "auto", least=2, about="sites whose reference forces estimate that error; auto: all, or, of a law of whole "
        "structures, 48 if there is a tolerance"
    )  # fmt: skip
    patch_test: bool = key(False, about="forces before relaxation, and the perfect crystal relaxed, scheme by scheme")


def check_far_field(tables: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a coupling in a periodic cell: before its other keys, which are those of another cell."""
    simulation = tables.get("simulation")
    if "qmmm" in tables["run"].stages and simulation is not None and simulation.domain == "periodic":
        raise ConfigError(
            '[run] stages: "qmmm" needs a far field that stands still: [simulation] domain = "disc" or "ball", '
            'not "periodic"'
        )


def check_qmmm(tables: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a coupling that cannot be, where the stage is asked for."""
    if "qmmm" not in tables["run"].stages:
        return
    given, simulation, reference = tables["qmmm"], tables.get("simulation"), tables.get("reference")
    if simulation is not None:
        if not simulation.defects and simulation.dislocations is None:
            raise ConfigError('[run] stages: "qmmm" needs defects or dislocations in [simulation], about which QM is')
        n_cores = len(simulation.defects) or 1
        if isinstance(given.radius, tuple) and len(given.radius) != n_cores:
            raise ConfigError(
                f"[qmmm] radius = {show(given.radius)}: must be a number or a list of {n_cores}, one for each defect"
            )
    if (given.mm == "law") != bool(given.mm_law):
        raise ConfigError('[qmmm] mm_law: is for mm = "law", which needs it; such as { parameters = "W-FS84" }')
    if given.tolerance is not None and isinstance(given.radius, tuple):
        raise ConfigError(f"[qmmm] tolerance: needs one radius to grow, not radius = {show(given.radius)}")
    if reference is not None and reference.is_total:
        where = f"with [reference] kind = {show(reference.kind)}"
        why = ", which has no site energies"
        if reference.kind == "tight_binding":
            why = ": it needs gradients and Hessians of single site energies, which tight binding does not give here"
        if given.kind == "energy":
            raise ConfigError(f'[qmmm] kind = "energy": cannot be done {where}{why}; write kind = "force"')
        if given.mm == "reference":
            raise ConfigError(f'[qmmm] mm = "reference": cannot be done {where}{why}')
        if given.buffer == "auto" and (reference.evaluator != "contour" or reference.cluster_radius is None):
            raise ConfigError(
                f'[qmmm] buffer = "auto": must be a number {where}, which has no cutoff; begin with twice the law\'s '
                "range, about 10 A (qmmm.buffer_force tells what QM forces see of the cluster's surface)"
            )
        if given.patch_test:
            raise ConfigError(
                f"[qmmm] patch_test: cannot be done {where}; the patch test of laws of whole structures, QM forces on "
                "the perfect crystal, is always made (qmmm.buffer_force)"
            )
    elif given.truth and "reference" not in tables["relax"].laws:
        raise ConfigError('[qmmm] truth: needs "reference" in [relax] laws; or write truth = false')
