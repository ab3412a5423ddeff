"""What an input asks for, before it is done: sites, memory, size of the fit."""

from __future__ import annotations

import os
from dataclasses import replace

from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study, Surrogate
from parmlip.fit.dataset_files import counts_by_type, counts_table, nearest_distance, species_of
from parmlip.io.reference_cache import CachedLaw
from parmlip.mechanics.energy import MARGIN
from parmlip.mechanics.memory import bytes_per_site, pairs_per_site
from parmlip.potentials.external import AseLaw


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
            lines.append(f"fit: {n_basis} functions, {8e-6 * n_basis**2:.1f} MB for each factor")
    if "reference" not in study.tables:
        return lines
    law = construct.any_law(study)
    if isinstance(law, CachedLaw) and isinstance(law.law, AseLaw):
        law.law.connect()
    of = construct.lattice(study, law) if study.crystal.lattice is not None else None
    lines += [] if of is None else [f"lattice constant {of[1]:.8f} A"]
    if "simulation" in study.tables:
        cell = construct.supercell(study, study.simulation, of)
        lines.append(f"simulation cell: {cell.n_sites} sites")
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
    if "training" in study.tables and study.surrogate.kind == "ace":
        sizes = [construct.supercell(study, t, of).n_sites for t in study.training]
        samples = [t.samples + 1 for t in study.training]
        if of is not None:
            sizes.append(construct.perfect_supercell(study, study.training[0], of).n_sites)
            samples.append(study.fit.homogeneous)
        d, weights = study.crystal.dimensions, study.fit.weights
        rows = sum(
            n * ((weights.energy > 0.0) + (weights.force > 0.0) * d * size + (weights.virial > 0.0) * d * (d + 1) // 2)
            for n, size in zip(samples, sizes, strict=True)
        )
        for point in study.points() or (None,):
            of_point = study if point is None else point.study
            n_basis = construct.ace_basis(of_point.surrogate, construct.species_of_tables(of_point), of).n_basis
            lines.append(f"fit: {rows} rows, {n_basis} functions, {8e-6 * n_basis**2:.1f} MB for each factor")
    return lines


def _ranged(study: Study) -> Surrogate:
    """The surrogate with the cutoff of its longest functions."""
    return replace(study.surrogate, cutoff=study.surrogate.reach)
