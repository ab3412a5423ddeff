"""What is fitted: labelled configurations, and the observations that turn them into design rows and values."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.supercell import Supercell
from parmlip.errors import DataError, GeometryError
from parmlip.mechanics.assembly import site_gradient
from parmlip.mechanics.domain import species_indices
from parmlip.potentials.base import Environments, SiteLaw

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Voigt order of strains and virials: xx yy zz yz xz xy.
VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, eq=False)
class Configuration:
    """Sites in a cell. With `reference_positions_ac` its energy is a difference against that state of the same cell.

    Differences alone leave a cell's level open, and with it every formation energy (E_def - N_def / N_hom E_hom needs
    the levels of both cells). So a study has, beside the displaced states of a cell, the unrelaxed cell itself
    *without* a reference: its absolute energy is observed (`sampling.sample` puts it first). This is the loss of the
    papers (E(u) - E(0) in each cell) and one row more for each cell, homogeneous ones included. Configurations of a
    data set have no reference; the data's one-body energies are taken off before.
    """

    cell_cc: RealArray  # (3, 3) rows are the cell vectors, angstrom
    periodic: tuple[bool, bool, bool]
    positions_ac: RealArray  # (n_sites, 3) angstrom
    species: tuple[str, ...]  # (n_sites,) chemical symbols
    dimension: int = 3  # components that move
    name: str = "default"  # configuration type
    reference_positions_ac: RealArray | None = None  # (n_sites, 3) angstrom

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.positions_ac)

    @property
    def reference(self) -> Configuration | None:
        """The state against which the energy is measured; None if the energy is absolute."""
        if self.reference_positions_ac is None:
            return None
        return replace(self, positions_ac=self.reference_positions_ac, reference_positions_ac=None)

    @property
    def key(self) -> bytes:
        """A digest of sites, species and cell, so that what belongs to a shared reference is computed once."""
        digest = hashlib.sha256(repr((self.periodic, self.species, self.dimension)).encode())
        digest.update(np.ascontiguousarray(self.cell_cc).tobytes())
        digest.update(np.ascontiguousarray(self.positions_ac).tobytes())
        return digest.digest()


@dataclass(frozen=True)
class Probes:
    """Along which displacements the Hessian is observed; `hessian_observations.HessianDirections` draws them."""

    kind: str  # "random", "local" or "columns"
    number: int
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Labels:
    """What a reference says about a configuration; what it does not say is None."""

    energy: float | None  # eV; against the reference state if the configuration has one
    forces_ac: RealArray | None = None  # (n_sites, 3) eV / angstrom
    virial_cc: RealArray | None = None  # (3, 3) -dE / d(strain), eV
    weights: Mapping[str, float] = field(
        default_factory=dict
    )  # by observation, multiply squared residuals; 1 if absent
    force_weight_a: RealArray | None = None  # (n_sites,) likewise, 0 leaves a force out; None: all are 1
    # by observation, standard deviation of the noise of the labels (eV, eV / angstrom); what is not named is exact
    sigmas: Mapping[str, float] = field(default_factory=dict)
    probes: Probes | None = None  # directions of the Hessian's labels
    hessian_o: RealArray | None = None  # -H v for each of them, moving components, eV / angstrom^2
    site_values_a: RealArray | None = None  # (n_sites,) of site entropies, k_B
    site_gradients_aac: RealArray | None = None  # (n_sites, n_sites, 3) their derivatives by all sites' positions

    @property
    def observed_a(self) -> NDArray[np.bool_] | slice:
        """Sites whose forces count, as an index of sites."""
        return slice(None) if self.force_weight_a is None else self.force_weight_a > 0.0


def configuration_of(
    supercell: Supercell, name: str, positions_ac: RealArray | None = None, *, difference: bool = True
) -> Configuration:
    """A state of a supercell; its reference lattice if no positions are given (then the energy is absolute)."""
    here = supercell.positions_ac if positions_ac is None else positions_ac
    return Configuration(
        cell_cc=supercell.cell_cc,
        periodic=supercell.periodic,
        positions_ac=here,
        species=tuple(supercell.species[s] for s in supercell.species_a),
        dimension=supercell.dimension,
        name=name,
        reference_positions_ac=supercell.positions_ac if difference and positions_ac is not None else None,
    )


def environments(
    configuration: Configuration, species: tuple[str, ...], cutoff: float
) -> tuple[Environments, IntArray]:
    """Environments of all sites of a configuration, and the neighbour's site number of each pair.

    Parameters
    ----------
    configuration : Configuration
    species : tuple of str
        Species of the law, in its order.
    cutoff : float
        Angstrom.

    Raises
    ------
    ConfigError
        The law has no parameters for a species.
    GeometryError
        Sites coincide or are not finite.
    """
    c = configuration
    symbols = tuple(dict.fromkeys(c.species))
    index = dict(zip(symbols, species_indices(symbols, species), strict=True))
    species_a = np.array([index[symbol] for symbol in c.species], dtype=np.int64)
    pairs = find_pairs(c.cell_cc, c.periodic, c.positions_ac, cutoff)
    r_pc = pair_vectors(pairs, c.cell_cc, c.positions_ac)
    return Environments(pairs.first_n, r_pc, species_a, species_a[pairs.site_p]), pairs.site_p


def site_energies(law: SiteLaw, configuration: Configuration) -> RealArray:
    """Site energies of a configuration, (n_sites,), eV."""
    around, _ = environments(configuration, law.species, law.cutoff)
    return np.asarray(law.site_energies(around))


def label(law: SiteLaw, configuration: Configuration, references: dict[bytes, RealArray] | None = None) -> Labels:
    """Energy, forces and virial of a configuration by an interaction law.

    Parameters
    ----------
    law : SiteLaw
    configuration : Configuration
    references : dict, optional
        Site energies of reference states by their key, filled and used: shared by configurations of one cell.

    Raises
    ------
    GeometryError
        Two sites are closer than the law's range of validity.
    DataError
        The law gives a value that is not finite.
    """
    around, site_p = environments(configuration, law.species, law.cutoff)
    closest = math.sqrt(np.min(np.einsum("pc,pc->p", around.r_pc, around.r_pc), initial=np.inf))
    if closest < law.closest:
        raise GeometryError(
            f"configuration type {configuration.name!r}: two sites are {closest:.4g} A apart; "
            f"the law is valid from {law.closest:.4g} A"
        )
    energy_n, g_pc = law.site_gradients(around)
    gradient_ac = np.zeros((configuration.n_sites, 3))
    site_gradient(around.first_n, site_p, g_pc, gradient_ac)
    reference = configuration.reference
    if reference is not None:
        known = {} if references is None else references
        key = reference.key
        if key not in known:
            known[key] = site_energies(law, reference)
        energy_n = energy_n - known[key]  # site by site: no large sums cancel
    if not (np.isfinite(energy_n).all() and np.isfinite(gradient_ac).all()):
        raise DataError(f"configuration type {configuration.name!r}: the law's energy or forces are not finite")
    return Labels(math.fsum(energy_n), -gradient_ac, -np.asarray(around.r_pc.T @ g_pc, dtype=float))


class LinearBasis(Protocol):
    """Basis of a law that is linear in its coefficients: V_l = sum_k c_k B_k(environment of l)."""

    @property
    def n_basis(self) -> int:
        """Number of basis functions."""

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the species indices."""

    @property
    def cutoff(self) -> float:
        """Angstrom."""

    def site_values(self, environments: Environments) -> RealArray:
        """Basis functions at every centre, (n, n_basis)."""

    def design(
        self, environments: Environments, site_p: IntArray, n_sites: int
    ) -> tuple[RealArray, RealArray, RealArray]:
        """Rows of energy (n_basis,), forces (n_sites, 3, n_basis) and virial (6, n_basis), in Voigt order."""


class Evaluation:
    """What the observations of one configuration share: each part is computed when first asked for."""

    def __init__(
        self,
        basis: LinearBasis,
        configuration: Configuration,
        reference_rows: dict[bytes, RealArray] | None = None,
        probes: Probes | None = None,
    ) -> None:
        self.basis = basis
        self.configuration = configuration
        self.probes = probes
        self._reference_rows = {} if reference_rows is None else reference_rows

    @cached_property
    def design(self) -> tuple[RealArray, RealArray, RealArray]:
        """Rows of absolute energy, forces and virial, as `LinearBasis.design`."""
        around, site_p = environments(self.configuration, self.basis.species, self.basis.cutoff)
        return self.basis.design(around, site_p, self.configuration.n_sites)

    @property
    def reference_energy_k(self) -> RealArray | float:
        """Energy row of the reference state, (n_basis,); 0 if the energy is absolute."""
        reference = self.configuration.reference
        if reference is None:
            return 0.0
        key = reference.key
        if key not in self._reference_rows:
            around, _ = environments(reference, self.basis.species, self.basis.cutoff)
            self._reference_rows[key] = self.basis.site_values(around).sum(axis=0)
        return self._reference_rows[key]


class Observation(Protocol):
    """A quantity that is linear in the coefficients: rows of the basis and values of the reference, in one order."""

    @property
    def name(self) -> str:
        """Key of its weight in the input."""

    def rows(self, evaluation: Evaluation) -> RealArray:
        """Design rows, (n_observations, n_basis)."""

    def values(self, configuration: Configuration, labels: Labels) -> RealArray | None:
        """What the rows should give, (n_observations,); None if there is no such label."""


@dataclass(frozen=True)
class Energy:
    """Total energy of the cell, eV; against the configuration's reference state if it has one."""

    name: str = "energy"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(1, n_basis)."""
        row_k: RealArray = evaluation.design[0] - evaluation.reference_energy_k
        return row_k[None, :]

    def values(self, configuration: Configuration, labels: Labels) -> RealArray | None:
        """(1,) eV."""
        return None if labels.energy is None else np.array([labels.energy])


@dataclass(frozen=True)
class Force:
    """Every force component that moves, eV / angstrom, site by site."""

    name: str = "force"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(n_sites * d, n_basis)."""
        moving = evaluation.design[1][:, : evaluation.configuration.dimension]
        return moving.reshape(-1, evaluation.basis.n_basis)

    def values(self, configuration: Configuration, labels: Labels) -> RealArray | None:
        """(n_sites * d,) eV / angstrom."""
        return None if labels.forces_ac is None else labels.forces_ac[:, : configuration.dimension].reshape(-1)


@dataclass(frozen=True)
class Virial:
    """Components of -dE / d(strain) in the directions that move, eV, in Voigt order."""

    name: str = "virial"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(d (d + 1) / 2, n_basis)."""
        d = evaluation.configuration.dimension
        return evaluation.design[2][[v for v, (a, b) in enumerate(VOIGT) if max(a, b) < d]]

    def values(self, configuration: Configuration, labels: Labels) -> RealArray | None:
        """(d (d + 1) / 2,) eV."""
        if labels.virial_cc is None:
            return None
        symmetric = 0.5 * (labels.virial_cc + labels.virial_cc.T)
        return np.array([symmetric[a, b] for a, b in VOIGT if max(a, b) < configuration.dimension])


# The observations that an input can weigh, by name.
OBSERVATIONS: Final[Mapping[str, Observation]] = {"energy": Energy(), "force": Force(), "virial": Virial()}
