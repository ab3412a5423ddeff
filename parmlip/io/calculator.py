"""Laws as calculators of ASE: `atoms.calc = ParmlipCalculator("W.yace")`. All is local."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray
from scipy.sparse import bsr_matrix, csr_matrix
from scipy.sparse.linalg import LinearOperator

from parmlip.crystal.neighbours import Pairs, find_pairs, pair_vectors
from parmlip.errors import ConfigError, GeometryError
from parmlip.io.atoms import check_structure
from parmlip.io.fitted import fitted_committee, fitted_law
from parmlip.potentials.base import BlockPattern, Environments, SiteLaw
from parmlip.potentials.committee import Committee, root_mean_square

FORMS: Final = ("dense", "sparse", "operator")
STANDARD_DEVIATIONS: Final = ("energy_std", "energies_std", "forces_std")


class ParmlipCalculator(Calculator):  # type: ignore[misc]
    """Energy, forces, stress, site energies and Hessians of a law, for any structure: periodic or not, however small.

    Parameters
    ----------
    law : SiteLaw, Path or str
        A law, or a result file (`.h5`) or potential file (`.yace`) that holds a fitted one.
    point : int, optional
        Point of the result file's sweep.
    committee : Committee, optional
        What the law's standard deviations come from; a result file brings its own. They are made when they are asked
        for: `atoms.calc.get_property("forces_std", atoms)`.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(
        self, law: SiteLaw | Path | str, point: int | None = None, *, committee: Committee | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.committee = committee
        if isinstance(law, (str, Path)):
            self.law: SiteLaw = fitted_law(law, point)
            self.committee = committee or fitted_committee(law, point)
        elif point is not None:
            raise ConfigError(f"point = {point}: only result files have points")
        else:
            self.law = law
        if self.committee is not None:
            self.implemented_properties = [*type(self).implemented_properties, *STANDARD_DEVIATIONS]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results`: energies in eV, forces in eV / angstrom, stress in eV / angstrom^3 (Voigt, ASE's sign).

        If one of `STANDARD_DEVIATIONS` is asked for (and there is a committee), all three of them.

        Raises
        ------
        GeometryError
            Two sites are closer than the law's range of validity, or the structure is not a possible one.
        ConfigError
            The law has no parameters for a species.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        atoms = self.atoms
        if atoms is None:
            raise ConfigError("calculate: no atoms are given")
        pairs, environments = self._environments(atoms)
        energy_a, g_pc = self.law.site_gradients(environments)
        energy = fsum(energy_a)
        if not np.isfinite(energy):
            raise GeometryError("the energy is not finite: the law was evaluated outside its range")
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": energy_a,
            "forces": -_gather(pairs, g_pc, len(energy_a)),
        }
        if atoms.cell.rank == 3:
            stress_cc = environments.r_pc.T @ g_pc / atoms.get_volume()
            self.results["stress"] = (0.5 * (stress_cc + stress_cc.T))[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        if self.committee is not None and set(properties) & set(STANDARD_DEVIATIONS):
            members = list(self.committee.site_gradients(environments))
            force_iac = np.array([_gather(pairs, g_pc, len(energy_a)) for _, g_pc in members])
            energy_ia = np.array([energy_a for energy_a, _ in members])
            scale = self.committee.energy_scale
            self.results["energy_std"] = scale * float(root_mean_square(energy_ia.sum(axis=1)))
            self.results["energies_std"] = scale * root_mean_square(energy_ia)
            self.results["forces_std"] = self.committee.force_scale * root_mean_square(force_iac)

    def get_hessian(self, atoms: Atoms | None = None, form: str = "sparse") -> Any:
        """Second derivatives of the energy, (3 n, 3 n) with x, y, z of an atom together, eV / angstrom^2.

        Parameters
        ----------
        atoms : Atoms, optional
            By default those of the last calculation.
        form : str
            "dense" gives an ndarray, "sparse" a `scipy.sparse.bsr_matrix` of 3 x 3 blocks, "operator" a
            `scipy.sparse.linalg.LinearOperator` that stores pairs alone.
        """
        if form not in FORMS:
            raise ConfigError(f"form = {form!r}: must be one of {', '.join(FORMS)}")
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise ConfigError("get_hessian: no atoms are given")
        pairs, environments = self._environments(atoms)
        n = len(atoms)
        if form == "operator":
            return _operator(self.law, environments, pairs, n)
        pattern = _pattern(pairs, n)
        blocks = self.law.hessian_blocks(environments, pairs.site_p, pattern)
        sparse = bsr_matrix((blocks, pattern.column_b, pattern.first_r), shape=(3 * n, 3 * n))
        return sparse.toarray() if form == "dense" else sparse

    def _environments(self, atoms: Atoms) -> tuple[Pairs, Environments]:
        """Pairs within the cutoff, and what the law needs of them."""
        check_structure(atoms, "atoms")
        symbols = atoms.get_chemical_symbols()
        for symbol in dict.fromkeys(symbols):
            if symbol not in self.law.species:
                has = ", ".join(self.law.species)
                raise ConfigError(f"no parameters for species {symbol!r}: the interaction law has {has}")
        species_a = np.array([self.law.species.index(symbol) for symbol in symbols], np.int64)
        cell_cc = np.array(atoms.cell.complete())  # where nothing is periodic any vectors will do
        x, y, z = (bool(p) for p in atoms.pbc)
        pairs = find_pairs(cell_cc, (x, y, z), atoms.positions, self.law.cutoff)
        r_pc = pair_vectors(pairs, cell_cc, atoms.positions)
        square_p = np.einsum("pc,pc->p", r_pc, r_pc)
        if len(square_p) and square_p.min() < self.law.closest**2:
            p = int(np.argmin(square_p))
            raise GeometryError(
                f"atoms {pairs.centre_p[p]} and {pairs.site_p[p]} are {np.sqrt(square_p[p]):.4f} A apart; "
                f"the law is valid from {self.law.closest:.4f} A"
            )
        return pairs, Environments(pairs.first_n, r_pc, species_a, species_a[pairs.site_p])


def _gather(pairs: Pairs, g_pc: NDArray[np.float64], n_sites: int) -> NDArray[np.float64]:
    """The derivative by positions (n_sites, 3) from that by pair vectors."""
    return np.stack(
        [
            np.bincount(pairs.site_p, weights=g_pc[:, c], minlength=n_sites)
            - np.bincount(pairs.centre_p, weights=g_pc[:, c], minlength=n_sites)
            for c in range(3)
        ],
        axis=1,
    )


def _pattern(pairs: Pairs, n_sites: int) -> BlockPattern:
    """Blocks (a, b) of sites that some environment has both, its centre included."""
    own = np.arange(n_sites)
    rows, columns = np.concatenate([pairs.centre_p, own]), np.concatenate([pairs.site_p, own])
    member = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_sites, n_sites))
    both = (member.T @ member).tocsr()
    both.sort_indices()
    return BlockPattern(both.indptr.astype(np.int64), both.indices.astype(np.int64))


def _operator(law: SiteLaw, environments: Environments, pairs: Pairs, n_sites: int) -> LinearOperator:
    tangent = law.linearised(environments)

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        v_ac = np.asarray(v, float).reshape(n_sites, 3)
        return _gather(pairs, tangent(v_ac[pairs.site_p] - v_ac[pairs.centre_p]), n_sites).ravel()

    size = (3 * n_sites, 3 * n_sites)
    return LinearOperator(size, matvec=product, rmatvec=product, dtype=np.dtype(float))
