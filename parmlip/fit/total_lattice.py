"""Labels of a law of whole structures on the perfect crystal: its derivatives in a periodic cell, with their errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI

from parmlip.errors import ConfigError, DataError
from parmlip.fit.lattice_observations import CauchyBornDerivative, LatticeObservation
from parmlip.fit.observations import RealArray
from parmlip.fit.patches import Crystal
from parmlip.fit.periodic_observations import PeriodicForceDerivative
from parmlip.fit.total_derivatives import (
    ByDifferences,
    ByResponse,
    CrystalDerivatives,
    Evaluate,
    PerfectCell,
    asked_at_once,
)
from parmlip.io.answers import Structure, ask
from parmlip.io.reference_cache import CachedLaw
from parmlip.parallel.farm import farm
from parmlip.potentials.tight_binding import NRLTightBinding
from parmlip.potentials.tight_binding_contour import ContourTightBinding
from parmlip.potentials.tight_binding_response import Difference, response_law
from parmlip.potentials.total import Evaluated

logger = logging.getLogger(__name__)
Observations = Mapping[str, tuple[LatticeObservation, ...]]


@dataclass(frozen=True, eq=False)
class TotalLabels:
    """Observations by name, and the largest error of each that differences left; the same on every rank."""

    values: dict[str, RealArray]
    errors: dict[str, float]  # before weights, in the unit of the derivative


def periodic_observations(
    names: Sequence[str], crystal: Crystal, repeats: tuple[int, int, int], gamma: float
) -> dict[str, tuple[LatticeObservation, ...]]:
    """The observations that weights name, as `lattice_observations`, of a law that is asked in a periodic cell."""
    found: dict[str, tuple[LatticeObservation, ...]] = {}
    for name in names:
        kind, _, order = name.rpartition("_")
        if kind == "force_derivative":
            found[name] = tuple(
                PeriodicForceDerivative(crystal, int(order), repeats, b, gamma) for b in crystal.inequivalent
            )
        elif kind == "cauchy_born":
            found[name] = (CauchyBornDerivative(crystal, int(order)),)
        else:
            raise ConfigError(f"[fit] observations: {name}: is not offered for laws of whole structures")
    return found


def total_lattice_labels(
    law: CachedLaw,
    observations: Observations,
    crystal: Crystal,
    repeats: tuple[int, int, int],
    *,
    comm: MPI.Comm,
    ranks_per_group: int,
) -> TotalLabels:
    """What the law gives in a supercell of `repeats` conventional cells.

    Collective on ``comm``. Dense tight binding by linear response, the parts spread over the groups; other laws by
    differences, all structures being asked for at once and kept in the cache.

    Raises
    ------
    DataError
        The law fails, has no stress although Cauchy-Born derivatives are asked for, or gives what is not finite.
    """
    tasks = [(name, of, p) for name, of_name in observations.items() for of in of_name for p in range(of.n_parts)]
    perfect = PerfectCell(crystal.lattice, crystal.lattice_constant, repeats, crystal.species)
    inner = law.law
    if isinstance(inner, ContourTightBinding):  # its clusters approximate the crystal of many k points
        inner = inner.law
        logger.info("lattice: of dense tight binding with %d x %d x %d k points", *inner.k_points)
    response = response_law(inner)
    if response is not None:
        by_response, of_unit = ByResponse(perfect, response), in_one_cell(crystal, repeats, response)
        logger.info("lattice: %d parts by linear response in %d sites, those of Cauchy-Born in %d", len(tasks),
                    perfect.cell.n_sites, of_unit.perfect.cell.n_sites)  # fmt: skip

        def respond(i: int) -> Difference:
            _, of, part = tasks[i]
            return observed(of, part, of_unit if isinstance(of, CauchyBornDerivative) else by_response)

        found, _ = farm(
            respond, len(tasks), comm=comm, what="lattice labels", ranks_per_group=ranks_per_group
        )  # fmt: skip
    else:

        def answer(structures: list[Structure]) -> Sequence[Evaluated]:
            logger.info("lattice: %d structures of %d sites by differences", len(structures), perfect.cell.n_sites)
            # The first tells whether the law can do it at all.
            first = ask(law, structures[:1], comm=comm, what="perfect crystal", ranks_per_group=ranks_per_group)
            if first.results[0].virial_cc is None and any(isinstance(of, CauchyBornDerivative) for _, of, _ in tasks):
                raise DataError("[fit] cauchy_born: the law gives no stress, of which Cauchy-Born derivatives are made")
            answers = ask(law, structures, comm=comm, what="lattice labels", ranks_per_group=ranks_per_group)
            for line in answers.table():
                logger.info("    %s", line)
            return answers.results

        def work(evaluate: Evaluate) -> list[Difference]:
            return [observed(of, part, ByDifferences(perfect, evaluate)) for _, of, part in tasks]

        found = asked_at_once(work, answer)
    values, errors = {}, {}
    for name in observations:
        parts = [x for x, task in zip(found, tasks, strict=True) if task[0] == name]
        values[name], errors[name] = np.concatenate([x.values for x in parts]), max(x.error for x in parts)
        if not np.isfinite(values[name]).all():
            raise DataError(f"{name}: the law's derivatives on the perfect crystal are not finite")
        largest = float(np.abs(values[name]).max(initial=0.0))
        logger.info("    %-18s %7d rows, up to %.4g, error of the differences %.1e", name, len(values[name]), largest,
                    errors[name])  # fmt: skip
    return TotalLabels(values, errors)


def in_one_cell(crystal: Crystal, repeats: tuple[int, int, int], law: NRLTightBinding) -> ByResponse:
    """Derivatives by deformations of all cells alike: of one cell, with the k points of all of them. Local.

    The points of a cell of n periods are n times as many of one period, where both meshes hold Gamma (`gamma_centred`,
    odd numbers) or neither does (even ones); meshes of another kind stay with the cell that they were made for.
    """
    (n_x, n_y, n_z), (q_x, q_y, q_z) = repeats, law.k_points
    one, counts, scheme = (1, 1, 1), (n_x * q_x, n_y * q_y, n_z * q_z), law.k_scheme
    if scheme == "monkhorst_pack":
        if all(q % 2 == 1 for q in law.k_points):
            scheme = "gamma_centred"
        elif any(q % 2 == 1 for q in law.k_points):
            one, counts = repeats, law.k_points
    perfect = PerfectCell(crystal.lattice, crystal.lattice_constant, one, crystal.species)
    return ByResponse(perfect, replace(law, k_points=counts, k_scheme=scheme))


def observed(observation: LatticeObservation, part: int, derivatives: CrystalDerivatives) -> Difference:
    """Observations of a part, in the order of its rows."""
    if isinstance(observation, PeriodicForceDerivative):
        return observation.of_total(derivatives, part)
    if not isinstance(observation, CauchyBornDerivative):
        raise TypeError(f"{type(observation).__name__} is not offered for laws of whole structures")
    index, scale_o = observation.components(part)
    if observation.order < 3:
        found = derivatives.density_first() if observation.order == 1 else derivatives.density_second()
        return Difference(found.values[tuple(index.T)] * scale_o, found.error)
    second, place_o = np.unique(index[:, 1], return_inverse=True)
    found = derivatives.density_higher(second.tolist(), index[0, 2:].tolist())
    return Difference(found.values[place_o, index[:, 0]] * scale_o, found.error)
