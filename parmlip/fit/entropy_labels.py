"""Labels of a law that models the vibrational entropy: formation entropy of small cells, gradients, site entropies.

References
----------
Torabi, Wang, Ortner (2024), eqs. (2.8), (2.12), (4.3), (4.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.fit.dataset import Dataset
from parmlip.fit.observations import Configuration, Labels, configuration_of, environments
from parmlip.mechanics.dense_entropy import LogModes, dense_hessian, embedded, inverse_root, log_modes
from parmlip.mechanics.third_derivatives import HessianTraces
from parmlip.parallel.comm import in_step
from parmlip.parallel.logs import Progress
from parmlip.potentials.base import SiteLaw

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PerfectCell:
    """What the entropies of a cell are measured against: the perfect crystal in the same cell.

    Attributes
    ----------
    h_xx : ndarray, shape (n_grid d, n_grid d)
        H_hom, eV / angstrom^2.
    number_a : ndarray, shape (n_sites,)
        Number on the grid of every site of the (defective) cell, -1 for extra ones.
    dimension : int
    """

    h_xx: FloatArray
    number_a: IntArray
    dimension: int

    @property
    def n_grid(self) -> int:
        """Sites of the perfect cell."""
        return len(self.h_xx) // self.dimension

    @cached_property
    def modes(self) -> LogModes:
        """Of H_hom."""
        return log_modes(self.h_xx, self.dimension, self.dimension)

    @cached_property
    def root_xx(self) -> FloatArray:
        """F of the perfect cell and the extra sites."""
        return inverse_root(self.h_xx, self.dimension, int((self.number_a < 0).sum()))

    def formation(self, total: float) -> float:
        """S_def - (N_def / N_hom) S_hom, k_B."""
        return total - len(self.number_a) / self.n_grid * self.modes.total

    @cached_property
    def site_level_a(self) -> FloatArray:
        """-1/2 [log+ H_hom]_ll at every site of the cell, the mean at extra sites; k_B."""
        of_grid = self.modes.site_values
        return np.where(self.number_a < 0, of_grid.mean(), of_grid[self.number_a])


def perfect_cell(law: SiteLaw, perfect: Supercell, cell: Supercell) -> PerfectCell:
    """The perfect crystal of a law in the cell of `cell`, which has defects. Local.

    Raises
    ------
    ConfigError
        The cell has no lattice.
    DataError
        The perfect crystal is not stable.
    """
    if cell.grid is None:
        raise ConfigError("entropies are against a perfect crystal: [crystal] file has none, write lattice")
    state = configuration_of(perfect, "perfect")
    around, site_p = environments(state, law.species, law.cutoff)
    return PerfectCell(dense_hessian(law, around, site_p, cell.dimension), cell.grid.number_a, cell.dimension)


def entropy_label(
    law: SiteLaw,
    configuration: Configuration,
    perfect: PerfectCell,
    *,
    decomposition: str = "relative",
    sites: bool = False,
    site_gradients: bool = False,
    n_negative: int = 0,
) -> Labels:
    """S_f as energy, -dS/du as forces, and, where asked for, site entropies and their gradients. Local.

    Parameters
    ----------
    decomposition : str
        "relative": -1/2 [log+ F H F]_ll (of existing sites; a vacant site keeps its share); "absolute": -1/2 [log+
        H]_ll against the perfect crystal's, which add up to S_f where there are as many sites as in the perfect cell.
    n_negative : int
        Negative modes that the state may have, as about a saddle: left out.

    Raises
    ------
    DataError
        The state is no minimum along some mode, or loose.
    """
    d = configuration.dimension
    around, site_p = environments(configuration, law.species, law.cutoff)
    h_xx = dense_hessian(law, around, site_p, d)
    modes = log_modes(h_xx, d, d, n_negative=n_negative)
    traces = HessianTraces(law, around, site_p, d)
    forces_ac = np.zeros((configuration.n_sites, 3))
    forces_ac[:, :d] = -traces(modes.total_trace)
    labels = Labels(perfect.formation(modes.total), forces_ac)
    if not (sites or site_gradients):
        return labels
    if decomposition == "absolute":
        of_sites, place_a, level_a = modes, np.arange(configuration.n_sites), perfect.site_level_a
    else:
        full_xx, place_a = embedded(h_xx, perfect.number_a, perfect.n_grid, d)
        n_vacant = len(full_xx) // d - configuration.n_sites
        of_sites = log_modes(full_xx, d, d * (1 + n_vacant), perfect.root_xx, n_negative=n_negative)
        level_a = np.zeros(configuration.n_sites)
    rows = (d * place_a[:, None] + np.arange(d)).ravel()
    gradients = None
    if site_gradients:
        gradients = np.zeros((configuration.n_sites, configuration.n_sites, 3))
        for a, place in enumerate(place_a.tolist()):
            gradients[a, :, :d] = traces(of_sites.site_trace(place)[np.ix_(rows, rows)])
    return Labels(
        labels.energy, forces_ac, site_values_a=of_sites.site_values[place_a] - level_a, site_gradients_aac=gradients
    )


def entropies_labelled(
    law: SiteLaw,
    configurations: Sequence[Configuration],
    perfect: Mapping[str, PerfectCell],
    *,
    comm: MPI.Comm,
    what: str,
    decomposition: str = "relative",
    sites: bool = False,
    site_gradients: bool = False,
    n_negative: Mapping[str, int] = MappingProxyType({}),
) -> Dataset:
    """The configurations with the labels of `entropy_label`; every rank gets all.

    Collective on ``comm``. Rank r does the configurations r, r + size, ..., each by itself: the same labels on any
    number of ranks. `perfect` has the perfect cell of every configuration type, `n_negative` how many negative modes
    the states of a type may have (none where it is not named).
    """
    mine: list[Labels] = []
    share = range(comm.rank, len(configurations), comm.size)
    with in_step(comm, f"making {what}"), Progress(what, len(share), comm=comm) as progress:
        for number in share:
            state = configurations[number]
            try:
                mine.append(
                    entropy_label(
                        law, state, perfect[state.name], decomposition=decomposition, sites=sites,
                        site_gradients=site_gradients, n_negative=n_negative.get(state.name, 0),
                    )
                )  # fmt: skip
            except (ConfigError, DataError, GeometryError) as error:
                raise type(error)(f"configuration {number} (type {state.name!r}): {error}") from error
            progress.step()
    parts = comm.allgather(mine)
    return Dataset(
        tuple(configurations), tuple(parts[i % comm.size][i // comm.size] for i in range(len(configurations)))
    )
