"""How well a law reproduces labelled configurations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.errors import DataError
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.observations import Virial
from parmlip.potentials.base import SiteLaw

RealArray = NDArray[np.float64]


@dataclass(frozen=True)
class PredictionErrors:
    """Errors of energies (per cell as the loss has them, and per atom), of moving force components and of virials."""

    rmse_energy: float  # eV per cell
    mae_energy: float
    max_energy_error: float
    rmse_energy_per_atom: float  # eV per atom
    mae_energy_per_atom: float
    max_energy_error_per_atom: float
    rmse_force: float  # eV / angstrom per component
    mae_force: float
    max_force_error: float
    rmse_virial_per_atom: float  # eV per atom and component
    mae_virial_per_atom: float
    max_virial_error_per_atom: float
    n_energies: int
    n_forces: int  # components
    n_virials: int  # cells


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels and what a law gives instead, flattened over configurations; the same on every rank."""

    energy_reference_o: RealArray  # (n_energies,) eV per cell, against the reference state where there is one
    energy_o: RealArray
    n_sites_o: NDArray[np.int64]  # (n_energies,) sites of the configuration
    force_reference_o: RealArray  # (n_forces,) moving components, eV / angstrom
    force_o: RealArray
    virial_reference_o: RealArray  # (6 n_virials,) eV per atom, moving components in Voigt order
    virial_o: RealArray
    n_virials: int
    kind_o: tuple[str, ...]  # (n_energies,) configuration types

    @property
    def errors(self) -> PredictionErrors:
        """Root mean squares, means and maxima of the absolute errors; NaN where nothing is labelled."""
        energy = self.energy_o - self.energy_reference_o
        return PredictionErrors(
            *_norms(energy),
            *_norms(energy / self.n_sites_o),
            *_norms(self.force_o - self.force_reference_o),
            *_norms(self.virial_o - self.virial_reference_o),
            n_energies=len(self.energy_o),
            n_forces=len(self.force_o),
            n_virials=self.n_virials,
        )


def predict(law: SiteLaw, dataset: Dataset, kind: str | None = None, *, comm: MPI.Comm) -> Prediction:
    """What `law` gives for the labelled configurations (of type `kind`, or all).

    Collective on ``comm``. Bitwise the same on any number of ranks.
    """
    return compared(dataset, labelled(law, dataset.configurations, comm=comm, what="predictions"), kind)


def compared(dataset: Dataset, predicted: Dataset, kind: str | None = None) -> Prediction:
    """Labels of two sets of the same configurations (of type `kind`, or all) side by side."""
    chosen = [i for i, c in enumerate(dataset.configurations) if kind is None or c.name == kind]
    if not chosen:
        raise DataError("there are no configurations to predict" + ("" if kind is None else f" of type {kind!r}"))
    states = [dataset.configurations[i] for i in chosen]
    truths = [dataset.labels[i] for i in chosen]
    given = [predicted.labels[i] for i in chosen]
    cells = [
        (t.energy, g.energy, c.n_sites) for t, g, c in zip(truths, given, states, strict=True) if t.energy is not None
    ]
    forces = [
        tuple(f_ac[t.observed_a, : c.dimension].reshape(-1) for f_ac in (t.forces_ac, g.forces_ac))
        for t, g, c in zip(truths, given, states, strict=True)
        if t.forces_ac is not None and g.forces_ac is not None
    ]
    virials = [
        tuple(values / c.n_sites for of in (t, g) if (values := Virial().values(c, of)) is not None)
        for t, g, c in zip(truths, given, states, strict=True)
        if t.virial_cc is not None
    ]
    return Prediction(
        energy_reference_o=np.array([t for t, _, _ in cells], dtype=float),
        energy_o=np.array([g for _, g, _ in cells], dtype=float),
        n_sites_o=np.array([n for _, _, n in cells], dtype=np.int64),
        force_reference_o=np.concatenate([t for t, _ in forces]) if forces else np.zeros(0),
        force_o=np.concatenate([g for _, g in forces]) if forces else np.zeros(0),
        virial_reference_o=np.concatenate([t for t, _ in virials]) if virials else np.zeros(0),
        virial_o=np.concatenate([g for _, g in virials]) if virials else np.zeros(0),
        n_virials=len(virials),
        kind_o=tuple(c.name for t, c in zip(truths, states, strict=True) if t.energy is not None),
    )


def errors_by_type(dataset: Dataset, predicted: Dataset) -> dict[str, PredictionErrors]:
    """Errors of every configuration type, in the order of their first appearance."""
    return {kind: compared(dataset, predicted, kind).errors for kind in dataset.types}


def _norms(error_o: RealArray) -> tuple[float, float, float]:
    if not len(error_o):
        return np.nan, np.nan, np.nan
    size = np.abs(error_o)
    return float(np.sqrt(np.mean(size**2))), float(size.mean()), float(size.max())
