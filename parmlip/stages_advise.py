"""The stage advise: error budget of the surrogate in the simulation cell, and an input that lowers it."""

from __future__ import annotations

import logging
import math
import tomllib
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.analysis.advice import Budget, Change, Measured, Term, Training, advice, budget
from parmlip.analysis.matching import CellPair
from parmlip.config import Study
from parmlip.config_schema import show, toml_document
from parmlip.crystal.distances import distances_to
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConvergenceError, DataError
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.extremes import RitzValues, ritz_values
from parmlip.mechanics.stability import Product
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.parallel.comm import on_root
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
Kind = Literal["voronoi", "nearest"]

_PROBE = 1e-3  # angstrom, displacements by which third derivatives are told


def advised(study: Study, results: Results, of: tuple[Lattice, float], comm: MPI.Comm) -> Fields:
    """The budget's terms, told and stored, and the changed input beside the result file. Collective on ``comm``."""
    measured = _measured(study, results, of, comm)
    found = budget(measured)
    training = _training(study, results)
    changes = advice(measured, training, geometry=study.advise.geometry_error, energy=study.advise.energy_error)
    lines = _lines(found, study)
    if changes:
        path = results.path.with_name(f"{study.source.stem}_advised.toml")
        lines += [f"{i + 1}. {change.reason}: {_keys(change)}" for i, change in enumerate(changes)]
        on_root(comm, "writing the changed input", path.write_text, changed_input(study.text, changes))
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
        "stability_constant": Field(measured.stability, "eV/A^2", "least <H v, v> / ||Dv||^2"),
        "changes": Field([change.reason for change in changes]),
    }


def changed_input(text: str, changes: list[Change]) -> str:
    """The input with every change's keys; cells are enlarged to whole repeats, at least by one."""
    tables: dict[str, Any] = tomllib.loads(text)
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
                if not isinstance(at.get(name, {}), dict):
                    at[name] = {}  # the name of a preset, which single weights replace
                at = at.setdefault(name, {})
            at[inner[-1]] = value
            tables.get("sweep", {}).pop(dotted, None)
    if not tables.get("sweep", True):
        del tables["sweep"]
    return toml_document(tables)


def _measured(study: Study, results: Results, of: tuple[Lattice, float], comm: MPI.Comm) -> Measured:
    cell = construct.supercell(study, study.simulation, of)
    kind: Kind = "voronoi" if study.compare.neighbours == "voronoi" else "nearest"
    laws = construct.reference_law(study), construct.surrogate_law(results)
    energy = Energy(laws[1], cell, comm=comm)
    u_ad = results.read("relax_surrogate", "displacement")
    with timed("stability constant"):
        stability, stiffness = _extremes(energy, energy.sites.restrict(u_ad), kind)
    small = min((construct.supercell(study, block, of) for block in study.training), key=lambda c: c.n_sites)
    length = float(np.linalg.norm(small.cell_cc[np.array(small.periodic)], axis=1).min())
    far_square, far_fourth = 0.0, 0.0
    if study.simulation.defects:
        centres = construct.defect_centres(study, study.simulation, of)
        square_n = _stencil_squares(cell, kind, energy.sites.global_n, u_ad)
        far_n = distances_to(cell, centres)[energy.sites.global_n] > 0.5 * length
        far_square, far_fourth = (comm.allreduce(math.fsum(square_n[far_n] ** power)) for power in (1, 2))
    return Measured(
        dimension=cell.dimension, n_defects=max(len(study.simulation.defects), 1), length=length, n_sites=small.n_sites,
        # Of the random states: ascent goes to the corners of a cube that has a dimension for each site, where no
        # equilibrium lies.
        energy=float(results.read("match", "energy_random")),
        force=float(results.read("match", "force_random")),
        force_constants_hom=float(results.read("match", "force_constants_hom_error")),
        cubic=_cubic(study, of, kind, laws, comm),
        stability=stability, stiffness=stiffness, far_square=far_square, far_fourth=far_fourth,
        bulk_energy=float(results.read("train", "bulk_energy") - results.read("reference", "bulk_energy")),
    )  # fmt: skip


def _extremes(energy: Energy, u_nd: NDArray[np.float64], kind: Kind) -> tuple[float, float]:
    """Least and largest <H v, v> / ||Dv||^2, to 2 and 1 %. Collective."""

    def done(found: RitzValues) -> bool:
        least, largest = found.values[0], found.values[-1]
        return bool(found.residual_lowest <= 0.02 * abs(least) and found.residual_highest <= 0.01 * abs(largest))

    with StencilSpace(energy.supercell, energy.sites, kind) as space, Product(energy, u_nd) as product:
        found = ritz_values(product, space.inverse, done, energy.sites, energy.dimension, max_steps=300, seed=1)
    if not done(found):
        raise ConvergenceError(f"stability constant {found.values[0]:.3g} eV/A^2: no convergence in 300 Lanczos steps")
    if not found.values[0] > 0.0:
        raise DataError(f"advise: the surrogate's equilibrium is not stable (constant {found.values[0]:.3g} eV/A^2)")
    return float(found.values[0]), float(found.values[-1])


def _stencil_squares(
    cell: Supercell, kind: Kind, centre_n: NDArray[np.intp], u_ad: NDArray[np.float64]
) -> NDArray[np.float64]:
    """|Du|^2 of some sites, angstrom^2."""
    pairs = nearest_neighbours(cell, kind, centre_n)
    square_p: NDArray[np.float64] = np.sum((u_ad[pairs.site_p] - u_ad[pairs.centre_p]) ** 2, axis=1)
    n, numbers = len(centre_n), np.repeat(np.arange(len(centre_n)), np.diff(pairs.first_n))
    return np.bincount(numbers, square_p, n).astype(np.float64)


def _cubic(study: Study, of: tuple[Lattice, float], kind: Kind, laws: tuple[SiteLaw, SiteLaw], comm: MPI.Comm) -> float:
    """Error of the perfect crystal's third derivative: change of the Hessian's error over the largest |Du|, eV/A^3.

    By one random displacement. The error of the energy density's third derivative by strain would not do: most of
    that may lie in null Lagrangians, which no force in the interior feels.
    """
    repeats = max((block.repeats for block in study.training), key=lambda r: int(np.prod(r)))
    cell = build_supercell(*of, repeats, study.crystal.species)
    with CellPair(*laws, cell, kind, comm=comm) as pair:
        u_ad = np.random.default_rng(1).uniform(-_PROBE, _PROBE, (cell.n_sites, cell.dimension))
        u_nd = pair.sites.restrict(u_ad)
        zero_nd = np.zeros_like(u_nd)
        with (
            Product(pair.reference, zero_nd) as a_0, Product(pair.surrogate, zero_nd) as b_0,
            Product(pair.reference, u_nd) as a_u, Product(pair.surrogate, u_nd) as b_u,
        ):  # fmt: skip
            change = pair.space.operator_norm(lambda v_nd: (a_u(v_nd) - b_u(v_nd)) - (a_0(v_nd) - b_0(v_nd)))
        square_n = _stencil_squares(cell, kind, pair.sites.global_n, u_ad)
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


def _keys(change: Change) -> str:
    return ", ".join(f"{key} = {show(value)}" for key, value in change.keys.items()) or "nothing that a key says"
