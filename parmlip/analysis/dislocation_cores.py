"""What became of dislocations: Nye's tensor, position, content and spread of cores, polarity, coordination. Local."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.cores import nearest_columns
from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.dislocations import DislocatedCell, nearest_images
from parmlip.crystal.neighbours import Pairs, find_pairs, pair_vectors
from parmlip.crystal.supercell import build_supercell

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FIRST: Final = 1.2  # in nearest-neighbour distances: shells that make the lattice correspondence (two in bcc)
_ANGLE: Final = 27.0  # degrees: a bond farther from every bond of the crystal has no counterpart (Hartley and Mishin)
_WEAK: Final = 0.1  # of the largest density in a core: less is noise
_CONTENT: Final = 0.5  # of the Burgers vector: the error of a circuit about a core that has stayed
# Nye's density, summed over the sites nearest to a core, gives 0.3 (silicon's edges) to 0.7 of the Burgers vector; of a
# crystal without dislocations, whose glide planes may be full of stacking faults, nothing.
_TRACE: Final = 0.15
_LEVI_CIVITA: Final = np.array(
    [[[0, 0, 0], [0, 0, 1], [0, -1, 0]], [[0, 0, -1], [0, 0, 0], [1, 0, 0]], [[0, 1, 0], [-1, 0, 0], [0, 0, 0]]], float
)


@dataclass(frozen=True, eq=False)
class CoreState:
    """Cores of a relaxed cell, in the order of the cell's."""

    position_nc: RealArray  # (n, 2) centre of the density of the Burgers vector, on the reference lattice, angstrom
    burgers_nc: RealArray  # (n, 3) content of a circuit within half of the cores' separation, angstrom
    density_n: RealArray  # (n,) density summed over the sites nearest to each core, Burgers vectors
    spread_n: RealArray  # (n,) root mean square distance of the density from the centre, angstrom
    polarity_n: RealArray  # (n,) shift of the three columns beside the intended core, in Burgers vectors
    nye_ac: RealArray  # (n_sites, 3) density of Burgers vector of lines along z, 1 / angstrom
    coordination_a: IntArray  # (n_sites,) neighbours, up to half-way between shells of the crystal
    perfect: int  # coordination of the perfect crystal

    def present(self, burgers_nc: RealArray) -> NDArray[np.bool_]:
        """Which cores, of the Burgers vectors given in angstrom, are still there, (n,).

        A circuit finds the Burgers vector and there is some density; or there is much of it where the circuit is
        misled: stacking faults of dissociated cores may cross it. In a crystal whose cores have annihilated and left
        faults behind circuits alone may find anything.
        """
        content_n = np.sum(self.burgers_nc * burgers_nc, axis=1) / np.sum(burgers_nc**2, axis=1)
        closed = np.abs(content_n - 1.0) <= _CONTENT
        return np.asarray((closed & (self.density_n > _TRACE)) | (self.density_n > _CONTENT))

    @property
    def n_miscoordinated(self) -> int:
        """Sites with another coordination than the crystal's."""
        return int(np.count_nonzero(self.coordination_a != self.perfect))


def core_state(cell: DislocatedCell | Disc, stiffness_vv: RealArray, u_ac: RealArray) -> CoreState:
    """Fingerprints of a displaced cell.

    Parameters
    ----------
    cell : DislocatedCell or Disc
        Of a disc the free sites count.
    stiffness_vv : ndarray, shape (6, 6)
        Of the elastic field that polarities are measured against, in the crystal's frame.
    u_ac : ndarray, shape (n_sites, 3)
        Displacement from the reference configuration, angstrom.

    References
    ----------
    Hartley, Mishin, Acta Mater. 53, 1313 (2005), for Nye's tensor.
    """
    s, reference_ac = cell.supercell, cell.lattice_positions_ac
    grid = s.grid
    assert grid is not None
    x_ac = s.positions_ac + u_ac
    nye_ac = nye_density(cell, x_ac)
    coordination_a, perfect = coordination(cell, x_ac)
    if isinstance(cell, Disc):  # the rim has a surface
        nye_ac[~cell.free_a], coordination_a[~cell.free_a] = 0.0, perfect
    radius = 0.5 * cell.separation
    off_nac = np.stack(
        [nearest_images(reference_ac[:, :2] - np.array(c.position), cell.vectors_kc) for c in cell.cores]
    )
    nearest_a = np.linalg.norm(off_nac, axis=2).argmin(axis=0)
    volume = abs(np.linalg.det(grid.lattice.cell(grid.lattice_constant))) / grid.lattice.n_basis
    area = volume / float(np.linalg.norm(s.cell_cc[2]))  # of the plane, for each site
    if isinstance(cell, Disc):
        off_field = u_ac - cell.predictor(stiffness_vv)
    else:
        off_field = u_ac - cell.array(stiffness_vv).displacement(reference_ac)
    positions, contents, densities, spreads, polarities = [], [], [], [], []
    for n, (core, off_ac) in enumerate(zip(cell.cores, off_nac, strict=True)):
        b_c, at = np.array(core.burgers), np.array(core.position)
        densities.append(area * float((nye_ac[nearest_a == n] @ b_c).sum() / (b_c @ b_c)))
        near = np.linalg.norm(off_ac, axis=1) < radius
        contents.append(circuit(off_ac, u_ac, b_c, radius))
        weight = np.where(near, nye_ac @ b_c, 0.0)
        weight[weight < _WEAK * weight.max(initial=0.0)] = 0.0
        total = weight.sum()
        centre = weight @ off_ac / total if total > 0.0 else np.full(2, radius)
        positions.append(at + centre)
        spreads.append(sqrt(float(weight @ np.sum((off_ac - centre) ** 2, axis=1)) / total) if total > 0.0 else radius)
        trio_n = nearest_columns(reference_ac, core.position, cell.vectors_kc, 3)
        shift_n = off_field[trio_n] @ b_c / (b_c @ b_c)
        away = (off_field - off_field.mean(axis=0))[trio_n] @ b_c / (b_c @ b_c)
        polarities.append(float(np.mean(away - np.rint(away - np.median(away)))) if len(shift_n) else 0.0)
    return CoreState(
        np.array(positions),
        np.array(contents),
        np.array(densities),
        np.array(spreads),
        np.array(polarities),
        nye_ac,
        coordination_a,
        perfect,
    )


def circuit(off_ac: RealArray, u_ac: RealArray, burgers_c: RealArray, radius: float) -> RealArray:
    """Burgers vector of a ring of sites, counter-clockwise, (3,), angstrom.

    Steps of the displacement from site to site are taken modulo the Burgers vector: where the ring crosses a cut,
    bonds are those of the crystal again.

    Parameters
    ----------
    off_ac : ndarray, shape (n_sites, 2)
        Of the sites from the core, on the reference lattice, angstrom.
    u_ac : ndarray, shape (n_sites, 3)
        Displacement, angstrom.
    burgers_c : ndarray, shape (3,)
        The Burgers vector that is expected, angstrom.
    radius : float
        The ring lies between 0.6 and 0.95 of it, angstrom.
    """
    distance_a = np.linalg.norm(off_ac, axis=1)
    ring_n = np.flatnonzero((distance_a > 0.6 * radius) & (distance_a < 0.95 * radius))
    ring_n = ring_n[np.argsort(np.arctan2(off_ac[ring_n, 1], off_ac[ring_n, 0]), kind="stable")]
    step_nc = np.diff(u_ac[ring_n], axis=0, append=u_ac[ring_n[:1]])
    crossed_n = np.rint(step_nc @ burgers_c / (burgers_c @ burgers_c))
    return np.asarray(-crossed_n.sum() * burgers_c)


def coordination(cell: DislocatedCell | Disc, x_ac: RealArray) -> tuple[IntArray, int]:
    """Neighbours of every site, and of one of the perfect crystal (its shells within 1.2 nearest distances)."""
    s, origin = cell.supercell, cell.orientation.origin
    assert s.grid is not None
    crystal = build_supercell(origin, s.grid.lattice_constant, (1, 1, 1), ["X"] * origin.n_slots)
    nearest = nearest_distance(origin) * s.grid.lattice_constant
    around = find_pairs(crystal.cell_cc, crystal.periodic, crystal.positions_ac, 2.2 * nearest, np.array([0]))
    distance = np.sort(np.linalg.norm(pair_vectors(around, crystal.cell_cc, crystal.positions_ac), axis=1))
    perfect = int(np.count_nonzero(distance < _FIRST * nearest))
    cutoff = 0.5 * (distance[perfect - 1] + distance[perfect])
    return find_pairs(s.cell_cc, s.periodic, x_ac, cutoff).count_n, perfect


def nye_density(cell: DislocatedCell | Disc, x_ac: RealArray) -> RealArray:
    """(n_sites, 3): alpha_zk, whose integral over the plane is the Burgers vector of all lines in it, 1 / angstrom.

    Bonds are matched with those of the perfect crystal by their direction; P = Q G in least squares gives the lattice
    correspondence G of each site, and its differences along the bonds alpha_jk = -eps_jim dG_mk / dx_i.
    """
    s = cell.supercell
    assert s.grid is not None
    nearest = nearest_distance(cell.orientation.origin) * s.grid.lattice_constant
    pairs = find_pairs(s.cell_cc, s.periodic, x_ac, 1.35 * nearest)
    q_pc = pair_vectors(pairs, s.cell_cc, x_ac)
    p_pc, kept_p = _matched(cell, pairs, q_pc, _FIRST * nearest)
    q_pc, p_pc, centre_p, site_p = q_pc[kept_p], p_pc[kept_p], pairs.centre_p[kept_p], pairs.site_p[kept_p]
    n = s.n_sites
    square = _summed(np.einsum("pi,pj->pij", q_pc, q_pc), centre_p, n)
    inverse = np.linalg.pinv(square, rcond=1e-8, hermitian=True)
    G_amk = inverse @ _summed(np.einsum("pi,pj->pij", q_pc, p_pc), centre_p, n)
    dG_pmk = G_amk[site_p] - G_amk[centre_p]
    slope_aimk = np.einsum(
        "aij,ajx->aix", inverse, _summed(np.einsum("pj,px->pjx", q_pc, dG_pmk.reshape(-1, 9)), centre_p, n)
    ).reshape(n, 3, 3, 3)
    return np.asarray(-np.einsum("im,aimk->ak", _LEVI_CIVITA[2], slope_aimk))


def _matched(
    cell: DislocatedCell | Disc, pairs: Pairs, q_pc: RealArray, reach: float
) -> tuple[RealArray, NDArray[np.bool_]]:
    """The crystal's bond of nearest direction for each bond, and whether it is the best match of such a bond."""
    grid = cell.supercell.grid
    assert grid is not None
    lattice = grid.lattice
    unit = build_supercell(lattice, grid.lattice_constant, (1, 1, 1), ["X"] * lattice.n_slots)
    ideal = find_pairs(unit.cell_cc, unit.periodic, unit.positions_ac, reach)
    bond_qc = pair_vectors(ideal, unit.cell_cc, unit.positions_ac)
    basis_p = grid.number_a[pairs.centre_p] % lattice.n_basis
    p_pc, kept_p = np.zeros_like(q_pc), np.zeros(len(q_pc), dtype=bool)
    length_p = np.linalg.norm(q_pc, axis=1)
    for b in range(lattice.n_basis):
        bonds = bond_qc[ideal.first_n[b] : ideal.first_n[b + 1]]
        mine = np.flatnonzero(basis_p == b)
        sizes = np.linalg.norm(bonds, axis=1)
        cosine = (q_pc[mine] / length_p[mine, None]) @ (bonds / sizes[:, None]).T
        best = cosine.argmax(axis=1)
        good = cosine.max(axis=1) > cos(radians(_ANGLE))
        p_pc[mine] = bonds[best]
        # of several bonds of a site with one counterpart the one of nearest length
        off = np.abs(length_p[mine] - sizes[best])
        order = np.lexsort((off, best, pairs.centre_p[mine]))
        first = np.ones(len(order), dtype=bool)
        same = (np.diff(pairs.centre_p[mine][order]) == 0) & (np.diff(best[order]) == 0)
        first[1:] = ~same
        kept = np.zeros(len(mine), dtype=bool)
        kept[order[first]] = True
        kept_p[mine] = kept & good
    return p_pc, kept_p


def _summed(value_pij: RealArray, centre_p: IntArray, n: int) -> RealArray:
    """Sums over the pairs of each of n centres."""
    flat = value_pij.reshape(len(value_pij), -1)
    total = np.stack([np.bincount(centre_p, flat[:, i], n) for i in range(flat.shape[1])], axis=1)
    return np.asarray(total.reshape(n, *value_pij.shape[1:]), dtype=float)
