"""Energy of a displaced supercell by a law of total energies, and the lattice constant of such a law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConfigError, ConvergenceError, GeometryError
from parmlip.mechanics.bulk import nearest_distance
from parmlip.mechanics.domain import partitioned
from parmlip.parallel.farm import on_root_alone
from parmlip.potentials.total import Evaluated, TotalLaw

RealArray = NDArray[np.float64]
_STEP: Final = 0.03  # of the logarithm of the lattice constant, on the way to the minimum
_REACH: Final = 0.5  # of the same, how far the minimum may be from the sum of covalent radii


class TotalEnergy:
    """The energy of a law on a supercell as a function of the displacements of the owned sites: see `Energy`.

    Rank 0 asks the law, the others sleep meanwhile: the law is not parallel, and a program that it starts is to have
    the cores. Hence this is for cells that one process (or one program) can do.

    Collective on ``comm``, as are all methods. Displacements and forces are (n_owned, d).
    """

    def __init__(self, law: TotalLaw, supercell: Supercell, *, comm: MPI.Comm) -> None:
        self.law = law
        self.supercell = supercell
        self.comm = comm
        self.dimension = supercell.dimension
        self.sites = partitioned(supercell, comm=comm)
        self.noise = 0.0  # eV, below which differences of energies are rounding
        self._symbols = tuple(supercell.species[s] for s in supercell.species_a)
        self._last: tuple[RealArray, Evaluated] | None = None
        self._reference: float | None = None

    def evaluated(self, u_nd: RealArray) -> Evaluated:
        """What the law says about the displaced cell, the same on every rank.

        Raises
        ------
        GeometryError
            A displacement is not finite, or sites are closer than the law allows.
        DataError
            The law fails.
        """
        u_ad = self.sites.gather_to_all(u_nd)
        if not np.isfinite(u_ad).all():
            raise GeometryError("a displacement is not finite (NaN or infinite)")
        if self._last is None or not np.array_equal(self._last[0], u_ad):
            positions_ac = self.supercell.positions_ac.copy()
            positions_ac[:, : self.dimension] += u_ad
            cell = self.supercell
            state = (cell.cell_cc, cell.periodic, positions_ac, self._symbols)
            found = on_root_alone(self.comm, "evaluating the law", self.law.evaluate, *state)
            self._last = (u_ad, found)
        return self._last[1]

    def total(self, u_nd: RealArray) -> float:
        """Energy of the whole cell, eV."""
        return self.evaluated(u_nd).energy

    def difference(self, u_nd: RealArray) -> float:
        """E(u) - E(0), eV; its rounding is that of the totals (`noise`)."""
        if self._reference is None:
            self._reference = self.evaluated(np.zeros_like(u_nd)).energy
            self.noise = 1e-12 * abs(self._reference)
        return self.evaluated(u_nd).energy - self._reference

    def difference_and_forces(self, u_nd: RealArray) -> tuple[float, RealArray]:
        """E(u) - E(0), eV, and the forces on the owned sites, eV / angstrom.

        The mean force, which a law's rounding or grid may leave, is taken off where the cell repeats along every
        direction that moves: translations cost no energy.
        """
        difference = self.difference(u_nd)
        f_ad = self.evaluated(u_nd).forces_ac[:, : self.dimension]
        if all(self.supercell.periodic[: self.dimension]):
            f_ad = f_ad - f_ad.mean(axis=0)
        return difference, self.sites.restrict(f_ad)

    def virial(self, u_nd: RealArray) -> RealArray | None:
        """-dE / d(strain), (3, 3), eV; None if the law has none."""
        return self.evaluated(u_nd).virial_cc


def perfect_energy(
    law: TotalLaw, lattice: Lattice, lattice_constant: float, repeats: Sequence[int], species: Sequence[str]
) -> tuple[Evaluated, Supercell]:
    """What the law says about a perfect supercell, and that cell. Local."""
    cell = build_supercell(lattice, lattice_constant, repeats, species)
    symbols = tuple(cell.species[s] for s in cell.species_a)
    return law.evaluate(cell.cell_cc, cell.periodic, cell.positions_ac, symbols), cell


def relaxed_constant(law: TotalLaw, lattice: Lattice, repeats: Sequence[int], species: Sequence[str]) -> float:
    """The lattice constant of least energy in a supercell of `repeats` conventional cells, angstrom. Local.

    From where nearest neighbours touch (covalent radii) downhill until the minimum is passed, then Brent's method on
    the trace of the virial (to 1e-10 relative) or, where the law has none, on the energy (to about 1e-6). A supercell,
    because laws with k points depend on it: it should be the one in which the law is used.

    Raises
    ------
    ConvergenceError
        No minimum within a factor exp(+-0.5) of that start.
    ConfigError
        hcp, which has two constants.
    """
    if lattice.name == "hcp":
        raise ConfigError(
            '[crystal] lattice_constant = "relax": with this [reference] only lattices of one constant are relaxed; '
            "give lattice_constant and c_over_a"
        )
    d = lattice.dimension
    radius = float(np.mean([covalent_radii[atomic_numbers[symbol]] for symbol in species]))
    start = float(np.log(2.0 * radius / nearest_distance(lattice)))
    found: dict[float, tuple[float, float | None]] = {}

    def at(log_a: float) -> tuple[float, float | None]:
        """Energy and dE / d log a."""
        if log_a not in found:
            result, _ = perfect_energy(law, lattice, float(np.exp(log_a)), repeats, species)
            pull = None if result.virial_cc is None else -float(np.trace(result.virial_cc[:d, :d]))
            found[log_a] = (result.energy, pull)
        return found[log_a]

    way = 1.0 if at(start + _STEP)[0] < at(start)[0] else -1.0
    here, ahead = (start, start + _STEP) if way > 0 else (start + _STEP, start)
    while at(ahead)[0] < at(here)[0]:
        here, ahead = ahead, ahead + way * _STEP
        if abs(ahead - start) > _REACH:
            raise ConvergenceError(
                f"{lattice.name} {' '.join(species)}: no energy minimum between lattice constants "
                f"{np.exp(min(start, here)):.4f} and {np.exp(max(start, here)):.4f} A; give [crystal] lattice_constant"
            )
    low, high = sorted((here - way * _STEP, ahead))
    ends = at(low)[1], at(high)[1]
    if ends[0] is not None and ends[1] is not None and ends[0] < 0.0 < ends[1]:
        return float(np.exp(brentq(lambda x: at(x)[1], low, high, xtol=1e-10, rtol=1e-10)))
    best = minimize_scalar(lambda x: at(x)[0], bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))
