"""Minimum energy paths between two equilibria, by a string of images of the distributed cell."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConvergenceError, GeometryError
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen, without_translation
from parmlip.mechanics.line_search import State, dot, evaluate, largest

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_CAP: Final = 0.2  # angstrom, largest component of a step of an image
_PLAIN: Final = 0.02  # angstrom^2 / eV, first step along the forces where there is no Green's function


@dataclass(frozen=True)
class Path:
    """Images from one equilibrium to the other, both included, at equal distances."""

    image_knd: tuple[FloatArray, ...]  # displacements of the owned sites, angstrom
    energy_k: FloatArray  # E(u_k) - E(u_0), eV, the same on every rank
    position_k: FloatArray  # arc length, angstrom
    force: float  # largest component of the force across the path at its top, eV / angstrom
    iterations: int

    @property
    def top(self) -> int:
        """The image of highest energy."""
        return int(np.argmax(self.energy_k))


def minimum_energy_path(
    energy: Energy,
    start_nd: FloatArray,
    end_nd: FloatArray,
    green: BulkGreen | None,
    *,
    n_images: int = 7,
    tolerance: float = 0.05,
    max_iterations: int = 60,
) -> Path:
    """A path between two equilibria that is good enough to start a search for the saddle from its top.

    The simplified string method (E, Ren & Vanden-Eijnden, J. Chem. Phys. 126, 164103 (2007)): images move along their
    forces across the path and are put at equal distances again. The bulk Green's function makes the number of steps
    independent of the cell's size, where nudged elastic bands of the same forces need more the larger the cell is.

    Collective on ``energy.comm``.

    Parameters
    ----------
    start_nd, end_nd : ndarray, shape (n_owned, d)
        Displacements of the equilibria; the path starts straight.
    n_images : int
        Between the two.
    tolerance : float
        Of the largest component of the force across the path at its top, eV / angstrom. (Beside the top the corners of
        the polygon keep some.) A path that is above after `max_iterations` is given all the same, with a word in the
        log: the search for the saddle may still succeed.

    Raises
    ------
    GeometryError
        Sites of the straight path come closer than the law allows.
    ConvergenceError
        No image lies above both ends.
    """
    sites, comm = energy.sites, energy.comm
    weights = np.linspace(0.0, 1.0, n_images + 2)
    images = [start_nd + w * (end_nd - start_nd) for w in weights]
    ends = [evaluate(energy, u_nd) for u_nd in (start_nd, end_nd)]
    step, previous, force = (0.5 if green is not None else _PLAIN), np.inf, np.inf
    states: list[State] = []
    for iteration in range(max_iterations + 1):
        try:
            states = [evaluate(energy, u_nd) for u_nd in images[1:-1]]
        except GeometryError as error:
            raise GeometryError(f"path between the equilibria: {error}") from None
        across = [_across(state.f_nd, images[k + 2] - images[k], energy) for k, state in enumerate(states)]
        size_k = [largest(f_nd, comm) for f_nd in across]
        force, worst = size_k[int(np.argmax([state.energy for state in states]))], max(size_k)
        logger.info(
            "path %3d: top %.6f eV, force across it %.3e eV/A, step %.2f",
            iteration, max(state.energy for state in states) - ends[0].energy, force, step,
        )  # fmt: skip
        if force <= tolerance or iteration == max_iterations:
            break
        step = max(0.5 * step, 0.01 * _PLAIN) if worst > 1.2 * previous else min(1.2 * step, 1.0)
        previous = worst
        for k, f_nd in enumerate(across):
            s_nd = step * (green(f_nd) if green is not None else without_translation(f_nd, sites))
            images[k + 1] = images[k + 1] + s_nd * min(1.0, _CAP / max(largest(s_nd, comm), 1e-300))
        images = _equidistant(images, energy)
    if force > tolerance:
        logger.warning(
            "path: the force across its top is still %.3e eV/A after %d steps (wanted %g)",
            force,
            max_iterations,
            tolerance,
        )
    value_k = np.array([ends[0].energy, *(state.energy for state in states), ends[1].energy]) - ends[0].energy
    path = Path(tuple(images), value_k, _arc(images, energy), force, iteration)
    if path.top in (0, n_images + 1):
        raise ConvergenceError(
            f"path: no image of {n_images} lies above both ends ({', '.join(f'{e:.4f}' for e in value_k)} eV); "
            "the end may be no state of its own, or more images are needed",
            path,
        )
    return path


def _across(f_nd: FloatArray, tangent_nd: FloatArray, energy: Energy) -> FloatArray:
    """Forces without their component along the path."""
    square = dot(tangent_nd, tangent_nd, energy.comm)
    return f_nd - (dot(f_nd, tangent_nd, energy.comm) / square) * tangent_nd


def _arc(images: list[FloatArray], energy: Energy) -> FloatArray:
    steps = [images[k + 1] - images[k] for k in range(len(images) - 1)]
    return np.concatenate([[0.0], np.cumsum([np.sqrt(dot(s_nd, s_nd, energy.comm)) for s_nd in steps])])


def _equidistant(images: list[FloatArray], energy: Energy) -> list[FloatArray]:
    """Images at equal distances on the polygon through the given ones."""
    at_k = _arc(images, energy)
    moved = [images[0]]
    for place in np.linspace(0.0, at_k[-1], len(images))[1:-1]:
        k = min(int(np.searchsorted(at_k, place, side="right")) - 1, len(images) - 2)
        part = (place - at_k[k]) / (at_k[k + 1] - at_k[k])
        moved.append(images[k] + part * (images[k + 1] - images[k]))
    return [*moved, images[-1]]
