"""What the tables of an input file stand for: lattice, laws, supercells, basis; the same on every rank."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

import numpy as np

from parmlip.config import Crystal, Simulation, Study, Surrogate, Training
from parmlip.config import Defect as DefectInput
from parmlip.config_checks import check_within
from parmlip.config_files import held
from parmlip.config_schema import show
from parmlip.config_tables import KEYS_OF_KIND
from parmlip.construct_dislocations import dislocated, oriented_lattice, single
from parmlip.construct_loops import looped
from parmlip.crystal.clamped_domain import ClampedDomain, build_domain, place_in_block
from parmlip.crystal.defects import Defect, Divacancy, Interstitial, Substitution, Vacancy, apply_defects, middle
from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.dislocations import DislocatedCell
from parmlip.crystal.lattices import ORTHORHOMBIC, Lattice, lattice_named
from parmlip.crystal.oriented import Orientation, oriented
from parmlip.crystal.structure_defects import apply_defects_to_structure
from parmlip.crystal.supercell import Supercell, build_supercell, supercell_from_arrays
from parmlip.errors import ConfigError
from parmlip.io.atoms import read_structures
from parmlip.io.extxyz import Keys, LabelledStructure, read_labelled
from parmlip.io.fitted import committee_of, fitted_law
from parmlip.io.reference_cache import CachedLaw, ReferenceCache
from parmlip.io.results import Results
from parmlip.mechanics.bulk import nearest_distance, relaxed_lattice
from parmlip.mechanics.total_energy import relaxed_constant
from parmlip.potentials import bond_order, lammps_files, stillinger_weber, tight_binding, toy
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.committee import Committee
from parmlip.potentials.eam import builtin
from parmlip.potentials.eam_files import read_setfl
from parmlip.potentials.external import ase_law
from parmlip.potentials.tight_binding_contour import ContourTightBinding
from parmlip.potentials.total import TotalLaw

_RIM_MARGIN = 1.0  # angstrom, of the rim beyond what laws need: sites move


def reference_law(study: Study) -> SiteLaw:
    """The law of [reference], which must have site energies.

    Raises
    ------
    ConfigError
        It has none, so that what was asked for cannot be done.
    """
    reference = study.reference
    if reference.is_total:
        raise ConfigError(
            f'[reference] kind = "{reference.kind}": gives energies of whole structures only; what is asked for needs '
            "site energies or second derivatives"
        )
    if reference.kind == "toy":
        return toy.builtin(str(reference.parameters), reference.delta)
    if reference.kind in ("stillinger_weber", "bond_order") and reference.file is not None:
        file, symbols = study.path(reference.file), species_of_tables(study)
        if reference.kind == "stillinger_weber":
            return lammps_files.read_sw(file, symbols)
        return lammps_files.read_tersoff(file, symbols, reference.exponent)
    if reference.kind == "stillinger_weber":
        return stillinger_weber.builtin(str(reference.parameters))
    if reference.kind == "bond_order":
        return bond_order.builtin(str(reference.parameters), reference.exponent)
    if reference.kind == "ace":
        return fitted_law(study.path(str(reference.file)))
    taper = None if reference.taper is None else (reference.taper[0], reference.taper[1])
    if reference.parameters is not None:
        analytic = builtin(reference.parameters, taper)
        return analytic if reference.core == "none" else analytic.with_core()
    law = read_setfl(study.path(str(reference.file)), reference.interpolation)
    return law if taper is None else law.tapered(*taper)


def any_law(study: Study) -> SiteLaw | CachedLaw:
    """The law of [reference] of whatever kind. One of whole structures keeps its results in the cache. Local."""
    reference = study.reference
    if not reference.is_total:
        return reference_law(study)
    law = total_law(study)
    cache = study.path(reference.cache) if reference.cache else study.output.with_suffix(".cache.h5")
    if not cache.parent.is_dir():
        raise ConfigError(f"[reference] cache = {show(reference.cache)}: there is no directory {cache.parent}")
    named = ("kind", "parameters", *KEYS_OF_KIND[reference.kind])
    identity = {name: held(getattr(reference, name), study.contents) for name in named}
    return CachedLaw(law, ReferenceCache(cache, identity))


def total_law(study: Study) -> TotalLaw:
    """The law of [reference] of a kind that gives energies of whole structures only."""
    reference = study.reference
    if reference.kind == "ase":
        programme = ase_law(str(reference.calculator), reference.options)
        return programme.in_directory(study.output.with_suffix(".calculators"))
    x, y, z = reference.k_points
    law = tight_binding.builtin(
        str(reference.parameters), cutoff=reference.cutoff_variant, k_points=(x, y, z),
        k_scheme=cast(Any, reference.k_scheme), electronic_temperature=reference.electronic_temperature,
        fermi_level=reference.fermi_level, charge=reference.charge, convention=cast(Any, reference.convention),
    )  # fmt: skip
    return law if reference.evaluator == "dense" else ContourTightBinding(law, reference.cluster_radius)


def affordable_repeats(study: Study) -> tuple[int, int, int]:
    """Conventional cells of a perfect cell that a law of whole structures can do: with the sites of the first training.

    An orthorhombic cell of the triangular lattice has two conventional ones, here along the second axis.
    """
    table = study.tables["training"][0] if "training" in study.tables else study.simulation
    x, y, z = cast(tuple[int, int, int], table.repeats)
    return (x, 2 * y, z) if isinstance(table, Training) and table.shape == "orthorhombic" else (x, y, z)


def lattice(study: Study, law: SiteLaw | CachedLaw | None) -> tuple[Lattice, float]:
    """The lattice of [crystal] and its lattice constant, angstrom; relaxed with the law if the input says so."""
    crystal = study.crystal
    named = lattice_named(str(crystal.lattice), crystal.c_over_a)
    if law is None:
        return named, float(crystal.lattice_constant)
    if isinstance(law, CachedLaw):
        if crystal.lattice_constant != "relax":
            return named, float(crystal.lattice_constant)
        return named, relaxed_constant(law, named, affordable_repeats(study), crystal.species)
    if crystal.lattice_constant != "relax":
        nearest = nearest_distance(named) * float(crystal.lattice_constant)
        if nearest >= law.cutoff:
            raise ConfigError(
                f"[crystal] lattice_constant = {crystal.lattice_constant}: nearest neighbours are {nearest:.3f} A "
                f"apart, beyond the reference's cutoff {law.cutoff:g} A"
            )
        return named, float(crystal.lattice_constant)
    return relaxed_lattice(law, named, crystal.species)


def supercell(study: Study, table: Simulation | Training, of: tuple[Lattice, float] | None) -> Supercell:
    """The reference configuration of a [simulation] or [[training]] table; `of` is None for a structure file."""
    if of is None:
        atoms = read_structures(study.path(str(study.crystal.file)))[-1].repeat(table.repeats)
        d = study.crystal.dimensions
        periodic = tuple(bool(p) for p in atoms.pbc)
        cell = supercell_from_arrays(atoms.cell.array, periodic, atoms.positions, atoms.get_chemical_symbols(), d)
        where = "[simulation]" if isinstance(table, Simulation) else "[[training]]"
        for i, defect in enumerate(table.defects):
            check_within(f"{where} defects[{i}]", defect, table.repeats, periodic)
        return apply_defects_to_structure(cell, _defects(table.defects, study.crystal), table.repeats)
    domain = clamped_domain(study, table, of)
    if domain is not None:
        return domain.supercell
    with_cores = dislocated(study, table, of) or looped(study, table, of)
    if with_cores is not None:
        return with_cores.supercell
    return apply_defects(perfect_supercell(study, table, of), _defects(table.defects, study.crystal))


def clamped_domain(
    study: Study, table: Simulation | Training, of: tuple[Lattice, float] | None
) -> ClampedDomain | None:
    """The disc or ball of [simulation] with its free and clamped sites; None for a periodic cell."""
    if not isinstance(table, Simulation) or table.domain == "periodic" or of is None or table.radius is None:
        return None
    if table.dislocations is not None:
        bx, by, bz = _vector(table.dislocations.burgers)
        size = of[1] * float(np.linalg.norm(np.array([bx, by, bz]) @ of[0].cell_cc))
        return single(study, table, of, _rim(study, table, size))
    return build_domain(
        *of, study.crystal.species, _defects(table.defects, study.crystal), kind=table.domain, radius=table.radius,
        rim=_rim(study, table, 0.0), frame=_frame(table, of[0]), periods=table.periods,
    )  # fmt: skip


def dislocated_cell(
    study: Study, table: Simulation | Training, of: tuple[Lattice, float]
) -> DislocatedCell | Disc | None:
    """The cell or disc with its cores; None if the table asks for no dislocations."""
    domain = clamped_domain(study, table, of)
    return domain if isinstance(domain, Disc) else dislocated(study, table, of)


def _frame(table: Simulation, lattice: Lattice) -> Orientation | None:
    if table.line is None or table.plane is None:
        return None
    (u, v, w), (h, k, m) = table.line, table.plane
    return oriented(lattice, (u, v, w), (h, k, m))


def _rim(study: Study, table: Simulation, slip: float) -> float:
    """Width of the clamped rim, angstrom: sites whose energies change see no surface, slipped by `slip` or not."""
    cutoffs = {}
    if "reference" in study.tables and not study.reference.is_total:
        cutoffs["reference"] = reference_law(study).cutoff
    if "surrogate" in study.relax.laws and study.surrogate.kind == "ace":
        cutoffs["surrogate"] = study.surrogate.reach
    if not cutoffs:
        if table.rim is None:
            raise ConfigError(
                "[simulation] rim: must be given where no law has a cutoff: twice that of what moves sites"
            )
        return table.rim
    longest = max(cutoffs, key=lambda name: cutoffs[name])
    least = 2.0 * cutoffs[longest] + slip
    if table.rim is None:
        return least + _RIM_MARGIN
    if table.rim < least:
        raise ConfigError(
            f"[simulation] rim = {table.rim:g}: must be at least {least:.2f} A, twice the {longest}'s cutoff "
            f"{cutoffs[longest]:g} A" + (" and the Burgers vector" if slip else "")
        )
    return table.rim


def perfect_supercell(study: Study, table: Simulation | Training, of: tuple[Lattice, float]) -> Supercell:
    """The same without the defects."""
    return build_supercell(*cell_of(table, of), table.repeats, study.crystal.species)


def cell_of(table: Simulation | Training, of: tuple[Lattice, float]) -> tuple[Lattice, float]:
    """The lattice in the cell that the table repeats."""
    if table.dislocations is not None:
        return oriented_lattice(table, of)
    if isinstance(table, Simulation):
        frame = _frame(table, of[0])
        return of if frame is None else (frame.lattice, of[1])
    orthorhombic = isinstance(table, Training) and table.shape == "orthorhombic"
    return (ORTHORHOMBIC[of[0].name], of[1]) if orthorhombic else of


def _defects(inputs: tuple[DefectInput, ...], crystal: Crystal) -> list[Defect]:
    return [_defect(defect, crystal) for defect in inputs]


def _defect(given: DefectInput, crystal: Crystal) -> Defect:
    at = _vector(given.at)
    if given.kind == "vacancy":
        return Vacancy(at)
    if given.kind == "divacancy":
        return Divacancy(at, _vector(given.direction))
    species = given.species or crystal.species[0]
    if given.kind == "substitution":
        return Substitution(at, species)
    position = None if given.position is None else _vector(given.position)
    return Interstitial(species, position=position, site=given.site, at=at)


def _vector(v: tuple[float, ...] | None) -> tuple[float, float, float]:
    x, y, z = (*(v or ()), 0.0, 0.0, 0.0)[:3]
    return x, y, z


def ace_basis(
    surrogate: Surrogate, species: tuple[str, ...], of: tuple[Lattice, float] | None, nearest: float | None = None
) -> ACEBasis:
    """The basis of [surrogate]; `r0 = "nearest"` is the lattice's distance, else `nearest`, else 2.5 angstrom."""
    if of is not None:
        nearest = of[1] * nearest_distance(of[0])
    nearest = 2.5 if nearest is None else nearest
    if nearest >= surrogate.cutoff:
        raise ConfigError(
            f"[surrogate] cutoff = {surrogate.cutoff:g}: must be greater than the nearest-neighbour distance "
            f"{nearest:.3f} A"
        )
    r0 = nearest if isinstance(surrogate.r0, str) else surrogate.r0
    if surrogate.inner_cutoff * r0 >= surrogate.cutoff:
        raise ConfigError(
            f"[surrogate] inner_cutoff = {surrogate.inner_cutoff:g}: {surrogate.inner_cutoff:g} r0 = "
            f"{surrogate.inner_cutoff * r0:.3f} A must be less than the cutoff {surrogate.cutoff:g} A"
        )
    pair_cutoff = surrogate.cutoff if isinstance(surrogate.pair_cutoff, str) else surrogate.pair_cutoff
    if surrogate.pair_degree and nearest >= pair_cutoff:
        raise ConfigError(
            f"[surrogate] pair_cutoff = {pair_cutoff:g}: must be greater than the nearest-neighbour distance "
            f"{nearest:.3f} A"
        )
    inner, outer = (x * r0 for x in surrogate.repulsion_range)
    if surrogate.repulsion != "none" and outer >= nearest:
        raise ConfigError(
            f"[surrogate] repulsion_range = {show(surrogate.repulsion_range)}: ends at {outer:.3f} A, but must end "
            f"below the nearest-neighbour distance {nearest:.3f} A"
        )
    return ACEBasis(
        species=species,
        correlation_order=surrogate.correlation_order,
        total_degree=surrogate.total_degree,
        cutoff=surrogate.reach,
        r0=r0,
        r_in=surrogate.inner_cutoff * r0,
        p_cut=surrogate.cutoff_power,
        p_in=surrogate.inner_power,
        weight_l=surrogate.angular_weight,
        transform_power=surrogate.transform_power,
        dimension=surrogate.dimension,
        pair_degree=surrogate.pair_degree,
        pair_cutoff=pair_cutoff,
        many_body_cutoff=surrogate.cutoff,
        pair_p_in=0 if surrogate.repulsion == "none" else surrogate.inner_power,
        repulsion=surrogate.repulsion,
        repulsion_range=(0.0, 0.0) if surrogate.repulsion == "none" else (inner, outer),
    )


def defect_centres(study: Study, table: Simulation | Training, of: tuple[Lattice, float]) -> np.ndarray:
    """Positions (n, 3) of the defects of a table, angstrom: their `position`, or the lattice site `at`."""
    at = [_vector(d.position if d.position is not None else d.at) for d in table.defects]
    return _in_cell(study, table, of, at)


def defect_middles(study: Study, table: Simulation | Training, of: tuple[Lattice, float]) -> np.ndarray:
    """Positions (n, 3) about which the defects of a table lie, angstrom: see `crystal.defects.middle`."""
    named = of[0] if isinstance(table, Simulation) else cell_of(table, of)[0]
    return _in_cell(study, table, of, [middle(d, named) for d in _defects(table.defects, study.crystal)])


def _in_cell(
    study: Study, table: Simulation | Training, of: tuple[Lattice, float], at: list[tuple[float, float, float]]
) -> np.ndarray:
    """Conventional-cell coordinates as positions (n, 3) in the table's cell or domain, angstrom."""
    named, constant = cell_of(table, of)
    cell_cc = named.cell(constant)
    domain = clamped_domain(study, table, of)
    if domain is None:
        return np.array(at).reshape(-1, 3) @ cell_cc
    placed = [place_in_block(x, of[0], domain.frame) for x in at]
    return np.array(placed).reshape(-1, 3) @ cell_cc + domain.centre_c


def surrogate_law(results: Results) -> ACE:
    """The fitted law of a result file. Collective on ``results.comm``."""
    return ACE(ACEBasis.from_parameters(results.read("train", "basis")), results.read("train", "coefficients"))


def surrogate_committee(results: Results) -> Committee | None:
    """The committee of the fitted law of a result file; None if it has none. Collective on ``results.comm``."""
    if "committee" not in results.names("train"):
        return None
    basis = ACEBasis.from_parameters(results.read("train", "basis"))
    scales = (results.read("train", f"calibration_{of}") for of in ("energy", "force"))
    return committee_of(basis, results.read("train", "committee"), *map(float, scales))


def labelled_structures(study: Study) -> tuple[list[LabelledStructure], list[LabelledStructure], Keys]:
    """Training and test structures of [dataset], and the keys of their labels. Local."""
    d = study.dataset
    given = Keys(d.energy_key or None, d.force_key or None, d.virial_key or None, d.stress_key or None)
    train, test = ([study.path(name) for name in names] for names in (d.train, d.test))
    return read_labelled(train, test, given, d.type_key)


def type_weights(study: Study) -> dict[str, float | dict[str, float]]:
    """Weights by configuration type: numbers of [[training]], or numbers by observation of [dataset.weights]."""
    if "dataset" in study.tables:
        return {kind: asdict(weights) for kind, weights in study.dataset.weights.items()}
    return {t.name or f"training-{i + 1}": t.weight for i, t in enumerate(study.training)}


def species_of_tables(study: Study) -> tuple[str, ...]:
    """All species of the input, sorted, so that the surrogate's order does not depend on that of the tables."""
    tables: list[Any] = [*study.tables.get("training", ()), study.tables.get("simulation")]
    added = {d.species for t in tables if t is not None for d in t.defects if d.species}
    return tuple(sorted({*(study.crystal.species if "crystal" in study.tables else ()), *added}))
