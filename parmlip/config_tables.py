"""The tables of the input file: one frozen dataclass each, with every default. Lengths in angstrom, energies in eV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from parmlip.config_dislocation_tables import DislocationInput
from parmlip.config_entropy_tables import Entropy
from parmlip.config_fit_tables import Fit, Surrogate
from parmlip.config_locality_tables import Locality
from parmlip.config_qmmm_tables import QMMM
from parmlip.config_rates_tables import Jump, Rates
from parmlip.config_schema import key

STAGE_NAMES: Final = (
    "build", "reference", "train", "match", "relax", "compare", "qmmm", "advise", "entropy", "rates", "locality",
    "report",
)  # fmt: skip
DEFAULT_STAGES: Final = ("build", "reference", "train", "relax", "compare", "report")
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
# Laws that give energies of whole structures only: no site energies, no Hessians.
TOTAL_KINDS: Final = ("ase", "tight_binding")
# Keys of [reference] that only one kind of law has.
KEYS_OF_KIND: Final = MappingProxyType(
    {
        "eam": ("interpolation", "core"),
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

    stages: tuple[str, ...] = key(DEFAULT_STAGES, choices=STAGE_NAMES, length=(1, 12), about="what is done, in order")
    output: str = key("", about="name of the HDF5 file; by default the input's name with .h5")
    seed: int = key(1, least=0, about="of all random numbers")
    groups: int = key(1, least=1, about="groups of ranks that do points of a sweep side by side")
    threads: int = key(1, least=1, about="threads of the linear algebra libraries on each rank")


@dataclass(frozen=True)
class Crystal:
    """[crystal]: the perfect crystal, either a named lattice or a structure file."""

    lattice: str | None = key(None, choices=LATTICE_SLOTS, about="a named lattice; or `file`")
    file: str | None = key(None, about="structure file that ASE reads")
    species: tuple[str, ...] = key((), about="a list of chemical symbols, one for each sublattice")
    lattice_constant: Literal["relax"] | float = key(
        "relax", above=0.0, about="a, angstrom; relax: the reference's, of least energy"
    )
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
        about="the law; ase and tight_binding give energies of whole structures only",
        meant=dict.fromkeys(
            ("eam/alloy", "eam/fs", "setfl"), 'setfl files of either kind: kind = "eam", file = "X.eam.alloy"'
        ),
    )
    parameters: str | None = key(None, choices=PARAMETER_SETS, about="a built-in parameter set")
    file: str | None = key(None, about="setfl; LAMMPS' .sw, .tersoff, .tersoff.mod, .modc; for ace .yace or result")
    taper: tuple[float, ...] | None = key(None, above=0.0, length=(2, 2), about="[start, cutoff] in angstrom")
    interpolation: str = key(
        "quintic", choices=("quintic", "cubic", "lammps"), about="eam: between the points of a file's tables"
    )
    core: str = key("none", choices=("none", "zbl"), about="W-EAM4: repulsion of nuclei below its shortest distance")
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
    at: tuple[float, ...] | None = key(
        None, length=(1, 3), about="the lattice site; of an interstitial its host, by default [0, 0, 0]"
    )
    direction: tuple[float, ...] | None = key(
        None, length=(1, 3), about="divacancy: from the first empty site to the second, such as [0.5, 0.5, 0] in fcc"
    )
    position: tuple[float, ...] | None = key(None, length=(1, 3), about="interstitial: where it is; or `site`")
    site: str | None = key(None, about="interstitial: a named site or dumbbell beside `at`, as listed below")
    species: str | None = key(None, about="substitution: the new species; interstitial: by default the host's")


@dataclass(frozen=True)
class Simulation:
    """[simulation]: the large cell, or a piece of crystal with a clamped rim, in which `at` counts from the centre."""

    cell: tuple[int, ...] = key((), least=1, length=(0, 3), about="conventional cells along each cell vector")
    domain: str = key(
        "periodic", choices=("periodic", "disc", "ball"),
        about="disc: round z, which alone repeats; ball: three dimensions; both clamped at the predictor outside",
    )  # fmt: skip
    radius: float | None = key(None, above=0.0, about="disc, ball: of the region whose sites are free, angstrom")
    rim: float | None = key(None, above=0.0, about="disc, ball: width of the clamped rim; by default as laws need")
    periods: int = key(1, least=1, about="disc: periods of the crystal along z")
    line: tuple[int, ...] | None = key(None, length=(3, 3), about="disc: z as a direction; by default [0, 0, 1]")
    plane: tuple[int, ...] | None = key(None, length=(3, 3), about="disc: Miller indices of the plane normal to y")
    defects: tuple[Defect, ...] = key((), about="a list of { kind = ..., at = ... }, see below")
    dislocations: DislocationInput | None = key(
        None, about="{ kind = ..., ... }, see below; `cell` then counts oriented cells along x, y, z"
    )

    @property
    def repeats(self) -> tuple[int, int, int]:
        """`cell` with ones for directions that are not given."""
        return _three(self.cell)


@dataclass(frozen=True)
class Rattle:
    """Random displacements: each component uniform in +-amplitude ("uniform") or +-amplitude / sqrt(3) ("julip").

    "julip_random" and "half_random" take the amplitude times a random number in (0, 1) for each configuration, and
    +-a / sqrt(3) or +-a / 2 of it.
    """

    amplitude: float = key(0.1, least=0.0, about="a, angstrom")
    kind: str = key(
        "uniform", choices=("uniform", "julip", "julip_random", "half_random"),
        about="components within +-a; +-a / sqrt(3); the same of a random part of a; +-a / 2 of such a part",
    )  # fmt: skip

    @classmethod
    def from_plain(cls, value: Any) -> dict[str, Any]:
        """A bare number is the amplitude of the uniform kind."""
        return {"amplitude": value}

    @property
    def half_width(self) -> float:
        """Largest displacement of a component, angstrom."""
        return self.amplitude * {"uniform": 1.0, "half_random": 0.5}.get(self.kind, 3**-0.5)


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
    defects: tuple[Defect, ...] = key((), about="as of [simulation]")
    dislocations: DislocationInput | None = key(None, about="as of [simulation]")
    samples: int = key(100, least=0, about="rattled configurations to be fitted")
    test_samples: int = key(25, least=0, about="others that errors are told of")
    validation_samples: int = key(0, least=0, about="of entropies: for the choice among [fit] tolerances")
    rattle: Rattle = key(Rattle(amplitude=0.1, kind="julip"), about="random displacements, angstrom, see below")
    relax: bool = key(True, about="rattle about the relaxed cell rather than the lattice")
    around: str = key("equilibrium", choices=("equilibrium", "saddle"), about="what is rattled; the saddle of `jump`")
    jump: Jump | None = key(None, about="{ from = ..., to = ... } as in [rates]")
    energies: str = key(
        "difference", choices=("difference", "absolute"),
        about="of states, against the unrelaxed cell, which stands first; absolute: their own, the equilibrium first",
    )  # fmt: skip
    weight: float = key(1.0, above=0.0, about="multiplies the squared residuals of this table's configurations")
    name: str = key("", about="configuration type; by default training-<number>")
    hessian: HessianProbes = key(HessianProbes(), about="along what weights.hessian sees it, or a number of vectors")

    @property
    def repeats(self) -> tuple[int, int, int]:
        """`cell` with ones for directions that are not given."""
        return _three(self.cell)


@dataclass(frozen=True)
class TypeWeights:
    """Weights of one configuration type, multiplied onto those of [fit]; a bare number is for all three."""

    energy: float = key(1.0, least=0.0, about="of energies")
    force: float = key(1.0, least=0.0, about="of forces")
    virial: float = key(1.0, least=0.0, about="of virials")

    @classmethod
    def from_plain(cls, value: Any) -> dict[str, Any]:
        """A bare number is the weight of all observations."""
        return {"energy": value, "force": value, "virial": value}


@dataclass(frozen=True)
class Noise:
    """Standard deviations of labels; 0 where they are taken as exact."""

    energy: float = key(0.0, least=0.0, about="eV an atom")
    force: float = key(0.0, least=0.0, about="eV/angstrom")
    virial: float = key(0.0, least=0.0, about="eV an atom")


@dataclass(frozen=True)
class Dataset:
    """[dataset]: labelled structures from files instead of a reference law's; eV and angstrom.

    Without a key, the first that the files have is taken for all of them, whatever its case: `REF_energy`,
    `dft_energy`, then `energy` (as ASE's calculators give it), `free_energy`; likewise `REF_forces`, `REF_force`, ...;
    and of `REF_virial` with `REF_stress`, `dft_virial` with `dft_stress`, `virial` with `stress` the first pair of
    which there is one.
    """

    train: tuple[str, ...] = key(length=(1, 10_000), about="a list of extxyz files")
    test: tuple[str, ...] = key((), about="the same for the test set")
    energy_key: str = key("", about="key of the energies; searched by default")
    force_key: str = key("", about="key of the forces; searched by default")
    virial_key: str = key("", about="key of the virials; searched by default")
    stress_key: str = key("", about="key of the stresses; searched by default")
    type_key: str = key("config_type", about="key of the configuration types")
    one_body: dict[str, float] | str = key("fit", choices=("fit", "isolated"), about="energies of free atoms, eV")
    size: str = key("sqrt", choices=("none", "sqrt", "atom"), about="energies and virials weigh 1, 1/n, 1/n^2")
    closest: float = key(0.5, least=0.0, about="atoms that are closer are an error, angstrom")
    noise: Noise = key(Noise(), about="of labels where structures do not tell it; kept out of error bars, no weight")
    weights: dict[str, TypeWeights] = field(
        default_factory=dict,
        metadata={"about": "by configuration type, a number or { energy = ..., force = ..., virial = ... }"},
    )


@dataclass(frozen=True)
class Relax:
    """[relax]: how equilibria are found."""

    method: str = key("newton", choices=("newton", "lbfgs"), about="laws without second derivatives take lbfgs")
    force_tolerance: float = key(1e-8, above=0.0, about="largest component that is left, eV/angstrom")
    max_iterations: int = key(200, least=1, about="steps, at most")
    step_cap: float = key(0.3, above=0.0, about="largest component of a step, angstrom")
    laws: tuple[str, ...] = key(
        ("reference", "surrogate"), choices=("reference", "surrogate"), length=(1, 2),
        about="whose equilibria are found",
    )  # fmt: skip
    hessian: str = key(
        "auto", choices=("auto", "assembled", "matrix_free"), about="stored, or applied from site energies"
    )
    error_bars: int = key(0, least=0, about="members of [fit] committee carried through the surrogate's relaxation")
    residual: bool = key(True, about="estimate the surrogate's geometry error by the reference's forces there")
    stability: bool = key(True, about="seek negative eigenvalues at the end; takes as much memory as the relaxation")


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

    neighbours: str = key("voronoi", choices=("voronoi", "nearest"), about="bonds that the geometry error sums over")
    same_basin: float = key(0.5, above=0.0, about="largest |u_ref - u_sur| of one basin, angstrom")
    core_radius: Literal["training"] | float = key(
        "training", above=0.0,
        about="beyond it of all defects errors are the far field's, angstrom; by default half of the least training L",
    )  # fmt: skip

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

    figure: bool = key(True, about="draw figures")
    structures: bool = key(False, about="relaxed structures as extxyz beside the figures")
    directory: str = key("", about="where figures go; by default beside the output")
    published: str | None = key(
        None, about="CSV file of numbers to print beside a sweep's: columns are swept keys and results, # are comments"
    )


TABLES: Final[Mapping[str, type]] = MappingProxyType(
    {
        "run": Run, "crystal": Crystal, "reference": Reference, "simulation": Simulation, "training": Training,
        "dataset": Dataset,
        "surrogate": Surrogate, "fit": Fit, "match": Match, "relax": Relax, "compare": Compare,
        "qmmm": QMMM, "advise": Advise, "entropy": Entropy, "rates": Rates, "locality": Locality, "report": Report,
    }
)  # fmt: skip


def _three(cell: tuple[int, ...]) -> tuple[int, int, int]:
    a, b, c = (*cell, 1, 1)[:3]
    return a, b, c
