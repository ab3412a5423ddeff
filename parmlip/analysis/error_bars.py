"""Error bars of an equilibrium: a committee carried through the relaxation to first order."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.crystal.neighbours import Pairs
from parmlip.crystal.norms import stencil_square
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.response import Response
from parmlip.parallel.comm import in_step
from parmlip.potentials.committee import Committee, root_mean_square

RealArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ErrorBars:
    """Deviations of every member, calibrated, and their root mean squares: the standard deviations."""

    energy_i: RealArray  # (n,) of E(u) - E(0), eV
    formation_i: RealArray | None  # (n,) of the formation energy against each member's own perfect crystal, eV
    geometry_i: RealArray  # (n,) ||D du||, angstrom
    displacement_a: RealArray  # (n_sites,) standard deviation of each site's displacement, angstrom

    @property
    def energy(self) -> float:
        """Standard deviation of E(u) - E(0), eV."""
        return float(root_mean_square(self.energy_i))

    @property
    def formation(self) -> float | None:
        """Standard deviation of the formation energy, eV."""
        return None if self.formation_i is None else float(root_mean_square(self.formation_i))

    @property
    def geometry(self) -> float:
        """Standard deviation of the geometry in the stencil norm, angstrom."""
        return float(root_mean_square(self.geometry_i))


def error_bars(
    energy: Energy,
    u_nd: RealArray,
    committee: Committee,
    green: BulkGreen | None,
    pairs: Pairs,
    perfect: UnitCell | None = None,
    *,
    tolerance: float = 1e-8,
) -> ErrorBars:
    """What the members of a committee make of an equilibrium, to first order in their deviations.

    With v a member minus the law, du = H^-1 (-grad v(u)) moves the equilibrium, and its energy changes by v at fixed u:
    what the move adds is of second order. One evaluation and one linear solve for each member.

    Collective on ``energy.comm``.

    Parameters
    ----------
    energy : Energy
    u_nd : ndarray, shape (n_owned, d)
        Its equilibrium, angstrom.
    committee : Committee
    green : BulkGreen, optional
        Preconditioner of the solves.
    pairs : Pairs
        Nearest neighbours of this rank's share of sites on the reference lattice, for the stencil norm.
    perfect : UnitCell, optional
        The fitted law's perfect crystal, if formation energies are wanted.

    Raises
    ------
    ConvergenceError
        A solve did not converge: the state is no minimum.
    """
    comm = energy.comm
    zero = np.zeros_like(u_nd)
    around = energy.environments(zero)
    with in_step(comm, "energies of the committee"):
        before_in = [law.site_energies(around) for law in committee.laws]
    around = energy.environments(u_nd)
    energies, formations, forces = [], [], []
    for law, before_n in zip(committee.laws, before_in, strict=True):
        with in_step(comm, "forces of the committee"):
            energy_n, g_pc = law.site_gradients(around)
        forces.append(-energy.gradient_from_pairs(g_pc))
        energies.append(_total(energy_n - before_n, comm))
        if perfect is not None:
            formations.append(_total(energy_n - law.site_energies(perfect.environments).mean(), comm))
    geometry, square_a = [], np.zeros(energy.sites.n_sites)
    with Response(energy, u_nd, green, tolerance=tolerance) as response:
        for f_nd in forces:
            du_ad = energy.sites.gather_to_all(response(f_nd))
            geometry.append(math.sqrt(comm.allreduce(stencil_square(pairs, du_ad))))
            square_a += np.sum(du_ad**2, axis=1)
    return ErrorBars(
        energy_i=committee.energy_scale * np.array(energies),
        formation_i=committee.energy_scale * np.array(formations) if perfect is not None else None,
        geometry_i=committee.force_scale * np.array(geometry),
        displacement_a=committee.force_scale * np.sqrt(square_a / len(committee)),
    )


def first(committee: Committee, n: int) -> Committee:
    """The first n members."""
    return replace(committee, laws=committee.laws[:n])


def _total(value_n: RealArray, comm: MPI.Comm) -> float:
    return float(comm.allreduce(math.fsum(value_n)))
