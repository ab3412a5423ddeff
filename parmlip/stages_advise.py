"""The stage advise: error budget of the surrogate in the simulation cell, and an input that lowers it."""

from __future__ import annotations

import logging
import math
import tomllib
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.analysis.advice import Budget, Change, Measured, Term, Training, advice, budget
from parmlip.analysis.matching import CellPair
from parmlip.config import Study
from parmlip.config_schema import plain, show, toml_document
from parmlip.construct_controlled import domain_length, stands_for, training_state
from parmlip.crystal.distances import distances_to
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.neighbours import pair_vectors
from parmlip.crystal.norms import stencil_squares
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import Field
from parmlip.io.reference_cache import CachedLaw
from parmlip.io.results import Results
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.stability import Product
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.parallel.comm import on_root
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.stages_match import largest_perfect_cell

logger = logging.getLogger(__name__)

Fields = dict[str, Field]

_PROBE = 1e-3  # angstrom, displacements by which third derivatives are told


def advised(study: Study, results: Results, of: tuple[Lattice, float], comm: MPI.Comm) -> Fields:
    """The budget's terms, told and stored, and the changed input beside the result file. Collective on ``comm``."""
    measured = _measured(study, results, of, comm)
    found = budget(measured)
    training = _training(study, results)
    changes = advice(measured, training, geometry=study.advise.geometry_error, energy=study.advise.energy_error)
    lines = [*_ball_lines(measured.excursion), *_lines(found, study)]
    if changes:
        path = results.path.with_name(f"{study.source.stem}_advised.toml")
        lines += [f"{i + 1}. {change.reason}: {_keys(change)}" for i, change in enumerate(changes)]
        on_root(comm, "writing the changed input", path.write_text, changed_input(study, changes))
        lines.append(f"the changed input: {path}")
    else:
        lines.append("the bounds are below the wanted errors: nothing to change")
    for line in lines:
        logger.info("%s", line)
    fields = {f"{of_what}_{t.name.replace(' ', '_')}": Field(t.value, unit, t.cause)
              for of_what, terms, unit in _parts(found) for t in terms}  # fmt: skip
    return {
        **fields,
        "geometry_bound": Field(Budget.total(found.geometry), "A"),
        "energy_bound": Field(Budget.total(found.energy), "eV"),
        "formation_bound": Field(Budget.total(found.formation), "eV"),
        "ball_excursion": Field(measured.excursion, about="of the equilibrium from u_L over that of training states"),
        "stability_constant": Field(measured.stability, "eV/A^2", "least <H v, v> / ||Dv||^2"),
        "changes": Field([change.reason for change in changes]),
    }


def changed_input(study: Study, changes: list[Change]) -> str:
    """The input with every change's keys; cells are enlarged to whole repeats, at least by one."""
    tables: dict[str, Any] = tomllib.loads(study.text)
    for change in changes:
        for dotted, value in change.keys.items():
            table, *inner = dotted.split(".")
            if table == "training":
                for block in tables["training"]:
                    if inner == ["scale"]:
                        scale = float(str(value))
                        block["cell"] = [max(n + 1, math.ceil(scale * n)) if n > 1 else n for n in block["cell"]]
                    else:
                        block[inner[0]] = value
                continue
            at = tables.setdefault(table, {})
            for name in inner[:-1]:
                if isinstance(at.get(name), str):  # a preset's name: its weights, of which one changes
                    at[name] = plain(study.fit.weights)
                at = at.setdefault(name, {})
            at[inner[-1]] = value
            tables.get("sweep", {}).pop(dotted, None)
    if not tables.get("sweep", True):
        del tables["sweep"]
    return toml_document(tables)


def _measured(study: Study, results: Results, of: tuple[Lattice, float], comm: MPI.Comm) -> Measured:
    cell = construct.supercell(study, study.simulation, of)
    kind = study.compare.stencil
    laws = construct.any_law(study), construct.surrogate_law(results)
    energy = Energy(laws[1], cell, comm=comm)
    u_ad = results.read("relax_surrogate", "displacement")
    u_nd = energy.sites.restrict(u_ad)
    with timed("stability constant"), StencilSpace(cell, energy.sites, kind) as space, Product(energy, u_nd) as product:
        stability, stiffness = space.extremes(product)
    small = min(study.training, key=lambda block: domain_length(block, of))
    length, n_sites = domain_length(small, of), construct.supercell(study, small, of).n_sites
    far_square, far_fourth = 0.0, 0.0
    if study.simulation.defects:
        centres = construct.defect_centres(study, study.simulation, of)
        square_n = stencil_squares(nearest_neighbours(cell, kind, energy.sites.global_n), u_ad)
        far_n = distances_to(cell, centres)[energy.sites.global_n] > 0.5 * length
        far_square, far_fourth = (comm.allreduce(math.fsum(square_n[far_n] ** power)) for power in (1, 2))
    return Measured(
        excursion=_excursion(study, results, of, cell, u_ad, energy.sites.global_n, comm),
        dimension=cell.dimension, n_defects=max(len(study.simulation.defects), 1), length=length, n_sites=n_sites,
        # Of the random states: ascent goes to the corners of a cube that has a dimension for each site, where no
        # equilibrium lies.
        energy=float(results.read("match", "energy_random")),
        force=float(results.read("match", "force_random")),
        force_constants_hom=float(results.read("match", "force_constants_hom_error")),
        cubic=_cubic(study, of, laws, comm),
        stability=stability, stiffness=stiffness, far_square=far_square, far_fourth=far_fourth,
        bulk_energy=float(results.read("train", "bulk_energy") - results.read("reference", "bulk_energy")),
    )  # fmt: skip


def _excursion(
    study: Study, results: Results, of: tuple[Lattice, float], cell: Supercell, u_ad: NDArray[np.float64],
    global_n: NDArray[np.int64], comm: MPI.Comm,
) -> float:  # fmt: skip
    """Largest component of D(u - u_L), over nearest neighbours of sites closer than L/2 to a defect.

    Relative to the largest of training states, twice the half width of their displacements; 0 where it cannot be told.
    """
    if not study.simulation.defects or "centre" not in results.names("label"):
        return 0.0
    try:
        which = stands_for(study)
    except ConfigError as error:
        logger.info("whether the equilibrium is within the training ball cannot be told: %s", error)
        return 0.0
    state = training_state(study, of, [results.read("label", f"centre/{i}") for i in range(len(study.training))])
    half_width = max(study.training[i].rattle.half_width for i in which)
    if half_width == 0.0:
        return math.inf
    pairs = nearest_neighbours(cell, study.compare.stencil, global_n)
    centre_p = pairs.centre_p
    bond_pc = pair_vectors(pairs, cell.cell_cc, cell.positions_ac)
    d = cell.dimension
    off_pd = u_ad[pairs.site_p] - u_ad[centre_p] - state.differences(centre_p, bond_pc)[:, :d]
    largest = float(np.abs(off_pd[state.is_near(centre_p)]).max(initial=0.0))
    return float(comm.allreduce(largest, op=MPI.MAX)) / (2.0 * half_width)


def _cubic(study: Study, of: tuple[Lattice, float], laws: tuple[SiteLaw | CachedLaw, SiteLaw], comm: MPI.Comm) -> float:
    """Error of the perfect crystal's third derivative: change of the Hessian's error over the largest |Du|, eV/A^3.

    By one random displacement. The error of the energy density's third derivative by strain would not do: most of
    that may lie in null Lagrangians, which no force in the interior feels.
    """
    cell = largest_perfect_cell(study, of)
    with CellPair(*laws, cell, study.compare.stencil, comm=comm) as pair:
        u_ad = np.random.default_rng(1).uniform(-_PROBE, _PROBE, (cell.n_sites, cell.dimension))
        u_nd = pair.sites.restrict(u_ad)
        zero_nd = np.zeros_like(u_nd)
        with pair.products(zero_nd) as (a_0, b_0), pair.products(u_nd) as (a_u, b_u):
            change = pair.space.operator_norm(lambda v_nd: (a_u(v_nd) - b_u(v_nd)) - (a_0(v_nd) - b_0(v_nd)))
        square_n = stencil_squares(nearest_neighbours(cell, study.compare.stencil, pair.sites.global_n), u_ad)
        return change / math.sqrt(comm.allreduce(float(square_n.max(initial=0.0)), op=MPI.MAX))


def _training(study: Study, results: Results) -> Training:
    fit, weights = study.fit, study.fit.weights
    overfit = 1.0
    names = results.names("train")
    if {"rmse_force", "test_rmse_force"} <= set(names):
        overfit = float(results.read("train", "test_rmse_force") / max(results.read("train", "rmse_force"), 1e-300))
    degree = study.surrogate.total_degree
    return Training(
        energy_weight=weights.energy, homogeneous=fit.homogeneous,
        force_constants=weights.force_derivative_1 > 0.0 or weights.hessian > 0.0,
        total_degree=degree if isinstance(degree, int) else None,
        samples=max(block.samples for block in study.training), overfit=overfit,
        rattle=max((block.rattle.amplitude, block.rattle.kind) for block in study.training),
    )  # fmt: skip


def _parts(found: Budget) -> list[tuple[str, tuple[Term, ...], str]]:
    return [("geometry", found.geometry, "A"), ("formation", found.formation, "eV")]


def _lines(found: Budget, study: Study) -> list[str]:
    wanted = {"geometry": study.advise.geometry_error, "formation": study.advise.energy_error}
    titles = {"geometry": "geometry error ||D(u - u~)||", "formation": "formation energy"}
    lines = []
    for name, terms, unit in _parts(found):
        total, largest = Budget.total(terms), Budget.largest(terms)
        lines.append(f"{titles[name]}: bound {total:.2e} {unit}, wanted {wanted[name]:.2e}")
        lines += [f"  {t.value:10.2e}  {'<' if t is largest else ' '} {t.name:<16} {t.cause}" for t in terms]
    return lines


def _ball_lines(excursion: float) -> list[str]:
    if excursion == 0.0:
        return []
    if excursion <= 1.0:
        return [f"the equilibrium is within the training ball: {excursion:.2g} of its radius from u_L near the defects"]
    where = f"{excursion:.2g} times its radius from u_L near the defects"
    return [f"the equilibrium is OUTSIDE the training ball, {where}: the bounds below do not hold for it"]


def _keys(change: Change) -> str:
    return ", ".join(f"{key} = {show(value)}" for key, value in change.keys.items()) or "nothing that a key says"
