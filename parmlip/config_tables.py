"""The tables of the input file: one frozen dataclass each, with every default. Lengths in angstrom, energies in eV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from parmlip.config_schema import key

STAGE_NAMES: Final = ("build", "reference", "train", "match", "relax", "compare", "advise", "report")
DEFAULT_STAGES: Final = tuple(name for name in STAGE_NAMES if name not in ("match", "advise"))
# Lattices: number of species slots and of components that move; `crystal.lattices.LATTICES` has the geometry.
LATTICE_SLOTS: Final = MappingProxyType(
    {"bcc": 1, "fcc": 1, "sc": 1, "diamond": 1, "b2": 2, "hcp": 1, "triangular": 1, "square": 1, "chain": 1}
)
LATTICE_DIMENSION: Final = MappingProxyType(
    {"bcc": 3, "fcc": 3, "sc": 3, "diamond": 3, "b2": 3, "hcp": 3, "triangular": 2, "square": 2, "chain": 1}
)
# Built-in parameter sets and the species they describe; `builtin` of the modules in `potentials` have the numbers.
PARAMETER_SETS: Final = MappingProxyType(
    {
        "W-FS84": ("W",), "chain-toy": ("H", "He", "Li"), "square-toy": ("H", "He", "Li"),
        "W-EAM4": ("W",), "W-Zhou": ("W",), "Cu-Mishin2001": ("Cu",), "Si-SW": ("Si",), "Si-SW-2.1682": ("Si",),
        "Si-SW-2.1675": ("Si",), "Si-PPM2017": ("Si",), "Si-Tersoff1989": ("Si",), "Si-NRLTB": ("Si",),
    }
)  # fmt: skip
PARAMETER_KINDS: Final = MappingProxyType(
    {
        "W-FS84": "eam", "chain-toy": "toy", "square-toy": "toy",
        "W-EAM4": "eam", "W-Zhou": "eam", "Cu-Mishin2001": "eam", "Si-SW": "stillinger_weber",
        "Si-SW-2.1682": "stillinger_weber", "Si-SW-2.1675": "stillinger_weber", "Si-PPM2017": "bond_order",
        "Si-Tersoff1989": "bond_order", "Si-NRLTB": "tight_binding",
    }
)  # fmt: skip
# Keys of [surrogate] that only controlled surrogates have.
TAYLOR_KEYS: Final = ("order", "force_constant_error", "states", "near")
# Laws that give energies of whole structures only: no site energies, no Hessians.
TOTAL_KINDS: Final = ("ase", "tight_binding")
# Keys of [reference] that only one kind of law has.
KEYS_OF_KIND: Final = MappingProxyType(
    {
        "ase": ("calculator", "options"),
        "tight_binding": (
            "cutoff_variant", "k_points", "k_scheme", "electronic_temperature", "fermi_level", "charge", "convention",
            "evaluator", "cluster_radius",
        ),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """[run]: what is done and where the results go."""

    stages: tuple[str, ...] = key(
        DEFAULT_STAGES, choices=STAGE_NAMES, later=("entropy", "rates", "qmmm"), length=(1, 9)
    )
    output: str = key("", about="name of the HDF5 file; by default the input's name with .h5")
    seed: int = key(1, least=0)
    groups: int = key(1, least=1, about="groups of ranks that do points of a sweep side by side")
    threads: int = key(1, least=1, about="threads of the linear algebra libraries on each rank")


@dataclass(frozen=True)
class Crystal:
    """[crystal]: the perfect crystal, either a named lattice or a structure file."""

    lattice: str | None = key(None, choices=LATTICE_SLOTS)
    file: str | None = key(None, about="structure file that ASE reads")
    species: tuple[str, ...] = key((), about="a list of chemical symbols, one for each sublattice")
    lattice_constant: Literal["relax"] | float = key("relax", above=0.0)
    c_over_a: float | None = key(None, above=0.0, about="hcp only; ideal by default")
    dimension: int | None = key(None, least=1, most=3, about="components that move, for a structure file")

    @property
    def dimensions(self) -> int:
        """Number of components that move (1, 2 or 3)."""
        return self.dimension or (LATTICE_DIMENSION[self.lattice] if self.lattice else 3)


@dataclass(frozen=True)
class Reference:
    """[reference]: the law that is right and dear."""

    kind: str = key(
        "eam",
        choices=("eam", "ace", "toy", "stillinger_weber", "bond_order", "tight_binding", "ase"),
    )
    parameters: str | None = key(None, choices=PARAMETER_SETS, about="a built-in parameter set")
    file: str | None = key(None, about="setfl; LAMMPS' .sw, .tersoff, .tersoff.mod, .modc; for ace .yace or result")
    taper: tuple[float, ...] | None = key(None, above=0.0, length=(2, 2), about="[start, cutoff] in angstrom")
    delta: float = key(0.5, about="toy: coefficient of the cubic term of a bond")
    exponent: str = key(
        "lammps", choices=("lammps", "published"), about="bond_order: exp[(alpha x)^m] or exp[alpha x^m]"
    )
    calculator: str | None = key(None, about="ase: path of a class or function, such as ase.calculators.emt.EMT")
    options: dict[str, Any] = field(default_factory=dict, metadata={"about": "ase: keywords of the calculator"})
    ranks_per_calculator: int = key(
        0, least=0, about="ase, tight_binding: ranks that share one; 0: 1, or all where it starts a program"
    )
    cache: str = key("", about="ase, tight_binding: file of kept results; by default the output's name with .cache.h5")
    cutoff_variant: str = key(
        "quip", choices=("original", "quip", "energy_shift", "force_shift"), about="tight_binding: end of the functions"
    )
    k_points: tuple[int, ...] = key((1, 1, 1), least=1, length=(3, 3), about="tight_binding: mesh for every cell")
    k_scheme: str = key("monkhorst_pack", choices=("monkhorst_pack", "gamma_centred"), about="tight_binding")
    electronic_temperature: float = key(0.01, least=0.0, about="tight_binding: k_B T, eV")
    fermi_level: float | None = key(None, about="tight_binding: fixed, eV; by default from the number of electrons")
    charge: float = key(0.0, about="tight_binding: electrons missing from the neutral structure")
    convention: str = key(
        "free_energy", choices=("free_energy", "band_energy"), about="tight_binding: the energy that is meant"
    )
    evaluator: str = key(
        "dense", choices=("dense", "contour"), about="tight_binding: eigenstates of the whole, or contours and clusters"
    )
    cluster_radius: float | None = key(
        None, above=0.0, about="tight_binding, contour: each site on its cluster, angstrom; by default the whole cell"
    )

    @property
    def is_total(self) -> bool:
        """Whether the law gives energies of whole structures only."""
        return self.kind in TOTAL_KINDS


@dataclass(frozen=True)
class Defect:
    """One member of `defects`. `at` and `direction` are in units of the conventional cell vectors, `position` too."""

    kind: str = key(choices=("vacancy", "divacancy", "interstitial", "substitution"), about="the kind of defect")
    at: tuple[float, ...] | None = key(None, length=(1, 3))
    direction: tuple[float, ...] | None = key(None, length=(1, 3))
    position: tuple[float, ...] | None = key(None, length=(1, 3))
    site: str | None = key(None)
    species: str | None = key(None)


@dataclass(frozen=True)
class Simulation:
    """[simulation]: the large cell."""

    cell: tuple[int, ...] = key(least=1, length=(1, 3), about="conventional cells along each cell vector")
    defects: tuple[Defect, ...] = ()

    @property
    def repeats(self) -> tuple[int, int, int]:
        """`cell` with ones for directions that are not given."""
        return _three(self.cell)


@dataclass(frozen=True)
class Rattle:
    """Random displacements: each component uniform in +-amplitude ("uniform") or +-amplitude / sqrt(3) ("julip")."""

    amplitude: float = key(0.1, least=0.0)  # angstrom
    kind: str = key("uniform", choices=("uniform", "julip"))

    @classmethod
    def from_plain(cls, value: Any) -> dict[str, Any]:
        """A bare number is the amplitude of the uniform kind."""
        return {"amplitude": value}

    @property
    def half_width(self) -> float:
        """Largest displacement of a component, angstrom."""
        return float(self.amplitude / 3**0.5) if self.kind == "julip" else self.amplitude


@dataclass(frozen=True)
class HessianProbes:
    """Along what the Hessian is observed, if [fit] asks for it; a bare number is that of random vectors."""

    kind: str = key(
        "random", choices=("random", "local", "columns"),
        about="random vectors; random vectors of one site each; all columns of a site",
    )  # fmt: skip
    number: int = key(2, least=1, about="vectors, or sites for local and columns (one of each kind, rarest first)")

    @classmethod
    def from_plain(cls, value: Any) -> dict[str, Any]:
        """A bare number is the number."""
        return {"number": value}


@dataclass(frozen=True)
class Training:
    """[[training]]: a small cell that the reference labels, relaxed and then rattled."""

    cell: tuple[int, ...] = key(least=1, length=(1, 3), about="conventional cells along each cell vector")
    shape: str = key(
        "conventional", choices=("conventional", "orthorhombic"),
        about="triangular: rhombic cells 1 x 1, or 1 x sqrt(3) with two sites; `at` counts in them",
    )  # fmt: skip
    defects: tuple[Defect, ...] = ()
    samples: int = key(100, least=1)
    test_samples: int = key(25, least=0)
    rattle: Rattle = Rattle(amplitude=0.1, kind="julip")
    relax: bool = True  # rattle about the relaxed cell rather than the lattice
    weight: float = key(1.0, above=0.0)  # multiplies the squared residuals of this table's configurations
    name: str = key("", about="configuration type; by default training-<number>")
    hessian: HessianProbes = HessianProbes()

    @property
    def repeats(self) -> tuple[int, int, int]:
        """`cell` with ones for directions that are not given."""
        return _three(self.cell)


@dataclass(frozen=True)
class TypeWeights:
    """Weights of one configuration type, multiplied onto those of [fit]; a bare number is for all three."""

    energy: float = key(1.0, least=0.0)
    force: float = key(1.0, least=0.0)
    virial: float = key(1.0, least=0.0)

    @classmethod
    def from_plain(cls, value: Any) -> dict[str, Any]:
        """A bare number is the weight of all observations."""
        return {"energy": value, "force": value, "virial": value}


@dataclass(frozen=True)
class Noise:
    """Standard deviations of labels; 0 where they are taken as exact."""

    energy: float = key(0.0, least=0.0)  # eV an atom
    force: float = key(0.0, least=0.0)  # eV / angstrom
    virial: float = key(0.0, least=0.0)  # eV an atom


@dataclass(frozen=True)
class Dataset:
    """[dataset]: labelled structures from files instead of a reference law's; eV and angstrom.

    Without a key, the first that the files have is taken for all of them, whatever its case: `REF_energy`,
    `dft_energy`, then `energy` (as ASE's calculators give it), `free_energy`; likewise `REF_forces`, `REF_force`, ...;
    and of `REF_virial` with `REF_stress`, `dft_virial` with `dft_stress`, `virial` with `stress` the first pair of
    which there is one.
    """

    train: tuple[str, ...] = key(length=(1, 10_000), about="a list of extxyz files")
    test: tuple[str, ...] = ()
    energy_key: str = key("", about="key of the energies; searched by default")
    force_key: str = key("", about="key of the forces; searched by default")
    virial_key: str = key("", about="key of the virials; searched by default")
    stress_key: str = key("", about="key of the stresses; searched by default")
    type_key: str = key("config_type", about="key of the configuration types")
    one_body: dict[str, float] | str = key("fit", choices=("fit", "isolated"), about="energies of free atoms, eV")
    size: str = key("sqrt", choices=("none", "sqrt", "atom"), about="energies and virials weigh 1, 1/n, 1/n^2")
    closest: float = key(0.5, least=0.0, about="atoms that are closer are an error, angstrom")
    noise: Noise = Noise()  # of the labels where structures do not tell it: keeps it out of the error bars, no weight
    weights: dict[str, TypeWeights] = field(default_factory=dict)  # by configuration type


@dataclass(frozen=True)
class Surrogate:
    """[surrogate]: the basis of the linear model (radial functions of ACE.jl), or an expansion of the reference."""

    kind: str = key("ace", choices=("ace", "taylor"), about="taylor: no fit, the reference expanded about states")
    order: int = key(2, least=2, most=3, about="taylor: derivatives of the site energies that are kept")
    force_constant_error: float = key(
        0.0, above=-1.0, about="taylor: relative, of the sites that are expanded about the lattice"
    )
    states: str = key(
        "equilibrium", choices=("equilibrium", "lattice"),
        about="taylor: sites near defects about those of the relaxed [[training]] cells, or all about the lattice",
    )  # fmt: skip
    near: float = key(0.5, above=0.0, most=1.0, about="taylor: near is within this part of the training cell's length")
    correlation_order: int = key(3, least=1, most=4)
    total_degree: int | tuple[int, ...] = key(
        10, least=1, length=(1, 4), about="of n + angular_weight l; or a list, one for each correlation order"
    )
    dimension: int = key(3, least=2, most=3, about="2: harmonics of the plane, for 2D and quasi-2D crystals")
    cutoff: float = key(5.5, above=0.0, most=20.0)  # angstrom
    r0: Literal["nearest"] | float = key("nearest", above=0.0)  # angstrom; "nearest": nearest-neighbour distance
    inner_cutoff: float = key(0.5, least=0.0)  # in units of r0
    angular_weight: float = key(1.5, above=0.0)  # of l in the degree n + 1.5 l
    transform_power: int = key(2, least=1)
    cutoff_power: int = key(2, least=0)
    inner_power: int = key(2, least=0)
    pair_degree: int = key(
        0, least=0, most=40, about="pair functions of each pair of species, in place of order one; 0: none"
    )
    pair_cutoff: Literal["cutoff"] | float = key(
        "cutoff", above=0.0, most=20.0, about="of the pair functions, angstrom"
    )
    repulsion: str = key("none", choices=("none", "zbl"), about="zbl: a fixed core of pairs beside what is fitted")
    repulsion_range: tuple[float, ...] = key(
        (0.4, 0.8), least=0.0, length=(2, 2), about="where the core is switched off, in units of r0"
    )

    @property
    def reach(self) -> float:
        """Largest distance at which sites interact, angstrom."""
        if self.pair_degree == 0 or isinstance(self.pair_cutoff, str):
            return self.cutoff
        return max(self.cutoff, self.pair_cutoff)


@dataclass(frozen=True)
class Weights:
    """Weights multiply squared residuals (rows are scaled by the square root); what has none is not fitted.

    The first four are of configurations, the others of the perfect crystal (configuration type "lattice").
    """

    energy: float = key(100.0, least=0.0, about="energies of cells")
    force: float = key(1.0, least=0.0, about="force components")
    virial: float = key(0.0, least=0.0, about="components of -dE/d(strain)")
    hessian: float = key(0.0, least=0.0, about="Hessian along the directions of [[training]] hessian")
    site_energy_0: float = key(0.0, least=0.0, about="site energy of the perfect crystal")
    site_energy_1: float = key(0.0, least=0.0, about="its first derivatives by the neighbours' positions, eps^E_1")
    site_energy_2: float = key(0.0, least=0.0, about="second ones, eps^E_2")
    site_energy_3: float = key(0.0, least=0.0, about="third ones, eps^E_3")
    force_derivative_1: float = key(0.0, least=0.0, about="force constants, eps^F_1")
    force_derivative_2: float = key(0.0, least=0.0, about="second derivatives of the force on a site, eps^F_2")
    force_derivative_3: float = key(0.0, least=0.0, about="third ones along random displacements, eps^F_3")
    cauchy_born_1: float = key(0.0, least=0.0, about="stress of the perfect crystal, eps^V_0")
    cauchy_born_2: float = key(0.0, least=0.0, about="second derivatives of the energy density (elastic), eps^V_1")
    cauchy_born_3: float = key(0.0, least=0.0, about="third ones, eps^V_2")
    cauchy_born_4: float = key(0.0, least=0.0, about="fourth ones, eps^V_3")


OBSERVATION_NAMES: Final = tuple(Weights.__dataclass_fields__)
LATTICE_NAMES: Final = OBSERVATION_NAMES[4:]
# What a law of whole structures can be asked for.
TOTAL_OBSERVATIONS: Final = (
    "energy", "force", "virial", "force_derivative_1", "force_derivative_2", "cauchy_born_1", "cauchy_born_2",
    "cauchy_born_3",
)  # fmt: skip
# Chen, Ortner, Wang (2021), QM/MM III, table F.1. W_0 of force mixing is the force on the perfect crystal: zero.
WEIGHT_PRESETS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "energy_mixing_K2": {"site_energy_0": 1.0, "site_energy_1": 10.0, "site_energy_2": 500.0},
        "energy_mixing_K3": {
            "site_energy_0": 1.0, "site_energy_1": 10.0, "site_energy_2": 1000.0, "site_energy_3": 100.0,
        },
        "energy_mixing_K2_virial": {
            "site_energy_0": 1.0, "site_energy_1": 10.0, "site_energy_2": 1000.0, "cauchy_born_3": 100.0,
        },
        "force_mixing_K1": {"force_derivative_1": 100.0},
        "force_mixing_K2": {"force_derivative_1": 1000.0, "force_derivative_2": 100.0},
        "force_mixing_K1_virial": {"force_derivative_1": 1000.0, "cauchy_born_3": 100.0},
        "force_mixing_K2_virial": {
            "force_derivative_1": 1000.0, "force_derivative_2": 200.0, "cauchy_born_4": 500.0,
        },
    }
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """[fit]: weights and solver of the least-squares problem."""

    weights: Weights = Weights()  # or the name of a preset, or "balanced": the defaults and balance = true
    balance: bool = key(False, about="move the weights until eps^E ~ (eps^F)^2 ~ log(L) (eps^V_1)^2 on the test set")
    observations: tuple[str, ...] = key((), choices=OBSERVATION_NAMES, about="rows kept for refits, also of weight 0")
    decay: float = key(0.0, least=0.0, about="gamma of the weights exp(2 gamma |rho|) of site_energy, force_derivative")
    # Force errors on the test sets of the tungsten and silicon inputs, against the best of all solvers and tolerances:
    # blr at most 2 % more, rrqr at 1e-8 4 %, rrqr at 1e-6 70 %; ridge with its prior at 1e-9 60 %, at 1e-6 16 times.
    solver: str = key("blr", choices=("rrqr", "svd", "ridge", "blr", "ard"))
    tolerance: float = key(
        1e-8, above=0.0, most=0.999, about="of rrqr and svd: truncation; of ridge: its strength; not of blr and ard"
    )
    smoothness: float = key(4.0, least=0.0, about="prior of ridge and blr: sum n^p + w l^p; 0: column norms")
    constraints: tuple[str, ...] = key(
        (), choices=("energy", "stress", "elastic", "force"), about="of the reference's perfect crystal, met exactly"
    )
    elastic_constants: dict[str, float] | None = key(
        None, about="{ C11 = , C12 = , C44 = } in GPa of a cubic crystal, for constraints with a [dataset]"
    )
    bulk_energy: float | None = key(None, about="eV a site of the perfect crystal, likewise")
    column_scaling: bool = True
    committee: int = key(0, least=0, most=1000, about="members drawn from the posterior, for error bars; 0: none")
    homogeneous: int = key(6, least=0)  # perfect cells beside the training cells: one unrattled, the others rattled

    @property
    def observed(self) -> tuple[str, ...]:
        """Observations that have a weight, or are asked for."""
        return tuple(o for o in OBSERVATION_NAMES if getattr(self.weights, o) > 0.0 or o in self.observations)


@dataclass(frozen=True)
class Relax:
    """[relax]: how equilibria are found."""

    method: str = key("newton", choices=("newton", "lbfgs"))
    force_tolerance: float = key(1e-8, above=0.0)  # eV / angstrom, largest component
    max_iterations: int = key(200, least=1)
    step_cap: float = key(0.3, above=0.0)  # angstrom, largest component of a step
    laws: tuple[str, ...] = key(("reference", "surrogate"), choices=("reference", "surrogate"), length=(1, 2))
    hessian: str = key("auto", choices=("auto", "assembled", "matrix_free"))
    error_bars: int = key(0, least=0, about="members of [fit] committee carried through the surrogate's relaxation")
    residual: bool = key(True, about="estimate the surrogate's geometry error by the reference's forces there")


@dataclass(frozen=True)
class Match:
    """[match]: the balls about the training cells over which the stage "match" seeks the surrogate's largest errors."""

    samples: int = key(20, least=1, about="random states of each training cell")
    ascent_steps: int = key(3, least=0, about="from the worst state towards larger errors; 0: random states alone")
    radius: Literal["rattle"] | float = key(
        "rattle", above=0.0, about="largest displacement of a component, angstrom; by default the training cell's own"
    )


@dataclass(frozen=True)
class Compare:
    """[compare]: norms and the limit beyond which two equilibria are different basins."""

    neighbours: str = key("voronoi", choices=("voronoi", "nearest"))
    same_basin: float = key(0.5, above=0.0)  # angstrom, largest |u_ref - u_sur|

    @property
    def stencil(self) -> Literal["voronoi", "nearest"]:
        """`neighbours`, which is one of these."""
        return "voronoi" if self.neighbours == "voronoi" else "nearest"


@dataclass(frozen=True)
class Advise:
    """[advise]: errors that are wanted; the stage "advise" tells what is in their way."""

    geometry_error: float = key(1e-2, above=0.0, about="of ||D(u_ref - u_sur)||, angstrom")
    energy_error: float = key(1e-2, above=0.0, about="of the formation energy, eV")


@dataclass(frozen=True)
class Report:
    """[report]: figures and structures."""

    figure: bool = True
    structures: bool = key(False, about="relaxed structures as extxyz beside the figures")
    directory: str = key("", about="where figures go; by default beside the output")


TABLES: Final[Mapping[str, type]] = MappingProxyType(
    {
        "run": Run, "crystal": Crystal, "reference": Reference, "simulation": Simulation, "training": Training,
        "dataset": Dataset,
        "surrogate": Surrogate, "fit": Fit, "match": Match, "relax": Relax, "compare": Compare,
        "advise": Advise, "report": Report,
    }
)  # fmt: skip


def _three(cell: tuple[int, ...]) -> tuple[int, int, int]:
    a, b, c = (*cell, 1, 1)[:3]
    return a, b, c
