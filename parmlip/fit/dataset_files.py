"""Data sets from files: structures as configurations with labels, checked, counted and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from mpi4py import MPI

from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import DataError, GeometryError
from parmlip.fit.dataset import Dataset
from parmlip.fit.observations import Configuration, Labels, RealArray
from parmlip.fit.one_body import without_one_body
from parmlip.io.extxyz import LabelledStructure
from parmlip.parallel.comm import in_step

_REACH: Final = 6.0  # angstrom; atoms without a neighbour within it are free
_SIZE_POWER: Final = {"none": 0, "sqrt": 1, "atom": 2}


@dataclass(frozen=True)
class Counts:
    """What the structures of one configuration type say."""

    configurations: int
    atoms: int
    energies: int
    forces: int  # atoms with a force
    virials: int


def counts_by_type(structures: Sequence[LabelledStructure]) -> dict[str, Counts]:
    """Counts of every configuration type, in the order of their first appearance."""
    counted = {}
    for kind in dict.fromkeys(s.kind for s in structures):
        of = [s for s in structures if s.kind == kind]
        counted[kind] = Counts(
            configurations=len(of),
            atoms=sum(s.n_sites for s in of),
            energies=sum(s.energy is not None for s in of),
            forces=sum(_n_forces(s) for s in of),
            virials=sum(s.virial_cc is not None for s in of),
        )
    return counted


def counts_table(counts: Mapping[str, Mapping[str, Counts]]) -> list[str]:
    """Lines of text: counts by set ("training", "test") and configuration type."""
    head = ("set", "type", "configurations", "atoms", "energies", "forces on", "virials")
    rows = [[*head]]
    for name, by_type in counts.items():
        rows += [[name, kind, *map(str, asdict(found).values())] for kind, found in by_type.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    forms = [f"{{:{'<' if i < 2 else '>'}{width}}}" for i, width in enumerate(widths)]
    return ["  ".join(forms).format(*row) for row in rows]


def species_of(training: Sequence[LabelledStructure], test: Sequence[LabelledStructure]) -> tuple[str, ...]:
    """All species of the training structures, sorted.

    Raises
    ------
    DataError
        A test structure has a species that no training structure has.
    """
    species = tuple(sorted({symbol for s in training for symbol in s.species}))
    for s in test:
        unknown = sorted(set(s.species) - set(species))
        if unknown:
            known = ", ".join(species)
            raise DataError(f"{s.where}: {', '.join(unknown)} is in no training structure; they have {known}")
    return species


def dataset_of(
    structures: Sequence[LabelledStructure],
    one_body: Mapping[str, float],
    size: str,
    noise: Mapping[str, float] | None = None,
) -> Dataset:
    """Configurations with labels, the one-body energies taken off.

    Parameters
    ----------
    structures : sequence of LabelledStructure
    one_body : energies by species, eV
    size : "none", "sqrt" or "atom"
        Squared residuals of energies and virials are divided by 1, n_sites or n_sites^2; those of labels with a
        standard deviation by its square instead.
    noise : mapping, optional
        Standard deviation by observation (energies and virials an atom) of labels that do not tell theirs; no weight.
    """
    configurations, labels = [], []
    for s in structures:
        configurations.append(Configuration(s.cell_cc, s.periodic, s.positions_ac, s.species, name=s.kind))
        scale = {name: 1.0 if name == "force" else float(s.n_sites) ** -_SIZE_POWER[size] for name in s.weights}
        scale |= {name: sigma**-2 for name, sigma in s.sigmas.items()}
        weights = {name: weight * scale[name] for name, weight in s.weights.items()}
        energy = without_one_body(s, one_body)
        size_of = {name: 1 if name == "force" else s.n_sites for name in s.weights}
        sigmas = {name: sigma * size_of[name] for name, sigma in (noise or {}).items() if sigma > 0.0}
        sigmas |= s.sigmas
        labels.append(Labels(energy, s.forces_ac, s.virial_cc, weights, s.force_weight_a, sigmas))
    return Dataset(tuple(configurations), tuple(labels))


def nearest_distance(structures: Sequence[LabelledStructure], closest: float, *, comm: MPI.Comm) -> float | None:
    """Median over all atoms of the distance to the nearest neighbour, angstrom; None if all atoms are free.

    Collective on ``comm``. Rank r looks at the structures r, r + size, ...; the same on any number of ranks.

    Raises
    ------
    GeometryError
        Two atoms are closer than `closest`; the message names file and number.
    """
    mine = []
    with in_step(comm, "looking for atoms that collide"):
        for s in structures[comm.rank :: comm.size]:
            nearest_a = _nearest(s)
            if nearest_a.min(initial=np.inf) < closest:
                raise GeometryError(
                    f"{s.where}: atom {int(nearest_a.argmin())} is {nearest_a.min():.4g} A from its neighbour, "
                    f"less than [dataset] closest = {closest:g}"
                )
            mine.append(nearest_a[np.isfinite(nearest_a)])
    distances = np.concatenate([part for parts in comm.allgather(mine) for part in parts] or [np.zeros(0)])
    return float(np.median(distances)) if len(distances) else None


def _nearest(s: LabelledStructure) -> RealArray:
    """Distance of every atom to its nearest neighbour within reach, infinite without one, angstrom."""
    try:
        pairs = find_pairs(s.cell_cc, s.periodic, s.positions_ac, _REACH)
    except GeometryError as error:
        raise GeometryError(f"{s.where}: {error}") from error
    r_pc = pair_vectors(pairs, s.cell_cc, s.positions_ac)
    nearest_a = np.full(s.n_sites, np.inf)
    centre_p = np.repeat(np.arange(s.n_sites), np.diff(pairs.first_n))
    np.minimum.at(nearest_a, centre_p, np.sqrt(np.einsum("pc,pc->p", r_pc, r_pc)))
    return nearest_a


def _n_forces(s: LabelledStructure) -> int:
    if s.forces_ac is None:
        return 0
    return s.n_sites if s.force_weight_a is None else int(np.count_nonzero(s.force_weight_a))
