"""Regions of a QM/MM coupling: QM, its buffer, MM and far field, by distance from the cores of defects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.distances import offsets_to
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError

RealArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

QM, BUFFER, MM, FAR_FIELD = range(4)
NAMES: Final = ("qm", "buffer", "mm", "far_field")  # by label

# Sites at exactly the radius are within it, whatever the rounding of their coordinates.
_ON_EDGE: Final = 1e-9
_BESIDE: Final = 1e-6  # angstrom: the largest radius leaves so much beside it


@dataclass(frozen=True, eq=False)
class Regions:
    """A label for every site of a reference configuration, the same on every rank.

    The buffer is a part of the MM region: its sites obey the MM law. The far field stands still at the predictor.
    """

    label_a: NDArray[np.int8]  # (n_sites,) QM, BUFFER, MM or FAR_FIELD
    cluster_a: BoolArray  # (n_sites,) QM and buffer, far field too: whose forces or site energies the QM law gives
    distance_a: RealArray  # (n_sites,) to the core of the region, angstrom
    radius_a: RealArray  # (n_sites,) of the QM region of that core, angstrom
    buffer: float  # width, angstrom

    @property
    def qm_a(self) -> BoolArray:
        """Sites of the QM region."""
        return np.asarray(self.label_a == QM)

    @property
    def free_a(self) -> BoolArray:
        """Sites that move."""
        return np.asarray(self.label_a != FAR_FIELD)

    def beyond(self, fraction: float) -> BoolArray:
        """Sites farther from their core than this part of R_QM: beta of (3.11), which has fraction 1/2."""
        return np.asarray(self.distance_a >= fraction * self.radius_a)

    def counts(self) -> dict[str, int]:
        """Number of sites by name of the region."""
        number_k = np.bincount(self.label_a, minlength=len(NAMES))
        return {name: int(n) for name, n in zip(NAMES, number_k, strict=True)}


def build_regions(
    supercell: Supercell,
    cores_nc: RealArray,
    radius: float | Sequence[float],
    buffer: float,
    free_a: BoolArray,
    *,
    in_plane: bool,
) -> Regions:
    """Label every site by its distance from the nearest core. Local.

    Parameters
    ----------
    supercell : Supercell
    cores_nc : ndarray, shape (n, 3)
        Places of point defects or of lines, angstrom.
    radius : float or one float for each core
        R_QM: sites at most so far from a core are QM, angstrom.
    buffer : float
        R_BUF: MM sites at most so far beyond a QM region are its buffer, angstrom.
    free_a : ndarray of bool, shape (n_sites,)
        Sites that move; the others are the far field.
    in_plane : bool
        Distances are those in the plane x, y: lines along z, and point defects that repeat along z with a short period.

    Raises
    ------
    ConfigError
        QM regions of different radius overlap, or a radius holds no site.

    References
    ----------
    Chen, Ortner, Wang, "QM/MM methods for crystalline defects. Part 3" (2021), section 3, figure 3.1.
    """
    cores_nc = np.asarray(cores_nc, dtype=float).reshape(-1, 3)
    if not len(cores_nc):
        raise ConfigError("[qmmm]: there is no defect or dislocation in [simulation] that a QM region is about")
    radius_k = np.broadcast_to(np.asarray(radius, dtype=float), (len(cores_nc),))
    _check_overlap(supercell, cores_nc, radius_k, in_plane)
    # With different radii the core counts whose region is nearest, not the nearest core.
    excess_a = np.full(supercell.n_sites, np.inf)
    distance_a, radius_a = np.zeros(supercell.n_sites), np.zeros(supercell.n_sites)
    for value in np.unique(radius_k):
        apart_a = _distances(supercell, cores_nc[radius_k == value], in_plane)
        nearer_a = apart_a - value < excess_a
        excess_a[nearer_a] = apart_a[nearer_a] - value
        distance_a[nearer_a], radius_a[nearer_a] = apart_a[nearer_a], value
    label_a = np.full(supercell.n_sites, MM, dtype=np.int8)
    cluster_a = excess_a <= buffer + _ON_EDGE
    label_a[cluster_a] = BUFFER
    label_a[excess_a <= _ON_EDGE] = QM
    label_a[~free_a] = FAR_FIELD
    if not (label_a == QM).any():
        raise ConfigError(f"[qmmm] radius = {radius_k.max():g}: holds no site; the nearest is {distance_a.min():.3f} A "
                          "from a core")  # fmt: skip
    return Regions(label_a, cluster_a, distance_a, radius_a, buffer)


def check_sizes(regions: Regions, mm_radius: float, *, needed: float, why: str, far_field: float = 0.0) -> None:
    """Raise `ConfigError` unless the QM region and its buffer are large enough and lie within the free region.

    Parameters
    ----------
    mm_radius : float
        R_MM of the free region, angstrom.
    needed : float
        Least width of the buffer, angstrom; `why` says so in words.
    far_field : float
        Part of the far field into which buffers may reach, angstrom: none if the MM law has a say in the QM energy.
    """
    radius = float(regions.radius_a.max())
    if regions.buffer < needed * (1.0 - 1e-12):
        raise ConfigError(
            f"[qmmm] buffer = {regions.buffer:g}: must be at least {needed:.6g} A, {why}, or the QM region sees the "
            "surface of its cluster"
        )
    # The farthest site that moves is R_MM from the centre of the domain, cores may lie off it.
    within = regions.distance_a <= regions.radius_a + max(regions.buffer - far_field, 0.0)
    if (within & ~regions.free_a).any() or radius + max(regions.buffer - far_field, 0.0) > mm_radius:
        rim = f", its rim of {far_field:g} A included" if far_field else ""
        largest = np.floor(100.0 * largest_radius(regions, mm_radius, far_field)) / 100.0
        help_of = "make buffer smaller, or the domain larger"
        if largest > 0.0:
            help_of = f"make radius at most {largest:g}, buffer smaller, or the domain larger"
        raise ConfigError(
            f"[qmmm] radius = {radius:g}: with the buffer of {regions.buffer:g} A it must end within the free "
            f"region, [simulation] radius = {mm_radius:g} A about its centre{rim}; {help_of}"
        )


def largest_radius(regions: Regions, mm_radius: float, far_field: float) -> float:
    """R_QM with which QM region and buffer still lie where `check_sizes` lets them, angstrom. Local."""
    clamped = float((regions.distance_a[~regions.free_a]).min(initial=np.inf))
    return min(mm_radius, clamped - _BESIDE) - max(regions.buffer - far_field, 0.0) - _BESIDE


def _distances(supercell: Supercell, cores_nc: RealArray, in_plane: bool) -> RealArray:
    """Of every site to the nearest core or image, angstrom."""
    if in_plane and not any(supercell.periodic[:2]):
        found, _ = cKDTree(cores_nc[:, :2]).query(supercell.positions_ac[:, :2])
        return np.asarray(found, dtype=float)
    offset_ac, _ = offsets_to(supercell, cores_nc)
    return np.asarray(np.linalg.norm(offset_ac[:, : 2 if in_plane else 3], axis=1))


def _check_overlap(supercell: Supercell, cores_nc: RealArray, radius_k: RealArray, in_plane: bool) -> None:
    """Where regions of different radius overlap, a site would have two."""
    d = 2 if in_plane else 3
    for i in range(len(cores_nc)):
        for j in range(i):
            apart_c = cores_nc[i] - cores_nc[j]
            if any(supercell.periodic):
                fraction_c = apart_c @ np.linalg.inv(supercell.cell_cc)
                fraction_c -= np.array(supercell.periodic, dtype=float) * np.rint(fraction_c)
                apart_c = fraction_c @ supercell.cell_cc
            apart = float(np.linalg.norm(apart_c[:d]))
            if radius_k[i] != radius_k[j] and apart < radius_k[i] + radius_k[j]:
                raise ConfigError(
                    f"[qmmm] radius: the QM regions of cores {j + 1} and {i + 1}, {apart:.2f} A apart, have the radii "
                    f"{radius_k[j]:g} and {radius_k[i]:g} A and overlap; give them one radius"
                )
