"""What an input asks for, before it is done: sites, memory, size of the fit."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study, Surrogate, Training
from parmlip.config_fit_tables import LATTICE_NAMES
from parmlip.construct_loops import is_loop
from parmlip.construct_qmmm import cluster_warnings, coupling, radius_warnings
from parmlip.crystal.lattices import Lattice
from parmlip.estimate_loops import loop_lines
from parmlip.fit.dataset_files import counts_by_type, counts_table, nearest_distance, species_of
from parmlip.fit.lattice_design import Observations
from parmlip.fit.lattice_observations import lattice_observations
from parmlip.fit.patches import Crystal as PerfectCrystal
from parmlip.fit.total_lattice import periodic_observations
from parmlip.io.reference_cache import CachedLaw
from parmlip.mechanics.energy import MARGIN
from parmlip.mechanics.memory import bytes_per_site, krylov_bytes_per_site, pairs_per_site
from parmlip.numerics.regression import solver_memory
from parmlip.potentials.external import AseLaw
from parmlip.stages_rates import moves

Crystal = tuple[Lattice, float]


def estimate(study: Study, n_ranks: int) -> list[str]:
    """What the input asks for: sites, memory, size of the fit. Local; nothing large is allocated."""
    lines = []
    if "dataset" in study.tables:
        training, test, keys = construct.labelled_structures(study)
        counts = {"training": counts_by_type(training), **({"test": counts_by_type(test)} if test else {})}
        lines += [f"data set: {keys}", *counts_table(counts)]
        nearest = nearest_distance(training + test, study.dataset.closest, comm=MPI.COMM_SELF)
        for point in study.points() or (None,):
            of_point = study if point is None else point.study
            n_basis = construct.ace_basis(of_point.surrogate, species_of(training, test), None, nearest).n_basis
            lines.append(f"fit: {n_basis} functions, {_memory_told(of_point, n_basis)}")
        lines = [*dict.fromkeys(lines)]
    if "reference" not in study.tables:
        return lines
    law = construct.any_law(study)
    if isinstance(law, CachedLaw) and isinstance(law.law, AseLaw):
        law.law.connect()
    of = construct.lattice(study, law) if study.crystal.lattice is not None else None
    lines += [] if of is None else [f"lattice constant {of[1]:.8f} A"]
    if "simulation" in study.tables and is_loop(study.simulation) and of is not None:
        of_law = _ranged(study) if isinstance(law, CachedLaw) else law
        lines += loop_lines(study, of_law, of, n_ranks)
    elif "simulation" in study.tables:
        cell = construct.supercell(study, study.simulation, of)
        lines.append(f"simulation cell: {cell.n_sites} sites")
        if "rates" in study.run.stages and of is not None:
            for move in moves(study, cell, of):
                way = float(np.linalg.norm(move.step_c))
                lines.append(f"jump {move.name}: site {move.site} goes {way:.4f} A")
        if "qmmm" in study.run.stages and of is not None:
            lines += _regions(study, of)
        for assembled, form in ((False, "matrix-free Hessian"), (True, "assembled Hessian")):
            if isinstance(law, CachedLaw):
                break
            each = bytes_per_site(law, cell, MARGIN, assembled=assembled)
            total = each * cell.n_sites / n_ranks
            lines.append(
                f"reference, {form}: {each / 1e3:.1f} kB a site, {total / 1e6:.0f} MB on each of {n_ranks} ranks, "
                f"{pairs_per_site(cell, law.cutoff + MARGIN):.0f} pairs a site"
            )
        if "surrogate" in study.relax.laws and study.surrogate.kind == "ace":
            each = bytes_per_site(_ranged(study), cell, MARGIN, assembled=False)
            lines.append(
                f"surrogate, matrix-free Hessian: {each / 1e3:.1f} kB a site, "
                f"{each * cell.n_sites / n_ranks / 1e6:.0f} MB on each of {n_ranks} ranks, "
                f"{pairs_per_site(cell, study.surrogate.reach + MARGIN):.0f} pairs a site"
            )
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        of_law = _ranged(study) if isinstance(law, CachedLaw) else law
        needed = bytes_per_site(of_law, cell, MARGIN, assembled=study.relax.hessian == "assembled") * cell.n_sites
        if needed > memory:
            lines.append(
                f"WARNING: the relaxation needs {needed / 1e9:.0f} GB in all; this machine has {memory / 1e9:.0f} GB"
            )
        if "entropy" in study.run.stages and cell.grid is not None:
            each = krylov_bytes_per_site(cell, study.entropy.batch)
            lines.append(
                f"entropy, {study.entropy.batch} vectors at a time: {each / 1e3:.1f} kB a site beside the Hessian, "
                f"{each * cell.n_sites / n_ranks / 1e6:.0f} MB on each of {n_ranks} ranks"
            )
    if "training" in study.tables and study.surrogate.kind == "ace":
        of_lattice: dict[tuple[tuple[str, ...], float], int] = {}  # symmetry takes its time, points have the same
        fits: list[str] = []
        radius = 0.0  # of the longest basis: labels are made once for all
        if not isinstance(law, CachedLaw):
            reaches = [s.surrogate.reach for s in (study, *(point.study for point in study.points()))]
            radius = max(law.cutoff, *reaches) * (1.0 + 1e-9)
        for point in study.points() or (None,):
            of_point = study if point is None else point.study
            n_basis = construct.ace_basis(of_point.surrogate, construct.species_of_tables(of_point), of).n_basis
            rows = _rows_of_cells(of_point, of)
            names = tuple(name for name in of_point.fit.observed if name in LATTICE_NAMES)
            if names and of is not None:
                key = names, of_point.fit.decay
                if key not in of_lattice:
                    of_lattice[key] = _rows_of_lattice(of_point, names, radius, of)
                rows += of_lattice[key]
            fits.append(f"fit: {rows} rows, {n_basis} functions, {_memory_told(of_point, n_basis)}")
        lines += dict.fromkeys(fits)  # points that differ in other tables have one
        if study.reference.is_total:
            lines.append(_calls(study))
    return lines


def _memory_told(study: Study, n_basis: int) -> str:
    """What the run says of the solver, and of each block of rows that it reduces: a type of configurations, a name."""
    needed = solver_memory(n_basis, study.fit.solver, study.fit.committee > 0)
    each = 8e-6 * (n_basis + 1) ** 2
    return f"{study.fit.solver}: at most {needed / 1e6:.0f} MB on rank 0, beside {each:.1f} MB for each factor"


def _calls(study: Study) -> str:
    """How often a law of whole structures is asked for labels; how often by relaxations is not known before."""
    unrattled = int(study.surrogate.target == "energy")
    n = study.fit.homogeneous + sum(t.samples + t.test_samples + unrattled for t in study.training)
    return (
        f"labels: {n} structures are asked of the reference, beside those of relaxations and of the perfect crystal's "
        "derivatives, which the log counts"
    )


def _regions(study: Study, of: Crystal) -> list[str]:
    """Sites of the regions of a QM/MM coupling at each point of the sweep."""
    lines = []
    for one in [point.study for point in study.points()] or [study]:
        regions = coupling(one, of).regions
        counts = ", ".join(f"{n} {name}" for name, n in regions.counts().items())
        lines.append(f"{one.qmmm.kind} mixing, R_QM {regions.radius_a.max():g} A: {counts}")
    return [*dict.fromkeys(lines), *(f"WARNING: {line}" for line in cluster_warnings(study) + radius_warnings(study))]


def _rows_of_cells(study: Study, of: Crystal | None) -> int:
    """Rows of energies, forces, virials and Hessians of all training configurations."""
    d, observed, rows = study.crystal.dimensions, study.fit.observed, 0
    unrattled = int(study.surrogate.target == "energy")  # beside the samples
    cells = [(construct.supercell(study, t, of).n_sites, t.samples + unrattled, _vectors(t, d)) for t in study.training]
    if of is not None and study.fit.homogeneous:
        perfect = construct.perfect_supercell(study, study.training[0], of)
        cells.append((perfect.n_sites, study.fit.homogeneous, 0))
    for size, n, vectors in cells:
        of_one = {
            "energy": 1, "force": d * size, "virial": d * (d + 1) // 2, "hessian": vectors * d * size,
            "site_entropy": size, "site_entropy_gradient": d * size**2,
        }  # fmt: skip
        rows += n * sum(of_one.get(name, 0) for name in observed)
    return rows


def _vectors(table: Training, d: int) -> int:
    """Vectors along which the Hessian of a cell is observed; cells have more sites than are asked for."""
    return table.hessian.number * (d if table.hessian.kind == "columns" else 1)


def _rows_of_lattice(study: Study, names: tuple[str, ...], radius: float, of: Crystal) -> int:
    """Rows of the perfect crystal."""
    crystal, decay = PerfectCrystal(*of, study.crystal.species), study.fit.decay
    asked: Observations
    if study.reference.is_total:
        asked = periodic_observations(names, crystal, construct.affordable_repeats(study), decay)
    else:
        asked = lattice_observations(names, crystal, radius, decay)
    return sum(one.n_rows(part) for each in asked.values() for one in each for part in range(one.n_parts))


def _ranged(study: Study) -> Surrogate:
    """The surrogate with the cutoff of its longest functions."""
    return replace(study.surrogate, cutoff=study.surrogate.reach)
