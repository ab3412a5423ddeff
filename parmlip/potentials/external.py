"""Calculators of ASE as laws of whole structures: programs of others, from Python classes to codes behind files.

All is local. ASE takes part in MPI as soon as mpi4py is imported (its files are then written by rank 0 of the world
alone); here every calculator belongs to one process, so ASE is told to be serial before the first one is made.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import ase.parallel
import numpy as np
from ase import Atoms
from ase.calculators import calculator as ase_calculator
from ase.calculators.genericfileio import GenericFileIOCalculator
from numpy.typing import NDArray

from parmlip.config_schema import suggestion
from parmlip.errors import ConfigError, DataError
from parmlip.potentials.total import Evaluated

RealArray = NDArray[np.float64]
_WANTED: Final = ("energy", "free_energy", "forces", "stress", "energies")


@dataclass(eq=False)
class AseLaw:
    """A `TotalLaw` that asks a calculator of ASE. Units are ASE's own: eV and angstrom.

    The calculator is made when it is first needed, or by `connect`. The energy is the one that belongs to the forces
    (`free_energy` where the calculator has it); the virial is -V stress where the calculator gives a stress and the
    cell is periodic in all directions.
    """

    name: str  # of the class or function, as in ase.calculators.emt.EMT
    factory: Any  # that class or function
    options: Mapping[str, Any] = field(default_factory=dict)  # its keywords
    directory: Path | None = None  # where a calculator that writes files does so
    _calculator: Any = field(default=None, repr=False)

    @property
    def species(self) -> tuple[str, ...]:
        """Empty: a calculator tells when it is asked."""
        return ()

    @property
    def closest(self) -> float:
        """0: nothing is known of its range of validity."""
        return 0.0

    @property
    def starts_program(self) -> bool:
        """Whether the calculator starts a program of its own, which wants processors of its own."""
        if not inspect.isclass(self.factory):
            return False
        if issubclass(self.factory, (ase_calculator.FileIOCalculator, GenericFileIOCalculator)):
            return True
        try:  # Vasp is neither, but is told a command and a directory
            named = inspect.signature(self.factory).parameters
        except (TypeError, ValueError):  # a class in C
            return False
        return "directory" in named and any(name.endswith("command") for name in named)

    def in_directory(self, directory: Path) -> AseLaw:
        """The same law, with a calculator of its own that writes its files there."""
        return replace(self, directory=directory, _calculator=None)

    def connect(self) -> Any:
        """The calculator, made now if it was not yet.

        Raises
        ------
        ConfigError
            The class does not take its keywords.
        """
        if self._calculator is None:
            ase.parallel.world.comm = ase.parallel.DummyMPI()
            self._check_keywords()
            try:
                made = self.factory(**self.options)
            except (Exception, SystemExit) as error:  # a constructor of others raises what it likes
                raise ConfigError(
                    f'[reference] calculator = "{self.name}" cannot be made with options {_shown(self.options)}: '
                    f"{_line(error)}"
                ) from error
            if not hasattr(made, "get_potential_energy"):
                raise ConfigError(f'[reference] calculator = "{self.name}": is not a calculator of ASE')
            if self.starts_program and self.directory is not None:
                self.directory.mkdir(parents=True, exist_ok=True)
                made.directory = str(self.directory)
            self._calculator = made
        return self._calculator

    def _check_keywords(self) -> None:
        """ASE's base class swallows any keyword; its own calculators in Python have a closed list of them."""
        if not (inspect.isclass(self.factory) and self.factory.__module__.startswith("ase.")) or self.starts_program:
            return
        known = set(getattr(self.factory, "default_parameters", {}))
        if not known:
            return
        for kind in inspect.getmro(self.factory):
            known |= set(inspect.signature(vars(kind).get("__init__", kind)).parameters) - {"self", "args", "kwargs"}
        for keyword in self.options:
            if keyword not in known:
                near = suggestion(keyword, sorted(known))
                raise ConfigError(f"[reference] options.{keyword}: {self.name} has no such keyword{near}")

    def evaluate(
        self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray, symbols: Sequence[str]
    ) -> Evaluated:
        """Ask the calculator anew about one structure.

        Raises
        ------
        ConfigError
            The calculator cannot be made.
        DataError
            It raises, lacks forces, or gives what is not finite or has a wrong shape.
        """
        calculator = self.connect()
        atoms = Atoms(list(symbols), np.array(positions_ac), cell=np.array(cell_cc), pbc=periodic)
        try:
            found = _results(calculator, atoms)
        except ase_calculator.PropertyNotImplementedError as error:
            raise DataError(f"calculator {self.name} does not give what is needed: {_line(error)}") from error
        except (Exception, SystemExit) as error:  # what a program of others raises when it fails
            raise DataError(f"calculator {self.name} failed: {_line(error)}") from error
        energy = float(found["energy"])
        forces_ac = np.array(found["forces"], dtype=float)
        if forces_ac.shape != (len(atoms), 3):
            raise DataError(f"calculator {self.name}: forces have shape {forces_ac.shape}, not {(len(atoms), 3)}")
        virial_cc = None
        if "stress" in found and atoms.pbc.all():
            stress = np.array(found["stress"], dtype=float)
            stress_cc = stress if stress.shape == (3, 3) else stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
            virial_cc = -atoms.get_volume() * stress_cc
        if not (
            np.isfinite(energy) and np.isfinite(forces_ac).all() and (virial_cc is None or np.isfinite(virial_cc).all())
        ):
            raise DataError(f"calculator {self.name}: energy, forces or stress are not finite")
        site_a = None if "energies" not in found else np.array(found["energies"], dtype=float)
        if site_a is not None and (site_a.shape != (len(atoms),) or abs(site_a.sum() - energy) > 1e-8 * len(atoms)):
            site_a = None  # of another energy than the forces'
        return Evaluated(energy, forces_ac, virial_cc, site_a)


def ase_law(name: str, options: Mapping[str, Any] | None = None) -> AseLaw:
    """The law of a calculator given by the path of its class (or of a function that makes one). Nothing is made yet.

    Raises
    ------
    ConfigError
        The module cannot be imported, or it has no such class.
    """
    where = f'[reference] calculator = "{name}"'
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        raise ConfigError(f"{where}: must be the path of a class, such as ase.calculators.emt.EMT")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # importing a module of others runs it
        raise ConfigError(f"{where}: {module_name} cannot be imported: {_line(error)}") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        known = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
        raise ConfigError(f"{where}: {module_name} has no class {attribute}{suggestion(attribute, known)}")
    return AseLaw(name, factory, dict(options or {}))


def _results(calculator: Any, atoms: Atoms) -> dict[str, Any]:
    """Energy (of which the forces are the derivative), forces, and where there are, stress and site energies."""
    if isinstance(calculator, ase_calculator.BaseCalculator):
        implemented = [name for name in _WANTED if name in calculator.implemented_properties]
        if not atoms.pbc.all():
            implemented = [name for name in implemented if name != "stress"]
        asked = [name for name in implemented if name != "energies"]
        atoms.calc = calculator
        if "forces" not in asked:
            raise ase_calculator.PropertyNotImplementedError("it has no forces")
        calculator.calculate(atoms, asked, list(ase_calculator.all_changes))  # always anew, all in one go
        found: dict[str, Any] = {name: calculator.results[name] for name in implemented if name in calculator.results}
        return {**found, "energy": found.get("free_energy", found.get("energy", np.nan))}
    atoms.calc = calculator
    found = {"forces": atoms.get_forces()}
    try:
        found["energy"] = atoms.get_potential_energy(force_consistent=True)
    except (ase_calculator.PropertyNotImplementedError, TypeError):
        found["energy"] = atoms.get_potential_energy()
    try:
        if atoms.pbc.all():
            found["stress"] = atoms.get_stress()
    except NotImplementedError:
        pass
    return found


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in options.items()) or "(none)"
