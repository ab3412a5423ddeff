"""Checks of the input across keys and tables: what each value alone cannot tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from parmlip.config_dislocation_tables import (
    check_controlled_lines,
    check_dislocations,
    check_elastic_error,
    check_offsets,
)
from parmlip.config_domain_tables import check_domain
from parmlip.config_entropy_tables import check_entropy
from parmlip.config_fit_tables import (
    LATTICE_NAMES,
    OBSERVATION_NAMES,
    TAYLOR_KEYS,
    TOTAL_OBSERVATIONS,
    Fit,
    Surrogate,
    check_entropy_target,
)
from parmlip.config_locality_tables import check_locality
from parmlip.config_qmmm_tables import check_far_field, check_qmmm
from parmlip.config_rates_tables import check_around, check_rates
from parmlip.config_schema import plain, read_table, show
from parmlip.config_tables import (
    KEYS_OF_KIND,
    LATTICE_DIMENSION,
    LATTICE_SLOTS,
    PARAMETER_KINDS,
    PARAMETER_SETS,
    Crystal,
    Defect,
    Reference,
)
from parmlip.errors import ConfigError

# Chemical symbols of elements 1 to 118, as ASE has them (not imported: the check must be fast).
_SYMBOLS: Final = frozenset(
    re.findall(
        "[A-Z][a-z]?",
        "HHeLiBeBCNOFNeNaMgAlSiPSClArKCaScTiVCrMnFeCoNiCuZnGaGeAsSeBrKrRbSrYZrNbMoTcRuRhPdAgCdInSnSbTeIXeCsBaLaCePrNd"
        "PmSmEuGdTbDyHoErTmYbLuHfTaWReOsIrPtAuHgTlPbBiPoAtRnFrRaAcThPaUNpPuAmCmBkCfEsFmMdNoLrRfDbSgBhHsMtDsRgCnNhFlMcLvTsOg",
    )
)
# Cubic lattices whose every site is a centre of inversion: sites do not move against each other under strain.
_INVERSION: Final = ("bcc", "fcc", "sc", "b2")
# Rounded coordinates of defects may lie this far before the cell's first site, in cell vectors.
_ROUNDED: Final = 2e-3
# Keys of each kind of defect: required, allowed.
_DEFECT_KEYS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "vacancy": (("at",), ()),
    "divacancy": (("at", "direction"), ()),
    "interstitial": ((), ("site", "position", "at", "species")),
    "substitution": (("at", "species"), ()),
}


def check_tables(tables: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for values that are right one by one but not together."""
    crystal, reference = tables.get("crystal"), tables.get("reference")
    if len(set(tables["run"].stages)) != len(tables["run"].stages):
        raise ConfigError(f"[run] stages = {show(tables['run'].stages)}: has a stage twice")
    if not tables["run"].output.endswith((".h5", ".hdf5")):
        raise ConfigError(f"[run] output = {show(tables['run'].output)}: must end in .h5")
    check_far_field(tables)
    check_domain(tables, LATTICE_DIMENSION)
    if crystal is not None:
        _check_crystal(crystal)
        cells = [("[simulation]", tables.get("simulation"))]
        cells += [(f"[[training]] {i + 1}", t) for i, t in enumerate(tables.get("training", ()))]
        for where, table in cells:
            if table is not None:
                if getattr(table, "domain", "periodic") == "periodic":
                    _check_cell(where, table.cell, crystal)
                if getattr(table, "shape", "conventional") == "orthorhombic" and crystal.lattice != "triangular":
                    raise ConfigError(f'{where} shape = "orthorhombic": is for [crystal] lattice = "triangular"')
                for i, defect in enumerate(table.defects):
                    _check_defect(f"{where} defects[{i}]", defect, crystal)
                    if crystal.lattice is not None:
                        check_within(f"{where} defects[{i}]", defect, table.cell[: crystal.dimensions])
                if table.dislocations is not None:
                    check_dislocations(where, table.dislocations, table, crystal)
    if reference is not None:
        _check_reference(reference)
        if crystal is not None:
            _check_species(tables, crystal, reference)
        if reference.is_total and "dataset" not in tables:
            _check_total(tables, reference)
    if "dataset" in tables:
        _check_dataset(tables)
    elif crystal is not None and crystal.file and not crystal.species and "train" in tables["run"].stages:
        raise ConfigError("[crystal] missing key 'species': the chemical symbols that the surrogate of a file is for")
    surrogate = tables["surrogate"]
    degrees = surrogate.total_degree
    if not isinstance(degrees, int) and len(degrees) != surrogate.correlation_order:
        raise ConfigError(
            f"[surrogate] total_degree = {show(degrees)}: must be one number, or one for each of the "
            f"{surrogate.correlation_order} correlation orders"
        )
    if not isinstance(surrogate.r0, str) and surrogate.r0 * surrogate.inner_cutoff >= surrogate.cutoff:
        raise ConfigError(
            f"[surrogate] cutoff = {show(surrogate.cutoff)}: must be greater than inner_cutoff * r0 = "
            f"{surrogate.r0 * surrogate.inner_cutoff:g}"
        )
    if surrogate.pair_degree == 0 and surrogate.pair_cutoff != "cutoff":
        raise ConfigError(f"[surrogate] pair_cutoff = {show(surrogate.pair_cutoff)}: needs pair_degree above 0")
    if surrogate.repulsion_range[0] >= surrogate.repulsion_range[1]:
        raise ConfigError(f"[surrogate] repulsion_range = {show(surrogate.repulsion_range)}: must rise")
    if surrogate.pair_degree and surrogate.correlation_order == 1:
        raise ConfigError(
            f"[surrogate] pair_degree = {surrogate.pair_degree}: pair functions stand in place of those of order one; "
            "correlation_order must be above 1"
        )
    _check_controlled(tables)
    check_offsets(tables)
    check_entropy_target(tables)
    _check_advise(tables)
    check_rates(tables)
    check_entropy(tables)
    check_around(tables)
    check_locality(tables)
    check_qmmm(tables)
    if tables["qmmm"].mm_law:
        _check_mm_law(tables["qmmm"].mm_law)
    _check_fit(tables)
    if tables["relax"].error_bars > tables["fit"].committee:
        raise ConfigError(
            f"[relax] error_bars = {tables['relax'].error_bars}: must be at most [fit] committee = "
            f"{tables['fit'].committee}"
        )


def _check_advise(tables: Mapping[str, Any]) -> None:
    """Advice is about one fit and the perfect crystal that its far field is a deformation of."""
    if "advise" not in tables["run"].stages:
        return
    crystal = tables.get("crystal")
    if crystal is not None and crystal.lattice is None:
        raise ConfigError('[run] stages: "advise" needs [crystal] lattice, not a structure file')
    if "dataset" in tables:
        raise ConfigError('[run] stages: "advise" needs a [reference] and [[training]], not a [dataset]')
    if tables["surrogate"].kind == "taylor":
        raise ConfigError('[run] stages: "advise" is for a fitted surrogate, not for [surrogate] kind = "taylor"')


def _check_fit(tables: Mapping[str, Any]) -> None:
    fit, crystal = tables["fit"], tables.get("crystal")
    if all(weight == 0.0 for weight in plain(fit.weights).values()):
        raise ConfigError("[fit] weights: all are zero; at least one must be greater than 0")
    if fit.balance and not (fit.weights.energy > 0.0 and fit.weights.force > 0.0):
        raise ConfigError("[fit] balance: needs weights of energy and force above 0")
    for name in fit.observed:
        where = f"[fit] {'observations' if name in fit.observations else 'weights'}: {name}"
        if "dataset" in tables and name not in OBSERVATION_NAMES[:3]:
            raise ConfigError(f"{where}: needs labels of a [reference] law, which a [dataset] does not have")
        if name in LATTICE_NAMES and crystal is not None and crystal.lattice is None:
            raise ConfigError(f"{where}: needs [crystal] lattice, not a structure file")
    if any(name in LATTICE_NAMES for name in fit.observed):
        for i, t in enumerate(tables.get("training", ())):
            if t.name == "lattice":
                raise ConfigError(f'[[training]] {i + 1} name = "lattice": is the type of the lattice observations')
    if "dataset" in tables:
        _check_numbers(fit, crystal)
        if "reference" not in tables:
            _check_without_reference(tables)
    elif fit.elastic_constants is not None or fit.bulk_energy is not None:
        name = "bulk_energy" if fit.elastic_constants is None else "elastic_constants"
        raise ConfigError(f"[fit] {name}: is for a [dataset]; with a [reference] its own is taken")


def _check_controlled(tables: Mapping[str, Any]) -> None:
    """A controlled surrogate needs site energies of a law, a lattice, and one defect in each training cell."""
    surrogate, crystal = tables["surrogate"], tables.get("crystal")
    if surrogate.kind != "taylor":
        for name in TAYLOR_KEYS:
            if getattr(surrogate, name) != getattr(Surrogate(), name):
                raise ConfigError(f'[surrogate] {name} = {show(getattr(surrogate, name))}: is for kind = "taylor"')
        return
    where = '[surrogate] kind = "taylor"'
    if "dataset" in tables:
        raise ConfigError(f"{where}: is an expansion of the [reference] law; remove [dataset]")
    if "reference" in tables and tables["reference"].is_total:
        raise ConfigError(f"{where}: [reference] kind = {show(tables['reference'].kind)} has no site energies; "
                          'fit one to it: kind = "ace", with a [[training]] table')  # fmt: skip
    if tables["fit"].committee:
        raise ConfigError(f"[fit] committee = {tables['fit'].committee}: must be 0 with {where}, which is not fitted")
    if crystal is not None and crystal.lattice is None:
        raise ConfigError(f"{where}: needs [crystal] lattice, not a structure file")
    if surrogate.third_order_error != 0.0 and surrogate.order != 3:
        raise ConfigError(f"[surrogate] third_order_error = {surrogate.third_order_error:g}: needs order = 3")
    check_elastic_error(surrogate.elastic_error, crystal)
    if surrogate.states == "equilibrium":
        if "training" not in tables:
            raise ConfigError(f'{where}, states = "equilibrium": needs [[training]] cells; or write states = "lattice"')
        if getattr(tables.get("simulation"), "dislocations", None) is not None:
            check_controlled_lines(tables)
            return
        for i, t in enumerate(tables["training"]):
            if len(t.defects) != 1:
                raise ConfigError(f"[[training]] {i + 1} defects: must be one with {where}, not {len(t.defects)}")


def _check_without_reference(tables: Mapping[str, Any]) -> None:
    """A data set alone: the surrogate can be relaxed, but there is nothing to relax the lattice or compare with."""
    asked, crystal = tables["run"].stages, tables.get("crystal")
    if "relax" in asked and "reference" in tables["relax"].laws:
        raise ConfigError('[relax] laws: without a [reference] write laws = ["surrogate"]')
    if "build" in asked and crystal is not None and crystal.lattice and isinstance(crystal.lattice_constant, str):
        raise ConfigError("[crystal] lattice_constant: without a [reference] it must be a number")


def _check_numbers(fit: Fit, crystal: Crystal | None) -> None:
    """Numbers that stand for the reference's crystal in constraints."""
    for name, given in (("elastic", fit.elastic_constants), ("energy", fit.bulk_energy)):
        key = "elastic_constants" if name == "elastic" else "bulk_energy"
        if given is not None and name not in fit.constraints:
            raise ConfigError(f'[fit] {key}: needs "{name}" in constraints')
        if given is None and name in fit.constraints:
            raise ConfigError(f"[fit] constraints: {show(name)} needs [fit] {key} with a [dataset]")
    if fit.elastic_constants is not None and set(fit.elastic_constants) != {"C11", "C12", "C44"}:
        raise ConfigError(f"[fit] elastic_constants = {show(fit.elastic_constants)}: must have C11, C12 and C44")
    if fit.constraints and (crystal is None or crystal.lattice is None or isinstance(crystal.lattice_constant, str)):
        raise ConfigError(
            "[fit] constraints: with a [dataset] they need [crystal] lattice and a number for lattice_constant"
        )
    if fit.elastic_constants is not None and crystal is not None and crystal.lattice not in _INVERSION:
        raise ConfigError(f"[fit] elastic_constants: of lattice {show(crystal.lattice)} cannot be constrained: inner "
                          f"displacements; it must be one of {', '.join(_INVERSION)}")  # fmt: skip


def _check_crystal(crystal: Crystal) -> None:
    if (crystal.lattice is None) == (crystal.file is None):
        raise ConfigError("[crystal] needs either 'lattice' or 'file'" + (", not both" if crystal.lattice else ""))
    for i, symbol in enumerate(crystal.species):
        if symbol not in _SYMBOLS:
            raise ConfigError(f"[crystal] species[{i}] = {show(symbol)}: is not a chemical symbol")
    if crystal.lattice is None:
        if crystal.c_over_a is not None:
            raise ConfigError('[crystal] c_over_a: is for lattice = "hcp", not for a file')
        return
    if not crystal.species:
        raise ConfigError("[crystal] missing key 'species': a list of chemical symbols, one for each sublattice")
    slots = LATTICE_SLOTS[crystal.lattice]
    if len(crystal.species) != slots:
        raise ConfigError(f'[crystal] species = {show(crystal.species)}: lattice "{crystal.lattice}" needs {slots}')
    if crystal.c_over_a is not None and crystal.lattice != "hcp":
        raise ConfigError(f'[crystal] c_over_a: is for lattice = "hcp", not "{crystal.lattice}"')
    if crystal.dimension not in (None, LATTICE_DIMENSION[crystal.lattice]):
        raise ConfigError(
            f'[crystal] dimension = {crystal.dimension}: lattice "{crystal.lattice}" has dimension '
            f"{LATTICE_DIMENSION[crystal.lattice]}; leave the key out"
        )


def _check_cell(where: str, cell: tuple[int, ...], crystal: Crystal) -> None:
    d = crystal.dimensions
    if len(cell) < d:
        raise ConfigError(f"{where} cell = {show(cell)}: must have {d} members in {d} dimensions")
    if any(n != 1 for n in cell[d:]):
        raise ConfigError(f"{where} cell = {show(cell)}: directions that do not move must have 1 cell")


def _check_defect(where: str, defect: Defect, crystal: Crystal) -> None:
    required, allowed = _DEFECT_KEYS[defect.kind]
    given = {name for name in plain(defect) if name != "kind"}
    for name in required:
        if name not in given:
            raise ConfigError(f"{where} missing key '{name}' of a {defect.kind}")
    for name in sorted(given - {*required, *allowed}):
        raise ConfigError(f"{where} key '{name}' is not for a {defect.kind}")
    if defect.kind == "interstitial" and (defect.site is None) == (defect.position is None):
        raise ConfigError(f"{where} an interstitial needs either 'site' or 'position'")
    if crystal.file is not None and defect.site is not None:
        raise ConfigError(
            f"{where} site = {show(defect.site)}: is of a named lattice; in a structure from a file give 'position', "
            "in units of the file's cell vectors"
        )
    if defect.kind == "interstitial" and defect.species is None and not crystal.species:
        raise ConfigError(f"{where} missing key 'species': a structure from a file does not say which it is")
    if defect.kind == "divacancy" and defect.direction is not None and not any(defect.direction):
        raise ConfigError(f"{where} direction = {show(defect.direction)}: must not be zero")
    for name in ("at", "direction", "position"):
        vector = getattr(defect, name)
        if vector is not None and len(vector) < crystal.dimensions:
            raise ConfigError(f"{where} {name} = {show(vector)}: must have {crystal.dimensions} members")
    if defect.species is not None and defect.species not in _SYMBOLS:
        raise ConfigError(f"{where} species = {show(defect.species)}: is not a chemical symbol")


def _check_dataset(tables: Mapping[str, Any]) -> None:
    dataset = tables["dataset"]
    if "training" in tables:
        raise ConfigError("[dataset] and [[training]] exclude each other: either files or a reference law give labels")
    twice = [file for i, file in enumerate(dataset.train) if file in (*dataset.train[:i], *dataset.test)]
    if twice:
        raise ConfigError(f"[dataset] train: {show(twice[0])} is named twice; training and test files must differ")
    if not isinstance(dataset.one_body, str):
        for symbol in dataset.one_body:
            if symbol not in _SYMBOLS:
                raise ConfigError(f"[dataset] one_body: {show(symbol)} is not a chemical symbol")


def _check_mm_law(given: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless the table could be a [reference] with site energies."""
    law = read_table(Reference, given, "[qmmm] mm_law")
    try:
        _check_reference(law)
    except ConfigError as error:
        raise ConfigError(str(error).replace("[reference]", "[qmmm] mm_law")) from None
    if law.is_total:
        raise ConfigError(f"[qmmm] mm_law: kind = {show(law.kind)} has no site energies, which an MM law needs")


def _check_reference(reference: Reference) -> None:
    given, fresh = plain(reference), plain(Reference())
    for kind, names in KEYS_OF_KIND.items():
        for name in names:
            if kind != reference.kind and given.get(name) != fresh.get(name):
                raise ConfigError(
                    f'[reference] {name} = {show(given[name])}: is for kind = "{kind}", not {show(reference.kind)}'
                )
    if reference.kind == "ase":
        for name in ("parameters", "file", "taper"):
            if getattr(reference, name) is not None:
                raise ConfigError(f'[reference] {name} = {show(getattr(reference, name))}: is not for kind = "ase"')
        if not reference.calculator or "." not in reference.calculator:
            raise ConfigError(
                "[reference] kind = \"ase\" needs 'calculator': the path of a class, such as ase.calculators.emt.EMT"
            )
        return
    if reference.kind == "ace":
        for name in ("parameters", "taper"):
            if getattr(reference, name) is not None:
                raise ConfigError(f'[reference] {name} = {show(getattr(reference, name))}: is not for kind = "ace"')
    if reference.parameters is not None and PARAMETER_KINDS[reference.parameters] != reference.kind:
        raise ConfigError(
            f"[reference] parameters = {show(reference.parameters)}: is a set of kind = "
            f"{show(PARAMETER_KINDS[reference.parameters])}, not {show(reference.kind)}"
        )
    if reference.cluster_radius is not None and reference.evaluator != "contour":
        raise ConfigError(
            f'[reference] cluster_radius = {show(reference.cluster_radius)}: is for evaluator = "contour", '
            f"not {show(reference.evaluator)}"
        )
    if reference.evaluator == "contour" and reference.electronic_temperature == 0.0:
        raise ConfigError('[reference] electronic_temperature = 0.0: must be above 0 for evaluator = "contour"')
    if reference.evaluator == "contour" and reference.convention != "free_energy":
        raise ConfigError(
            f'[reference] convention = {show(reference.convention)}: evaluator = "contour" has "free_energy" only'
        )
    if reference.kind in ("stillinger_weber", "bond_order", "toy", "tight_binding"):
        from_file = reference.kind in ("stillinger_weber", "bond_order")
        for name in ("taper",) if from_file else ("file", "taper"):
            if getattr(reference, name) is not None:
                raise ConfigError(f"[reference] {name}: is not for kind = {show(reference.kind)}")
        if reference.parameters is None and not (from_file and reference.file is not None):
            known = ", ".join(show(name) for name, kind in PARAMETER_KINDS.items() if kind == reference.kind)
            raise ConfigError(f"[reference] kind = {show(reference.kind)} needs 'parameters': one of {known}")
    if reference.delta != Reference().delta and reference.kind != "toy":
        raise ConfigError(f'[reference] delta: is for kind = "toy", not {show(reference.kind)}')
    if reference.exponent != "lammps" and reference.kind != "bond_order":
        raise ConfigError(f'[reference] exponent: is for kind = "bond_order", not {show(reference.kind)}')
    if reference.interpolation != "quintic" and reference.parameters is not None:
        raise ConfigError(
            f"[reference] interpolation = {show(reference.interpolation)}: is for the tables of a 'file'; "
            f"{show(reference.parameters)} has formulas"
        )
    if reference.core != "none" and reference.parameters != "W-EAM4":
        law = "tables of a 'file' have their own" if reference.file else f"{show(reference.parameters)} needs none"
        raise ConfigError(f'[reference] core = {show(reference.core)}: is for parameters = "W-EAM4"; {law}')
    if (reference.parameters is None) == (reference.file is None):
        raise ConfigError(
            "[reference] needs either 'parameters' or 'file'" + (", not both" if reference.parameters else "")
        )
    if reference.taper is not None and reference.taper[0] >= reference.taper[1]:
        raise ConfigError(f"[reference] taper = {show(reference.taper)}: must be [start, cutoff] with start < cutoff")


def _check_total(tables: Mapping[str, Any], reference: Reference) -> None:
    """What a law of whole structures cannot give must not be asked for."""
    fit, kind = tables["fit"], f'[reference] kind = "{reference.kind}"'
    if fit.constraints:
        raise ConfigError(f"[fit] constraints = {show(fit.constraints)}: {kind} has no second derivatives")
    for name in fit.observed:
        if name not in TOTAL_OBSERVATIONS:
            where = f"observations: {name}" if name in fit.observations else f"weights.{name}"
            raise ConfigError(f"[fit] {where}: {kind} gives only {', '.join(TOTAL_OBSERVATIONS)}")


def _check_species(tables: Mapping[str, Any], crystal: Crystal, reference: Reference) -> None:
    if reference.parameters is None:
        return  # the file's species are checked when it is read
    known = PARAMETER_SETS[reference.parameters]
    used = [("[crystal] species", s) for s in crystal.species]
    cells = [("[simulation]", tables.get("simulation"))]
    cells += [(f"[[training]] {i + 1}", t) for i, t in enumerate(tables.get("training", ()))]
    for where, table in cells:
        if table is not None:
            used += [(f"{where} defects[{i}] species", d.species) for i, d in enumerate(table.defects) if d.species]
    for where, symbol in used:
        if symbol not in known:
            raise ConfigError(
                f"{where}: {symbol} has no parameters in [reference] parameters = {show(reference.parameters)} "
                f"(it has {', '.join(known)})"
            )


def check_within(where: str, defect: Defect, cell: tuple[int, ...], periodic: tuple[bool, ...] = (True,) * 3) -> None:
    """Raise `ConfigError` for a defect beyond its cell: the image that it would be there is seldom what was meant.

    `cell` counts the cells whose vectors are the units of the defect's coordinates.
    """
    for name in ("at", "position"):
        given = getattr(defect, name)
        if given is None:
            continue
        outside = [wraps and not -_ROUNDED <= x < n for x, n, wraps in zip(given, cell, periodic, strict=False)]
        if any(outside):
            image = [float(f"{x % n:.6g}") if out else x for x, n, out in zip(given, cell, outside, strict=False)]
            raise ConfigError(
                f"{where} {name} = {show(given)}: is beyond the cell = {show(cell)}, where coordinates go from 0 to "
                f"below these numbers (its periodic image there is {show(image)})"
            )
