"""The stage rates: jumps of the simulation cell's defects, from one equilibrium over a saddle to the next."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.analysis.rates import Rate, crossover_temperature, rate
from parmlip.config import Relax, Study
from parmlip.config_rates_tables import Jump
from parmlip.config_schema import show
from parmlip.crystal.distances import distances_to, offsets_to
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.io.hdf5 import Field
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_difference import entropy_differences
from parmlip.mechanics.green import BulkGreen, without_translation
from parmlip.mechanics.line_search import largest
from parmlip.mechanics.path import Path, minimum_energy_path
from parmlip.mechanics.relax import Equilibrium, bulk_green, relax
from parmlip.mechanics.saddle import Saddle, find_saddle, lowest_frequency
from parmlip.mechanics.spectrum import spectrum
from parmlip.mechanics.total_entropy import Work
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.report.rates_table import quantity_lines, rate_lines

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
FloatArray = NDArray[np.float64]

_ON_SITE = 1e-3  # lattice constants: nearer is the same place
_APART = 0.05  # angstrom: equilibria that are nearer are the same
_THROUGH = 0.1  # lattice constants: a path that comes so near to a site runs through it
_PUSH = 0.1  # angstrom, largest component of the first step down from a saddle


@dataclass(frozen=True)
class Move:
    """A jump in the simulation cell."""

    name: str
    site: int  # global number of the site that jumps
    step_c: FloatArray  # its way, angstrom, (3,)


@dataclass(frozen=True)
class Crossing:
    """What was found of a jump."""

    move: Move
    path: Path
    saddle: Saddle
    end: Equilibrium
    forth: Rate
    back: Rate
    unstable: float  # eV / angstrom^2
    unstable_mass: float  # eV / (angstrom^2 amu)
    connects: bool | None  # None: not looked at


@dataclass(frozen=True)
class Stray:
    """A saddle whose slopes do not end in the equilibria of the jump for which it was looked for."""

    move: Move
    barrier: float  # eV, above the equilibrium that the jump starts from


def moves(study: Study, cell: Supercell, of: tuple[Lattice, float]) -> list[Move]:
    """The jumps of [rates] in the simulation cell. Local.

    Raises
    ------
    ConfigError
        There is no site where a jump begins, or there is one where it ends or on its straight way.
    """
    named = zip(study.rates.jumps, study.rates.names(), strict=True)
    return [move_of(jump, name, f"[rates] jumps[{i}]", cell, of) for i, (jump, name) in enumerate(named)]


def move_of(jump: Jump, name: str, where: str, cell: Supercell, of: tuple[Lattice, float]) -> Move:
    """A jump of the input in a cell. Local.

    Raises
    ------
    ConfigError
        As for `moves`; `where` begins the message.
    """
    vectors_cc, a = of[0].cell(of[1]), of[1]
    ends = [np.array([*place, 0.0, 0.0][:3]) @ vectors_cc for place in (jump.from_, jump.to)]
    near = [distances_to(cell, end[None]) for end in ends]
    if near[0].min() > _ON_SITE * a:
        raise ConfigError(f"{where} from = {show(jump.from_)}: no site is there; the nearest is "
                          f"{near[0].min():.3f} A away")  # fmt: skip
    if near[1].min() <= _ON_SITE * a:
        other = int(np.argmin(near[1]))
        raise ConfigError(f"{where} to = {show(jump.to)}: site {other} is there; it must be vacant")
    move = Move(name, int(np.argmin(near[0])), _shortest(ends[1] - ends[0], cell))
    passed_c = _passed(move, cell, _THROUGH * a)
    if passed_c is not None:
        # as the input has places; + 0.0 makes -0 a 0
        at = show((np.round(passed_c @ np.linalg.inv(vectors_cc), 4) + 0.0).tolist()[: len(jump.to)])
        raise ConfigError(f"{where}: the straight path of jump {name} runs through the site at {at}; give jumps one by "
                          "one, each to a vacant place beside its site")  # fmt: skip
    return move


def rates_fields(
    study: Study, comm: MPI.Comm, law: SiteLaw, cell: Supercell, of: tuple[Lattice, float], start_ad: FloatArray
) -> Fields:
    """Barriers, attempt frequencies and rates of all jumps with a law, from its equilibrium `start_ad`.

    Collective on ``comm``.

    Raises
    ------
    ConvergenceError
        A state was not found, or a saddle is not between the two equilibria of its jump: raised when all other jumps
        are done and in the log.
    """
    asked = study.rates
    energy = Energy(law, cell, comm=comm)
    green = bulk_green(energy)
    settings = Relax(force_tolerance=asked.force_tolerance, max_iterations=study.relax.max_iterations)
    start = relax(energy, energy.sites.restrict(start_ad), settings, green=green, what="equilibrium")
    mass_n = masses(study, cell)[energy.sites.global_n]
    # the one that all jumps start from; large cells have differences only
    entropy = _entropy(energy, start.u_nd, 0, "the equilibrium") if cell.n_sites <= asked.dense_sites else None
    found = [_crossing(study, move, energy, green, start, entropy, mass_n) for move in moves(study, cell, of)]
    temperature_t = np.array(asked.temperatures)
    crossings = [one for one in found if isinstance(one, Crossing)]
    strays = [one for one in found if isinstance(one, Stray)]
    for line in _table(crossings, temperature_t):
        logger.info("%s", line)
    if strays:
        raise ConvergenceError(_astray(strays), strays)
    first = _fields(crossings[0])
    several = {
        "jumps": Field(
            {c.move.name: _fields(c) | _rates(c, temperature_t) for c in crossings},
            about="of each jump; those above are the first's",
        ),
        "names": Field([c.move.name for c in crossings]),
        "temperatures": Field(temperature_t, "K"),
        "rates": Field(np.array([c.forth.at(temperature_t) for c in crossings]), "1/s", "jumps by temperatures"),
        "rates_back": Field(np.array([c.back.at(temperature_t) for c in crossings]), "1/s"),
        "path_energy": Field(np.array([c.path.energy_k for c in crossings]), "eV", "images, both ends included"),
        "path_position": Field(np.array([c.path.position_k for c in crossings]), "A", "arc length of the images"),
        "saddles": Field(_gathered(energy, [c.saddle.u_nd for c in crossings]), "A", "displacements, global order"),
        "ends": Field(_gathered(energy, [c.end.u_nd for c in crossings]), "A", "displacements after the jump"),
    }
    return {"n_sites": Field(cell.n_sites), **first, **several}


def masses(study: Study, cell: Supercell) -> FloatArray:
    """Masses of all sites, amu. Local."""
    mass_s = [study.rates.masses.get(s, float(atomic_masses[atomic_numbers[s]])) for s in cell.species]
    return np.array(mass_s)[cell.species_a]


def _crossing(
    study: Study,
    move: Move,
    energy: Energy,
    green: BulkGreen | None,
    start: Equilibrium,
    entropy: float | None,
    mass_n: FloatArray,
) -> Crossing | Stray:
    """Follow one jump."""
    asked, what = study.rates, f"jump {move.name}"
    end, path, saddle = crossed(study, move, energy, green, start)
    settings = Relax(force_tolerance=asked.force_tolerance, max_iterations=study.relax.max_iterations)
    connects = _connects(energy, green, saddle, (start, end), settings) if asked.connect else None
    if connects is False:
        logger.warning("%s: the saddle's slopes do not end in the jump's two equilibria", what)
        return Stray(move, saddle.energy - start.energy)
    unstable_mass = lowest_frequency(energy, saddle.u_nd, mass_n, saddle.mode)
    unstable = lowest_frequency(energy, saddle.u_nd, np.ones_like(mass_n), saddle.mode)
    if entropy is not None:
        top = _entropy(energy, saddle.u_nd, 1, f"the saddle of {move.name}")
        other = _entropy(energy, end.u_nd, 0, f"the end of {move.name}")
        changes = [(top - entropy, 0.0), (top - other, 0.0)]
    else:
        changes = _estimated(study, energy, (start, end), saddle, unstable)
    forth, back = (
        rate(saddle.energy - state.energy, change, unstable, unstable_mass, entropy_error=error)
        for state, (change, error) in zip((start, end), changes, strict=True)
    )
    return Crossing(move, path, saddle, end, forth, back, unstable, unstable_mass, connects)


def crossed(
    study: Study, move: Move, energy: Energy, green: BulkGreen | None, start: Equilibrium
) -> tuple[Equilibrium, Path, Saddle]:
    """The equilibrium after a jump, a path to it, and the saddle between. Collective on ``energy.comm``.

    Raises
    ------
    ConvergenceError
        There is no equilibrium at the jump's end, no top on the path, or no saddle of index one from there.
    """
    asked, what = study.rates, f"jump {move.name}"
    settings = Relax(force_tolerance=asked.force_tolerance, max_iterations=study.relax.max_iterations)
    jumped_nd = start.u_nd.copy()
    jumped_nd[energy.sites.global_n == move.site] += move.step_c[: energy.dimension]
    end = relax(energy, jumped_nd, settings, green=green, what=f"{what}: after it")
    if _distance(energy, start.u_nd, end.u_nd) <= _APART:
        raise ConvergenceError(f"{what}: the site falls back to where it came from: no equilibrium is at its end", end)
    with timed("path"):
        path = minimum_energy_path(
            energy, start.u_nd, end.u_nd, green,
            n_images=asked.images, tolerance=asked.path_tolerance, max_iterations=asked.path_iterations,
        )  # fmt: skip
    with timed("saddle"):
        along_nd = path.image_knd[path.top + 1] - path.image_knd[path.top - 1]
        saddle = find_saddle(
            energy, path.image_knd[path.top], along_nd, green,
            force_tolerance=asked.force_tolerance, max_iterations=asked.max_iterations, what=f"{what}: saddle",
        )  # fmt: skip
    return end, path, saddle


def saddle_positions(
    study: Study, law: SiteLaw, cell: Supercell, of: tuple[Lattice, float], jump: Jump, where: str
) -> tuple[FloatArray, FloatArray]:
    """Positions (n_sites, 3) of a cell's equilibrium and of the saddle of a jump. One rank's work, as local as that."""
    energy = Energy(law, cell, comm=MPI.COMM_SELF)
    green = bulk_green(energy)
    settings = Relax(force_tolerance=study.rates.force_tolerance, max_iterations=study.relax.max_iterations)
    move = move_of(jump, where, where, cell, of)
    start = relax(energy, np.zeros((cell.n_sites, cell.dimension)), settings, green=green, what=where)
    _, _, saddle = crossed(study, move, energy, green, start)
    states = []
    for u_nd in (start.u_nd, saddle.u_nd):
        positions_ac = cell.positions_ac.copy()
        positions_ac[:, : cell.dimension] += u_nd
        states.append(positions_ac)
    return states[0], states[1]


def _estimated(
    study: Study, energy: Energy, states: tuple[Equilibrium, Equilibrium], saddle: Saddle, unstable: float
) -> list[tuple[float, float]]:
    """S(saddle) - S(state) and its error bar in a large cell."""
    asked = study.entropy
    work = Work(
        "ritz", study.rates.entropy_tolerance, asked.krylov_tolerance, None, asked.max_probes, asked.batch,
        study.run.seed,
    )  # fmt: skip
    minima = [state.u_nd for state in states]
    with timed("entropy differences"):
        found = entropy_differences(energy, minima, saddle.u_nd, (unstable, saddle.lowest[0]), work=work)
    for one in found:
        logger.info(
            "entropy %.6f +- %.1e k_B: %d near sites, %d probes, %d Lanczos steps",
            one.value, one.error, one.n_near, one.n_probes, one.steps,
        )  # fmt: skip
    return [(one.value, one.error) for one in found]


def _entropy(energy: Energy, u_nd: FloatArray, n_negative: int, what: str) -> float:
    """-1/2 sum log of the positive eigenvalues."""
    with timed("eigenvalues"):
        found = spectrum(energy, u_nd, n_zero=energy.dimension, n_negative=n_negative, what=what)
    return found.entropy


def _connects(
    energy: Energy, green: BulkGreen | None, saddle: Saddle, ends: tuple[Equilibrium, Equilibrium], settings: Relax
) -> bool:
    """Whether the two ways down from the saddle end in `ends`."""
    push_nd = saddle.mode.v_nd * (_PUSH / largest(saddle.mode.v_nd, energy.comm))
    down = [
        relax(energy, saddle.u_nd + sign * push_nd, settings, green=green, what="down from the saddle").u_nd
        for sign in (1.0, -1.0)
    ]
    far = [[_distance(energy, u_nd, end.u_nd) > _APART for end in ends] for u_nd in down]
    return not (far[0][0] or far[1][1]) or not (far[0][1] or far[1][0])


def _distance(energy: Energy, a_nd: FloatArray, b_nd: FloatArray) -> float:
    """Largest component of the difference without its translation, angstrom."""
    return largest(without_translation(a_nd - b_nd, energy.sites), energy.comm)


def _shortest(step_c: FloatArray, cell: Supercell) -> FloatArray:
    """The step or its shortest periodic image; the one given among equals."""
    images = np.array(np.meshgrid(*[(-1, 0, 1) if p else (0,) for p in cell.periodic], indexing="ij")).reshape(3, -1).T
    steps = step_c + images @ cell.cell_cc
    length = np.linalg.norm(steps, axis=1)
    given = float(np.linalg.norm(step_c))
    return step_c if given <= length.min() * (1.0 + 1e-9) else steps[int(np.argmin(length))]


def _gathered(energy: Energy, states: list[FloatArray]) -> FloatArray | None:
    parts = [energy.sites.gather(u_nd) for u_nd in states]
    return None if parts[0] is None else np.array(parts)


def _fields(c: Crossing) -> Fields:
    fields = {
        "barrier": Field(c.forth.barrier, "eV", "E(saddle) - E(equilibrium)"),
        "entropy": Field(c.forth.entropy, "k_B", "S(saddle) - S(equilibrium) over positive eigenvalues (eq. 2.8)"),
        "attempt_frequency": Field(c.forth.attempt_frequency, "THz", "Vineyard's"),
        "attempt_frequency_error": Field(
            c.forth.attempt_frequency_error, "THz", "error bar; zero from all eigenvalues"
        ),
        "barrier_back": Field(c.back.barrier, "eV", "from the other end"),
        "entropy_back": Field(c.back.entropy, "k_B"),
        "attempt_frequency_back": Field(c.back.attempt_frequency, "THz"),
        "unstable_eigenvalue": Field(c.unstable, "eV/A^2", "the saddle's negative one"),
        "unstable_relative": Field(c.saddle.lowest[0], "", "relative to the bulk"),
        "second_relative": Field(c.saddle.lowest[1], "", "the next eigenvalue above it: its Ritz value"),
        "crossover_temperature": Field(crossover_temperature(c.unstable_mass), "K", "below it tunnelling takes over"),
        "negative_modes": Field(c.saddle.index),
        "max_force": Field(c.saddle.max_force, "eV/A", "at the saddle"),
        "iterations": Field(c.saddle.iterations, about="from the top of the path to the saddle"),
        "path_iterations": Field(c.path.iterations),
        "site": Field(c.move.site, about="that jumps"),
    }
    if c.connects is not None:
        fields["connects"] = Field(c.connects, about="the saddle's slopes end in the two equilibria")
    return fields


def _rates(c: Crossing, temperature_t: FloatArray) -> Fields:
    return {
        "rates": Field(c.forth.at(temperature_t), "1/s", "over `temperatures`"),
        "rates_back": Field(c.back.at(temperature_t), "1/s"),
    }


def _table(crossings: list[Crossing], temperature_t: FloatArray) -> list[str]:
    """Lines of text: a row for each jump, and its rates by temperature."""
    if not crossings:
        return []
    values = [{key: field.value for key, field in _fields(c).items()} for c in crossings]
    names = [c.move.name for c in crossings]
    rates = [c.forth.at(temperature_t) for c in crossings]
    of_jumps = list(zip(names, values, strict=True))
    return [*quantity_lines(of_jumps), *rate_lines(list(zip(names, rates, values, strict=True)), temperature_t)]


def _astray(strays: list[Stray]) -> str:
    """Why there are no rates."""
    names = ", ".join(f"{s.move.name} ({s.barrier:.4f} eV)" for s in strays)
    first = f"jump {names}: the saddle found does not connect" if len(strays) == 1 else (
        f"jumps {names}: the saddles found do not connect")  # fmt: skip
    return (f"{first} the jump's two equilibria: another jump's, or one of several tops; give jumps to neighbouring "
            "places one by one, or more [rates] images (connect = false takes it unchecked); no rates of this law are "
            "stored")  # fmt: skip


def _passed(move: Move, cell: Supercell, distance: float) -> FloatArray | None:
    """Place (3,) of the site through which the straight way of a jump runs, within `distance`, angstrom; else None.

    That place is beside the way, not wrapped into the cell.
    """
    n = 1 + int(np.ceil(8.0 * np.linalg.norm(move.step_c) / distance))
    way_nc = cell.positions_ac[move.site] + np.linspace(0.0, 1.0, n)[:, None] * move.step_c
    offset_ac, number_a = offsets_to(cell, way_nc)
    distance_a = np.linalg.norm(offset_ac, axis=1)
    distance_a[move.site] = np.inf
    nearest = int(np.argmin(distance_a))
    return way_nc[number_a[nearest]] + offset_ac[nearest] if distance_a[nearest] <= distance else None
