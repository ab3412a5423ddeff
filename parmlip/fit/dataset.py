"""Labelled configurations: made by a law over the ranks, kept in results files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI

from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.fit.hessian_observations import of_probes
from parmlip.fit.observations import Configuration, Labels, Probes, label
from parmlip.parallel.comm import in_step
from parmlip.parallel.logs import Progress
from parmlip.potentials.base import SiteLaw


@dataclass(frozen=True, eq=False)
class Dataset:
    """Configurations and what a reference says about them; the same on every rank."""

    configurations: tuple[Configuration, ...]
    labels: tuple[Labels, ...]

    def __post_init__(self) -> None:
        if len(self.configurations) != len(self.labels):
            raise DataError(f"{len(self.configurations)} configurations have {len(self.labels)} labels")
        for number, (c, of) in enumerate(zip(self.configurations, self.labels, strict=True)):
            if of.forces_ac is not None and of.forces_ac.shape != c.positions_ac.shape:
                raise DataError(f"configuration {number}: {len(of.forces_ac)} forces for {c.n_sites} sites")
            if of.force_weight_a is not None and of.force_weight_a.shape != (c.n_sites,):
                raise DataError(f"configuration {number}: {len(of.force_weight_a)} weights for {c.n_sites} sites")

    def __len__(self) -> int:
        return len(self.configurations)

    @property
    def types(self) -> tuple[str, ...]:
        """Configuration types in the order of their first appearance."""
        return tuple(dict.fromkeys(c.name for c in self.configurations))

    def packed(self) -> dict[str, Any]:
        """All of it as arrays and lists of strings, for a results file; zeros stand where there is no label."""
        cs = self.configurations
        references = {c.reference.key: c.reference.positions_ac for c in cs if c.reference is not None}
        order = {key: number for number, key in enumerate(references)}
        weight_names = sorted({name for of in self.labels for name in of.weights})
        sigma_names = sorted({name for of in self.labels for name in of.sigmas})
        return {
            "names": [c.name for c in cs],
            "species": [symbol for c in cs for symbol in c.species],
            "n_sites": np.array([c.n_sites for c in cs], dtype=np.int64),
            "dimension": np.array([c.dimension for c in cs], dtype=np.int64),
            "cell": np.array([c.cell_cc for c in cs]).reshape(-1, 3, 3),
            "periodic": np.array([c.periodic for c in cs], dtype=bool).reshape(-1, 3),
            "positions": _stacked([c.positions_ac for c in cs]),
            "reference": np.array([-1 if c.reference is None else order[c.reference.key] for c in cs], dtype=np.int64),
            "reference_positions": _stacked(list(references.values())),
            "has_energy": np.array([of.energy is not None for of in self.labels], dtype=bool),
            "has_forces": np.array([of.forces_ac is not None for of in self.labels], dtype=bool),
            "has_virial": np.array([of.virial_cc is not None for of in self.labels], dtype=bool),
            "energy": np.array([0.0 if of.energy is None else of.energy for of in self.labels]),
            "forces": _stacked([np.zeros((c.n_sites, 3)) if of.forces_ac is None else of.forces_ac
                                for c, of in zip(cs, self.labels, strict=True)]),
            "virial": np.array([np.zeros((3, 3)) if of.virial_cc is None else of.virial_cc
                                for of in self.labels]).reshape(-1, 3, 3),
            "force_weights": np.concatenate([
                np.ones(c.n_sites) if of.force_weight_a is None else of.force_weight_a
                for c, of in zip(cs, self.labels, strict=True)]) if cs else np.zeros(0),
            "sigma_names": sigma_names,
            "sigmas": np.array([[of.sigmas.get(name, 0.0) for name in sigma_names] for of in self.labels]),
            "weight_names": weight_names,
            "weights": np.array([[of.weights.get(name, 1.0) for name in weight_names] for of in self.labels]),
            **_packed_hessians(self.labels),
            **_packed_sites(self.labels),
        }  # fmt: skip

    @classmethod
    def unpacked(cls, arrays: Mapping[str, Any]) -> Dataset:
        """What `packed` gave."""
        n_sites = np.asarray(arrays["n_sites"])
        first = np.concatenate([[0], np.cumsum(n_sites)]).astype(int)
        configurations, labels = [], []
        reference_at: dict[int, tuple[int, int]] = {}  # references are stored in the order of their first use
        end = 0
        hessians, of_sites = _unpacked_hessians(arrays), _unpacked_sites(arrays)
        for i, n in enumerate(n_sites):
            number = int(arrays["reference"][i])
            if number >= 0 and number not in reference_at:
                reference_at[number] = (end, end + int(n))
                end += int(n)
            sites = slice(first[i], first[i + 1])
            configurations.append(
                Configuration(
                    cell_cc=arrays["cell"][i],
                    periodic=tuple(bool(p) for p in arrays["periodic"][i]),  # type: ignore[arg-type]
                    positions_ac=arrays["positions"][sites],
                    species=tuple(arrays["species"][sites]),
                    dimension=int(arrays["dimension"][i]),
                    name=arrays["names"][i],
                    reference_positions_ac=(
                        None if number < 0 else arrays["reference_positions"][slice(*reference_at[number])]
                    ),
                )
            )
            weight_a = arrays["force_weights"][sites]
            labels.append(
                Labels(
                    energy=float(arrays["energy"][i]) if arrays["has_energy"][i] else None,
                    forces_ac=arrays["forces"][sites] if arrays["has_forces"][i] else None,
                    virial_cc=arrays["virial"][i] if arrays["has_virial"][i] else None,
                    weights=dict(zip(arrays["weight_names"], arrays["weights"][i].tolist(), strict=True)),
                    force_weight_a=None if (weight_a == 1.0).all() else weight_a,
                    sigmas=_named(arrays, "sigma", i),
                    **hessians.get(i, {}),
                    **of_sites.get(i, {}),
                )
            )
        return cls(tuple(configurations), tuple(labels))


def labelled(
    law: SiteLaw,
    configurations: Sequence[Configuration],
    *,
    comm: MPI.Comm,
    what: str = "labels",
    probes: Mapping[str, Probes] | None = None,
) -> Dataset:
    """The configurations with energies, forces and virials by a law; every rank gets all.

    Collective on ``comm``. Rank r evaluates the configurations r, r + size, ...; each by itself, so that the labels are
    bitwise the same on any number of ranks. Configurations of the types in `probes` also get the Hessian along these.
    """
    mine: list[Labels] = []
    references: dict[bytes, Any] = {}
    share = range(comm.rank, len(configurations), comm.size)
    with in_step(comm, f"making {what}"), Progress(what, len(share), comm=comm) as progress:
        for number in share:
            configuration = configurations[number]
            try:
                mine.append(label(law, configuration, references))
                along = (probes or {}).get(configuration.name)
                if along is not None:
                    change_o = of_probes(along).values(law, configuration)
                    mine[-1] = replace(mine[-1], probes=along, hessian_o=change_o)
            except (ConfigError, DataError, GeometryError) as error:
                raise type(error)(f"configuration {number}: {error}") from error
            progress.step()
    parts = comm.allgather(mine)
    return Dataset(
        tuple(configurations), tuple(parts[i % comm.size][i // comm.size] for i in range(len(configurations)))
    )


def _named(arrays: Mapping[str, Any], what: str, i: int) -> dict[str, float]:
    """Row i of named numbers; files of earlier versions may not have them."""
    if f"{what}_names" not in arrays:
        return {}
    return dict(zip(arrays[f"{what}_names"], arrays[f"{what}s"][i].tolist(), strict=True))


def _packed_hessians(labels: Sequence[Labels]) -> dict[str, Any]:
    """What there is of Hessians, by the number of the configuration."""
    of = [(i, x.probes, x.hessian_o) for i, x in enumerate(labels) if x.probes is not None and x.hessian_o is not None]
    if not of:
        return {}
    return {
        "hessian_configurations": np.array([i for i, _, _ in of], dtype=np.int64),
        "hessian_kinds": [probes.kind for _, probes, _ in of],
        "hessian_numbers": np.array([[probes.number, probes.seed] for _, probes, _ in of], dtype=np.int64),
        "hessian_lengths": np.array([len(values_o) for _, _, values_o in of], dtype=np.int64),
        "hessian_values": np.concatenate([values_o for _, _, values_o in of]),
    }


def _unpacked_hessians(arrays: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    if "hessian_configurations" not in arrays:
        return {}
    values = np.split(arrays["hessian_values"], np.cumsum(arrays["hessian_lengths"])[:-1])
    return {
        int(i): {"probes": Probes(kind, int(n), int(seed)), "hessian_o": values_o}
        for i, kind, (n, seed), values_o in zip(
            arrays["hessian_configurations"], arrays["hessian_kinds"], arrays["hessian_numbers"], values, strict=True
        )
    }


def _packed_sites(labels: Sequence[Labels]) -> dict[str, Any]:
    """Site values and their gradients, by the number of the configuration."""
    packed: dict[str, Any] = {}
    for name, of in (
        ("site_values", {i: x.site_values_a for i, x in enumerate(labels) if x.site_values_a is not None}),
        ("site_gradients", {i: x.site_gradients_aac for i, x in enumerate(labels) if x.site_gradients_aac is not None}),
    ):
        if of:
            packed[f"{name}_of"] = np.array(list(of), dtype=np.int64)
            packed[name] = np.concatenate([values.reshape(-1) for values in of.values()])
    return packed


def _unpacked_sites(arrays: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    n_sites = np.asarray(arrays["n_sites"])
    for name, key, shape in (
        ("site_values", "site_values_a", lambda n: (n,)),
        ("site_gradients", "site_gradients_aac", lambda n: (n, n, 3)),
    ):
        first = 0
        for i in arrays.get(f"{name}_of", ()):
            size = int(np.prod(shape(int(n_sites[i]))))
            values = np.asarray(arrays[name][first : first + size]).reshape(shape(int(n_sites[i])))
            found.setdefault(int(i), {})[key] = values
            first += size
    return found


def _stacked(arrays: list[Any]) -> Any:
    return np.concatenate(arrays) if arrays else np.zeros((0, 3))
