"""What this program computes for each section of the project's table of laws: a leaf's name -> our value.

A section is computed once, from the inputs that the table gives beside the values.
"""

import hashlib
from dataclasses import replace
from functools import cache
from math import pi
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from mpi4py import MPI
from scipy.constants import atomic_mass, elementary_charge

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES, ORTHORHOMBIC
from parmlip.crystal.supercell import build_supercell, supercell_from_arrays
from parmlip.mechanics.bulk import UnitCell, bulk_properties
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.hessian import assembled
from parmlip.mechanics.relax import relax
from parmlip.potentials import bond_order, stillinger_weber
from parmlip.potentials.eam import builtin
from parmlip.potentials.eam_files import read_setfl
from parmlip.units import GPA_PER_EV_A3
from tests.potentials.eam_cells import FCC, Cell, crystal, potential_file, write_setfl
from tests.potentials.oracle_leaves import LEAVES
from tests.potentials.silicon_cells import ACCURATE

PEER_STRAIN = 2e-4  # see test_oracles_elastic
ZERO_MODE = 1e-8  # eV / angstrom^2; eigenvalues of translations are far below, the lowest others above 0.1


def given(section, *names):
    """Leaves of a section, which are what is computed from."""
    return [LEAVES[f"{section}/{name}"] for name in names]


@cache
def law_named(name):
    """The law that the table calls so. Files are read as LAMMPS reads them, which gave the values."""
    built_in = {"W_EAM4": "W-EAM4", "W_Zhou": "W-Zhou", "Cu_Mishin2001": "Cu-Mishin2001"}
    if name in built_in:
        return builtin(built_in[name])
    silicon = {"Si_SW": "Si-SW", "Si_SW_eps2.1675": "Si-SW-2.1675"}
    if name in silicon:
        return stillinger_weber.builtin(silicon[name])
    return bond_order.builtin("Si-PPM2017", "lammps") if name == "Si_PPM2017" else file_law(name, "lammps")


def file_law(name, interpolation):
    """The law of a published table of nickel and aluminium, which must be the very file; skips where it is not."""
    names = {"NiAl_AngeloMoodyBaskes1995": "NiAlH_jea.eam.alloy", "NiAl_Mishin2002": "NiAl_Mishin2002.eam.alloy"}
    try:
        path = potential_file(names[name])
    except pytest.skip.Exception as skipped:
        raise pytest.skip.Exception(f"{skipped.msg}; it is {LEAVES[f'potentials/{name}/source']}") from None
    assert hashlib.sha256(path.read_bytes()).hexdigest() == LEAVES[f"potentials/{name}/file_sha256"]
    return read_setfl(path, interpolation)


@cache
def splined_copper():
    """Copper as matscipy has it: cubic splines through the points of the published table, which the formulas give."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        ends = {"rho_end": 10000 * 0.00016401626143851118, "r_end": 10000 * 0.00089991000899910004}
        write_setfl(path, builtin("Cu-Mishin2001"), False, n_rho=10001, n_r=10001, **ends)
        return read_setfl(path, "cubic")


def lattice_of(name):
    """Lattice and species of a law's crystal."""
    if name.startswith("NiAl"):
        return LATTICES["b2"], ("Ni", "Al")
    symbol = name.split("_")[0]
    return LATTICES[{"W": "bcc", "Cu": "fcc", "Si": "diamond"}[symbol]], (symbol,)


def stiffness_by_differences(law, lattice, a, species, strain):
    """C11, C12, C44 by central differences of the Cauchy stress, GPa (basis sites follow the strain)."""
    cell = CauchyBorn(law, lattice, a, species)

    def stress(strain_cc):
        f_cc = np.eye(3) + strain_cc
        environments = cell.environments.with_vectors(cell.environments.r_pc @ f_cc.T)
        sums = environments.r_pc.T @ law.site_gradients(environments)[1]
        return sums / (cell.volume * np.linalg.det(f_cc))

    stretch, shear = np.zeros((2, 3, 3))
    stretch[0, 0] = strain
    shear[1, 2] = shear[2, 1] = 0.5 * strain
    by_stretch, by_shear = (stress(way) - stress(-way) for way in (stretch, shear))
    return GPA_PER_EV_A3 * np.array([by_stretch[0, 0], by_stretch[1, 1], by_shear[1, 2]]) / (2 * strain)


def cubic(vv):
    """C11, C12, C44 (or C66) of a stiffness matrix."""
    shear = {3: 2, 6: 3}[len(vv)]
    return vv[[0, 0, shear], [0, 1, shear]]


@cache
def crystal_values(section):
    """potentials/<name>: the perfect crystal."""
    name = section.split("/")[1]
    law, (lattice, species) = law_named(name), lattice_of(name)
    bulk = bulk_properties(law, lattice, species)
    (a,) = given(section, "lattice_constant_A")
    cell = UnitCell(law, lattice, a, species)
    ours = {
        "lattice_constant_A": bulk.lattice_constant,
        "energy_per_atom_eV": bulk.energy_per_site,
        "pressure_residual_eV_A3": np.trace(cell.strain_gradient()) / (3 * cell.volume),
    }
    if name.startswith("Si"):
        constants = {"clamped": cubic(bulk.clamped_vv) * GPA_PER_EV_A3, "relaxed": cubic(bulk.relaxed_gpa)}
    else:
        constants = {"relaxed": stiffness_by_differences(law, lattice, a, species, PEER_STRAIN)}
    for kind, values in constants.items():
        ours.update({f"C_GPa_{kind}/{c}": value for c, value in zip(("C11", "C12", "C44"), values, strict=True)})
    return ours


@cache
def rattled_values(section):
    """potentials/<name>/rattled/0: a small rattled cell."""
    law = law_named(section.split("/")[1])
    cell_cc, positions, symbols = given(section, "cell", "positions", "symbols")
    symbols = len(positions) * [symbols] if isinstance(symbols, str) else symbols
    species_a = np.array([law.species.index(symbol) for symbol in symbols])
    cell = Cell(law, np.array(cell_cc), np.array(positions), species_a)
    return {
        "energy_eV": cell.energy(),
        "forces_eV_A": -cell.gradient(),
        "virial_eV": cell.virial(),
        "stress_eV_A3": -cell.virial() / np.linalg.det(cell.cell_cc),
    }


def vacancy_energy(law, lattice, a, repeats, species):
    """Energies of a perfect supercell and of the same without the site at the origin."""
    perfect = build_supercell(lattice, a, repeats, species)
    without = apply_defects(perfect, [Vacancy(at=lattice.dimension * (0,))])
    return [Energy(law, supercell, comm=MPI.COMM_SELF) for supercell in (perfect, without)]


def still(energy):
    """No displacement."""
    return np.zeros((energy.sites.n_owned, energy.dimension))


@cache
def vacancy_values(section):
    """potentials/<name>/vacancy/<symbol>: a vacancy in 4 x 4 x 4 conventional cells at the table's lattice constant."""
    name = section.split("/")[1]
    law, (lattice, species) = law_named(name), lattice_of(name)
    (a,) = given(f"potentials/{name}", "lattice_constant_A")
    perfect, energy = vacancy_energy(law, lattice, a, (4, 4, 4), species)
    e_perfect, n = perfect.total(still(perfect)), perfect.sites.n_sites
    before = energy.total(still(energy))
    rest = relax(energy, still(energy), ACCURATE)
    rattled = 0.02 * np.random.default_rng(11).normal(size=(n - 1, 3))
    again = energy.total(relax(energy, rattled, ACCURATE).u_nd)
    after = energy.total(rest.u_nd)
    length = 4 * a
    r_ac = (energy.supercell.positions_ac + 0.5 * length) % length - 0.5 * length
    distance_a = np.linalg.norm(r_ac, axis=1)
    nearest = np.argsort(distance_a)[:8]  # of diamond's, four are in the second shell
    return {
        "natoms_perfect": n,
        "E_perfect": e_perfect,
        "E_vac_unrelaxed": before,
        "E_vac_relaxed_symmetric": after,
        "E_vac_relaxed_after_rattle_0p02A_seed11": again,
        "Ef_unrelaxed_eV": before - e_perfect * (n - 1) / n,
        "Ef_relaxed_eV": after - e_perfect * (n - 1) / n,
        "Ef_relaxed_broken_symmetry_eV": again - e_perfect * (n - 1) / n,
        "fmax": rest.max_force,
        "nearest_shell_distance_A": distance_a.min(),
        "nearest_shell_radial_displacement_A": np.sum(rest.u_nd * r_ac, axis=1)[nearest] / distance_a[nearest],
    }


@cache
def hessian_values(section):
    """hessians/<name>: second derivatives of a rattled cell."""
    name, cell_cc, positions = given(section, "potential", "cell", "positions")
    positions = np.array(positions)
    cell = Cell(law_named(name), np.array(cell_cc), positions, np.zeros(len(positions), int))
    splined = replace(cell, law=splined_copper()) if name.startswith("Cu") else cell
    hessian = splined.hessian()
    return {
        "energy_eV": cell.energy(),
        "matscipy_energy_eV": cell.energy(),
        "hessian_eV_A2": hessian,
        "eigenvalues_eV_A2": np.linalg.eigvalsh(hessian),
    }


def dense_eigenvalues(energy, u_nd):
    """All eigenvalues of the assembled Hessian, rising."""
    matrix = assembled(energy, u_nd)
    dense = matrix.convert("dense").getDenseArray().copy()
    matrix.destroy()
    return np.linalg.eigvalsh(0.5 * (dense + dense.T))


def entropies(eigenvalue_hom, eigenvalue_def):
    """The three ways of the table to compare cells that differ by one site (all zero modes left out)."""
    d, h = (x[x > ZERO_MODE] for x in (eigenvalue_def, eigenvalue_hom))
    n_def, n_hom = len(eigenvalue_def) // 3, len(eigenvalue_hom) // 3
    log_d, log_h = np.log(d).sum(), np.log(h).sum()
    return {
        "N_hom": n_hom,
        "N_def": n_def,
        "logdet_plus_hom": log_h,
        "n_pos_hom": len(h),
        "logdet_plus_def": log_d,
        "n_pos_def": len(d),
        "S_raw_kB": 0.5 * (log_h - log_d),
        "S_atomcount_corrected_kB": 0.5 * (log_h * n_def / n_hom - log_d),
        "S_modecount_corrected_kB": 0.5 * (log_h * (n_def - 1) / (n_hom - 1) - log_d),
    }


@cache
def entropy_values(section):
    """vacancy_entropy/<case>: the vacancy of Stillinger-Weber silicon in 2 x 2 x 2 cells, dense."""
    (a,) = given(section, "a")
    inward = 0.5 if "inward" in section else 0.0
    perfect, energy = vacancy_energy(law_named("Si_SW_eps2.1675"), LATTICES["diamond"], a, (2, 2, 2), ("Si",))
    length = 2 * a
    r_ac = (energy.supercell.positions_ac + 0.5 * length) % length - 0.5 * length
    distance_a = np.linalg.norm(r_ac, axis=1)
    start = np.where((distance_a < 0.5 * a)[:, None], -inward * r_ac / distance_a[:, None], 0.0)
    rest = relax(energy, start, ACCURATE)
    eigenvalues = dense_eigenvalues(energy, rest.u_nd)
    ours = entropies(dense_eigenvalues(perfect, still(perfect)), eigenvalues)
    ours["negative_eigs"] = int(np.sum(eigenvalues < -ZERO_MODE))
    ours["fmax"] = rest.max_force
    if not inward:
        ours["lowest_def"] = eigenvalues[:6]
    else:
        ours["Ef_eV"] = energy.total(rest.u_nd) - perfect.total(still(perfect)) * 63 / 64
        stored = np.array(*given(section, "positions"))
        ours["positions"] = images(energy.supercell.positions_ac + rest.u_nd, stored, length)
    return ours


def images(positions_ac, like_bc, length):
    """The sites in the order and the periodic images in which `like_bc` has them, each the nearest."""
    r_bac = positions_ac - like_bc[:, None]
    r_bac -= length * np.round(r_bac / length)
    nearest_b = np.argmin(np.sum(r_bac**2, axis=-1), axis=1)
    assert len(set(nearest_b)) == len(like_bc)
    return like_bc + r_bac[np.arange(len(like_bc)), nearest_b]


@cache
def plane_values(section):
    """triangular_lattice_2d/W_EAM4."""
    law, lattice = law_named("W_EAM4"), LATTICES["triangular"]
    bulk = bulk_properties(law, lattice, ("W",))
    c11, c12, c66 = cubic(bulk.relaxed_vv)
    (r0,) = given(section, "r0_A")
    grid = {a: UnitCell(law, lattice, a, ("W",)).energy for a in (2.67, 2.675, 2.68)}
    cell_cc = np.diag([6 * r0, 4 * np.sqrt(3.0) * r0, 1.0])
    cell = Cell(law, cell_cc, *rectangle(r0, 6, 4), periodic=(True, True, False))
    hessian = cell.hessian().reshape(48, 3, 48, 3)
    plane = np.linalg.eigvalsh(hessian[:, :2, :, :2].reshape(96, 96))
    perfect, energy = vacancy_energy(law, ORTHORHOMBIC["triangular"], r0, (12, 7), ("W",))
    rest = relax(energy, still(energy), ACCURATE)
    n = perfect.sites.n_sites
    site_energies = perfect.total(still(perfect)) * (n - 1) / n
    return {
        "r0_A": bulk.lattice_constant,
        "energy_per_atom_eV": bulk.energy_per_site,
        "local_minima_of_E_of_a": [[min(grid, key=grid.get), min(grid.values())]],
        "C2D_eV_A2/C11": c11,
        "C2D_eV_A2/C12": c12,
        "C2D_eV_A2/C66": c66,
        "inplane_hessian_24x2_atoms_min_nonzero_eig": plane[plane > ZERO_MODE].min(),
        "inplane_hessian_lowest3": plane[:3],
        "outofplane_lowest": np.linalg.eigvalsh(hessian[:, 2, :, 2]).min(),
        "vacancy/natoms_perfect": n,
        "vacancy/Ef_unrelaxed_eV": energy.total(still(energy)) - site_energies,
        "vacancy/Ef_relaxed_eV": energy.total(rest.u_nd) - site_energies,
        "vacancy/fmax": rest.max_force,
    }


def rectangle(r0, nx, ny):
    """Positions and species of nx x ny rectangles of two sites of the triangular lattice."""
    corner = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), [0], indexing="ij"), -1).reshape(-1, 1, 3)
    fractional = (corner + np.array([[0, 0, 0], [0.5, 0.5, 0]])).reshape(-1, 3)
    return r0 * fractional * [1.0, np.sqrt(3.0), 1.0], np.zeros(2 * nx * ny, int)


@cache
def hop_values(section):
    """Cu_vacancy_migration/<hop>: energies and second derivatives at the table's minimum and saddle."""
    law = law_named("Cu_Mishin2001")
    a, cell_cc, mass, low, high = given(section, "a", "cell", "mass_amu", "positions_min", "positions_saddle")
    perfect = crystal(law, FCC, a)
    cells = [Cell(law, np.array(cell_cc), np.array(r), np.zeros(len(r), int)) for r in (low, high)]
    e_perfect, e_min, e_saddle = (cell.energy() for cell in (perfect, *cells))
    hom, at_min, at_saddle = (
        np.linalg.eigvalsh(replace(cell, law=splined_copper()).hessian()) for cell in (perfect, *cells)
    )
    logs = [0.5 * np.log(x[x > ZERO_MODE]).sum() for x in (at_min, at_saddle)]
    unit = elementary_charge / (1e-20 * atomic_mass)  # of eV / (angstrom^2 amu), in s^-2
    # one mode fewer at the saddle: the product of the ratios is an eigenvalue, and one over the mass is left
    frequency = np.exp(logs[0] - logs[1]) * np.sqrt(unit / mass) / (2 * pi)
    ours = {
        "natoms_perfect": len(perfect.positions_ac),
        "E_perfect": e_perfect,
        "Ef_relaxed_eV": e_min - e_perfect * 31 / 32,
        "E_min": e_min,
        "E_saddle": e_saddle,
        "barrier_eV": e_saddle - e_min,
        "neb_barrier_eV": e_saddle - e_min,
        "E_final_minus_initial": hopped(cells[0], cells[1].positions_ac) - e_min,
        "fmax_min": np.abs(cells[0].gradient()).max(),
        "fmax_saddle": np.abs(cells[1].gradient()).max(),
        "n_negative": int(np.sum(at_saddle < -ZERO_MODE)),
        "negative_eigs": at_saddle[at_saddle < -ZERO_MODE],
        "n_pos_min": int(np.sum(at_min > ZERO_MODE)),
        "n_pos_saddle": int(np.sum(at_saddle > ZERO_MODE)),
        "half_logdet_min": logs[0],
        "half_logdet_saddle": logs[1],
        "vineyard_attempt_frequency_THz": 1e-12 * frequency,
        "S_entropy_difference_saddle_minus_min_kB": logs[0] - logs[1],
    }
    ours.update({f"vacancy_entropy/{key}": value for key, value in entropies(hom, at_min).items()})
    return ours


def hopped(cell, saddle_ac):
    """Energy of the other end: the site that is farthest from its place at the saddle goes as far again, all relax."""
    way_ac = saddle_ac - cell.positions_ac
    way_ac -= cell.cell_cc[0, 0] * np.round(way_ac / cell.cell_cc[0, 0])
    hopping = np.argmax(np.sum(way_ac**2, axis=1))
    ended = cell.positions_ac.copy()
    ended[hopping] += 2 * way_ac[hopping]
    energy = Energy(
        cell.law, supercell_from_arrays(cell.cell_cc, 3 * (True,), ended, len(ended) * ["Cu"]), comm=MPI.COMM_SELF
    )
    return energy.total(relax(energy, still(energy), ACCURATE).u_nd)
