"""The input file: what is right is read, what is wrong is told in one line."""

from __future__ import annotations

import re

import pytest

from parmlip.config import Rattle, Training, load, loads
from parmlip.config_checks import _check_reference
from parmlip.config_schema import toml_value
from parmlip.config_tables import (
    LATTICE_DIMENSION,
    LATTICE_SLOTS,
    PARAMETER_KINDS,
    PARAMETER_SETS,
    STAGE_NAMES,
    Reference,
)
from parmlip.errors import ConfigError

INPUT = """
[run]
stages = ["build", "reference", "train", "relax", "compare", "report"]
output = "w.h5"
seed = 3

[crystal]
lattice = "bcc"
species = ["W"]

[reference]
kind = "eam"
parameters = "W-Zhou"
taper = [5.0, 6.0]

[simulation]
cell = [8, 8, 8]
defects = [
    { kind = "vacancy", at = [0, 0, 0] },
    { kind = "divacancy", at = [4, 4, 4], direction = [0.5, 0.5, 0.5] },
    { kind = "interstitial", position = [2, 2.5, 2], species = "W" },
]

[[training]]
cell = [3, 3, 3]
defects = [{ kind = "vacancy", at = [0.5, 0.5, 0.5] }]
samples = 10
rattle = 0.03

[[training]]
cell = [4, 4, 4]
weight = 2
rattle = { amplitude = 0.01, kind = "julip" }
name = "bulk"

[surrogate]
total_degree = 8

[sweep]
"surrogate.total_degree" = [6, 8]
"training.cell" = [[3, 3, 3], [4, 4, 4]]
"""

# override, fragment of the message; every line is one kind of bad input
BAD_VALUES = [
    ("relax.metod=newton", "[relax] unknown key 'metod'; did you mean 'method'?"),
    ("crystal.lattice_constnat=3.0", "[crystal] unknown key 'lattice_constnat'; did you mean 'lattice_constant'?"),
    ("surogate.cutoff=5.0", "unknown table [surogate]; did you mean [surrogate]?"),
    ("nonsense.cutoff=5.0", "unknown table [nonsense]; known: [run], [crystal]"),
    ("entropy.nodes=5", "[entropy] unknown key 'nodes'; known: 'method'"),
    ("entropy.method=hutch", '[entropy] method = "hutch": must be one of "contour", "ritz", "ksp", "dense"'),
    ("reference.kind=eam/alloy", 'either kind: kind = "eam", file = "X.eam.alloy"'),
    ("entropy.near_radius=far", '[entropy] near_radius = "far": must be "auto" or a number, not a string'),
    ("entropy.masses={ Fe = 55.8 }", "[entropy] masses: Fe is not in the simulation cell, which has W"),
    ("entropy.truncation_radius=5.0", "[entropy] truncation_radius = 5.0: needs 'sites'"),
    ("entropy.sites=[-1]", "[entropy] sites[0] = -1: must be at least 0"),
    ("rates.jumps=[{ from = [0, 0, 0] }]", "[rates] jumps[0] missing key 'to': where it goes"),
    ("rates.jumps=[{ frm = [0, 0, 0] }]", "[rates] jumps[0] unknown key 'frm'; did you mean 'from'?"),
    ("rates.masses={ W = 0.0 }", "[rates] masses.W = 0.0: must be greater than 0"),
    ("run.stages=['rates']", '"rates" needs [rates] jumps, such as jumps = [{ from = [0.5, 0.5, 0], to = [0, 0, 0] }]'),
    ("qmmm.radios=5.0", "[qmmm] unknown key 'radios'; did you mean 'radius'?"),
    ("qmmm.kind=both", '[qmmm] kind = "both": must be one of "energy", "force"'),
    ("qmmm.buffer=big", '[qmmm] buffer = "big": must be "auto" or a number, not a string'),
    ("qmmm.radius=[5.0, -1.0]", "[qmmm] radius[1] = -1.0: must be greater than 0"),
    ("dataset.x=5", "[dataset] unknown key 'x'; known: 'train'"),
    ("dataset.test=['a.xyz']", "[dataset] missing key 'train': a list of extxyz files"),
    ("dataset.train=['a.xyz']", "[dataset] and [[training]] exclude each other"),
    ("run.stages=['qmmm']", '"qmmm" needs a far field that stands still: [simulation] domain = "disc" or "ball"'),
    ("run.stages=['relaxx']", '[run] stages[0] = "relaxx": must be one of'),
    ("run.stages=[]", "[run] stages = []: must have 1 to 12 members, not 0"),
    ("run.stages=['build', 'build']", "has a stage twice"),
    ("run.stages='build'", '[run] stages = "build": must be a list of strings, not a string'),
    ("run.output='w.dat'", '[run] output = "w.dat": must end in .h5'),
    ("run.threads=0", "[run] threads = 0: must be at least 1"),
    ("run.seed=1.5", "[run] seed = 1.5: must be an integer, not a number"),
    ("run.seed=true", "[run] seed = true: must be an integer, not a boolean"),
    ("crystal.lattice=bbc", '[crystal] lattice = "bbc": must be one of "bcc", '),
    ("crystal.lattice=bbc", '(did you mean "bcc"?)'),
    ("crystal.lattice=b2", '[crystal] species = ["W"]: lattice "b2" needs 2'),
    ("crystal.species=['Wo']", '[crystal] species[0] = "Wo": is not a chemical symbol'),
    ("crystal.species=[]", "[crystal] missing key 'species': a list of chemical symbols"),
    ("crystal.species=['Cu']", '[crystal] species: Cu has no parameters in [reference] parameters = "W-Zhou"'),
    ("crystal.file='a.xyz'", "[crystal] needs either 'lattice' or 'file', not both"),
    ("crystal.lattice_constant=relaxed", 'lattice_constant = "relaxed": must be "relax" or a number, not a string'),
    ("crystal.lattice_constant=0", "[crystal] lattice_constant = 0: must be greater than 0"),
    ("crystal.lattice_constant=inf", "[crystal] lattice_constant = inf: must be finite"),
    ("crystal.c_over_a=1.6", '[crystal] c_over_a: is for lattice = "hcp", not "bcc"'),
    ("crystal.dimension=2", '[crystal] dimension = 2: lattice "bcc" has dimension 3; leave the key out'),
    ("reference.kind=toy", '[reference] parameters = "W-Zhou": is a set of kind = "eam", not "toy"'),
    ("reference.delta=0.1", '[reference] delta: is for kind = "toy", not "eam"'),
    ("reference.parameters='W-EAM5'", '"Si-Tersoff1989", "Si-NRLTB" (did you mean "W-EAM4"?)'),
    ("reference.file='W.fs'", "[reference] needs either 'parameters' or 'file', not both"),
    ("reference.taper=[6.0, 5.0]", "[reference] taper = [6.0, 5.0]: must be [start, cutoff] with start < cutoff"),
    ("reference.taper=[6.0]", "[reference] taper = [6.0]: must have 2 members, not 1"),
    ("reference.taper=[-1.0, 5.0]", "[reference] taper[0] = -1.0: must be greater than 0"),
    ("simulation.cell=[8, 8]", "[simulation] cell = [8, 8]: must have 3 members in 3 dimensions"),
    ("simulation.cell=[8, 8, 0]", "[simulation] cell[2] = 0: must be at least 1"),
    ("simulation.cell=8", "[simulation] cell = 8: must be a list of integers, not an integer"),
    ("simulation.defects=[{at = [0, 0, 0]}]", "[simulation] defects[0] missing key 'kind': the kind of defect"),
    ("simulation.defects=[{kind = 'void'}]", '[simulation] defects[0] kind = "void": must be one of "vacancy"'),
    ("simulation.defects=[{kind = 'vacancy'}]", "[simulation] defects[0] missing key 'at' of a vacancy"),
    ("simulation.defects=[3]", "[simulation] defects[0] = 3: must be a table, not an integer"),
    ("simulation.defects.0.species=W", "[simulation] defects[0] key 'species' is not for a vacancy"),
    ("simulation.defects.0.at=[0, 0]", "[simulation] defects[0] at = [0.0, 0.0]: must have 3 members"),
    ("simulation.defects.7.at=[0, 0]", "simulation.defects.7.at: there are only 3 members (counted from 0)"),
    ("simulation.defects.1.direction=[0, 0, 0]", "defects[1] direction = [0.0, 0.0, 0.0]: must not be zero"),
    ("simulation.defects.2.site=octahedral", "defects[2] an interstitial needs either 'site' or 'position'"),
    ("simulation.defects.2.species=Cu", "[simulation] defects[2] species: Cu has no parameters"),
    ("training.0.samples=0", "[[training]] 1 samples = 0: must be at least 1"),
    ("training.1.rattle=large", '[[training]] 2 rattle = "large": must be a number or a table, not a string'),
    ("training.1.rattle.kind=normal", '[[training]] 2 rattle kind = "normal": must be one of "uniform", "julip"'),
    ("training.1.rattle.amplitude=-0.1", "[[training]] 2 rattle amplitude = -0.1: must be at least 0"),
    ("training.weight=0", "[[training]] 1 weight = 0: must be greater than 0"),
    ("training.name=same", '[[training]] 2 name = "same": used twice'),
    ("surrogate.cutoff=0", "[surrogate] cutoff = 0: must be greater than 0"),
    ("surrogate.correlation_order=9", "[surrogate] correlation_order = 9: must be at most 4"),
    ("surrogate.r0=20.0", "[surrogate] cutoff = 5.5: must be greater than inner_cutoff * r0 = 10"),
    ("fit.weights=balance", "[fit] weights = \"balance\": no such preset; did you mean 'balanced'?"),
    ("fit.weights={energy = 0.0, force = 0.0}", "[fit] weights: all are zero"),
    ("fit.weights={forces = 1.0}", "[fit] weights unknown key 'forces'; did you mean 'force'?"),
    ("fit.elasticity=true", "[fit] elasticity = true: must be a string, not a boolean"),
    ("fit.solver=lasso", '[fit] solver = "lasso": must be one of "rrqr", "svd", "ridge", "blr", "ard"'),
    ("fit.constraints=['colour']", '[fit] constraints[0] = "colour": must be one of "energy", "stress", "elastic", '),
    ("fit.tolerance=1", "[fit] tolerance = 1: must be at most 0.999"),
    ("relax.force_tolerance=nan", "[relax] force_tolerance = nan: must be finite"),
    ("relax.hessian=dense", '[relax] hessian = "dense": must be one of "auto", "assembled", "matrix_free"'),
    ("compare.neighbours=delaunay", '[compare] neighbours = "delaunay": must be one of "voronoi", "nearest"'),
    ("sweep.surrogate.total_degree=8", "[sweep] surrogate.total_degree = 8: must be a list of one or more values"),
    ("sweep.surrogate.total_degree=[8, 8]", "[sweep] surrogate.total_degree = [8, 8]: has a value twice"),
    ("sweep.surrogate.total_degree=[8, 'a']", '[sweep] point 2: [surrogate] total_degree = "a": must be an integer or'),
    ("surrogate.total_degree=10", "[sweep] gives its values; write --set sweep.surrogate.total_degree=[10], or"),
    ("surrogate.total_degree=[8, 6]", "[surrogate] total_degree = [8, 6]: must be one number, or one for each of"),
    ("surrogate.dimension=1", "[surrogate] dimension = 1: must be at least 2"),
    ("sweep.surrogate.otal_degree=[8]", "point 0: [surrogate] unknown key 'otal_degree'; did you mean 'total_degree'?"),
    ("sweep.run.seed=[1, 2]", "[sweep] run.seed: no table to sweep"),
    ('sweep."fit.tolerance, relax.step_cap"=[[1e-6, 0.1], [1e-8]]', "row 1: must be a list of 2 values, one for each"),
    ('sweep."fit.tolerance, relax.step_cap"=[1e-6]', "row 0: must be a list of 2 values, one for each key, not 1e-06"),
    ('sweep."fit.tolerance, training.cell"=[[1e-6, [3]]]', "tolerance, training.cell: training.cell is swept twice"),
    ('sweep."fit.tolerance, fit.tolerance"=[[1e-6, 1]]', "fit.tolerance is swept twice"),
    ('sweep."fit.tolerance, run.seed"=[[1e-6, 1]]', "[sweep] fit.tolerance, run.seed: no table to sweep"),
    (
        "simulation.cell=[4, 4, 4]",
        "[simulation] defects[1] at = [4.0, 4.0, 4.0]: is beyond the cell = [4, 4, 4], ",
    ),
    ("simulation.defects.0.at=[-1, 9.5, 3]", "(its periodic image there is [7.0, 1.5, 3.0])"),
    ("simulation.defects.2.position=[0, 8, 0]", "defects[2] position = [0.0, 8.0, 0.0]: is beyond the cell = [8, 8"),
    ("training.0.defects.0.at=[3.5, 0.5, 0.5]", "[[training]] 1 defects[0] at = [3.5, 0.5, 0.5]: is beyond the cell"),
    ("relax", "--set relax: must be table.key=value"),
    ("relax=3", "--set relax=3: must be table.key=value"),
    ("relax.method=", "--set relax.method=: must be table.key=value"),
    ("relax.method='newton", "the value is not TOML"),
    ("relax.method=1\nother=2", "must be one value"),
    ("surrogate.total_degree.x=1", "surrogate.total_degree.x: 'x' is below a value that is not a table"),
]

BAD_TEXTS = [
    ("[run\n", "input.toml is not valid TOML"),
    ("[run]\nseed = 1\nseed = 2\n", "input.toml is not valid TOML"),
    ("[training]\ncell = [2, 2, 2]\n", "[training] must be written [[training]]; there may be several"),
    ("training = []\n", "[[training]] is empty"),
    ("relax = 3\n", "[relax] must be a table, not an integer"),
    ("[crystal]\nspecies = ['W']\n", "[crystal] needs either 'lattice' or 'file'"),
    ("[simulation]\n[crystal]\nlattice='bcc'\nspecies=['W']\n", "[simulation] missing key 'cell': conventional cells"),
    ("[reference]\n", "[reference] needs either 'parameters' or 'file'"),
    ("[sweep]\nsurrogate.total_degree = [1, 2]\n", 'write the dotted key in quotes, "surrogate.total_degree" = [...]'),
    ("[sweep]\n'sweep.x' = [1]\n", "[sweep] sweep.x: no table to sweep"),
]


@pytest.mark.parametrize(("override", "message"), BAD_VALUES)
def test_a_wrong_value_is_told_with_table_key_and_remedy(override, message):
    with pytest.raises(ConfigError) as caught:
        loads(INPUT, [override])
    told = str(caught.value)
    assert message in told
    assert caught.value.exit_code == 2
    assert "\n" not in told or "\n" in override


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_a_wrong_file_is_told(text, message):
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert message in str(caught.value)


def test_missing_files_are_told_with_their_place(tmp_path):
    with pytest.raises(ConfigError, match=r"input file .*absent.toml does not exist"):
        load(tmp_path / "absent.toml")
    (tmp_path / "i.toml").write_text("[reference]\nfile = 'W.eam.alloy'\n")
    told = re.escape(f'[reference] file = "W.eam.alloy": no such file in {tmp_path}')
    with pytest.raises(ConfigError, match=told):
        load(tmp_path / "i.toml")
    (tmp_path / "W.eam.alloy").write_text("")
    assert load(tmp_path / "i.toml").path("W.eam.alloy") == tmp_path / "W.eam.alloy"
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "latin.toml")


@pytest.mark.parametrize("overrides", [(), ("crystal.lattice_constant=3.2", "training.rattle=0"), ("run.output=é.h5",)])
def test_the_resolved_input_reads_back_as_the_same_study(overrides):
    study = loads(INPUT, overrides)
    again = loads(study.as_toml())
    assert again == study
    assert again.as_toml() == study.as_toml()


def test_values_come_as_the_types_that_the_tables_name():
    study = loads(INPUT)
    first, second = study.training
    assert first.rattle == Rattle(0.03, "uniform")
    assert first.rattle.half_width == 0.03
    assert second.rattle.half_width == pytest.approx(0.01 / 3**0.5)
    assert (first.name, second.name) == ("training-1", "bulk")
    assert isinstance(second.weight, float)
    assert study.simulation.defects[0].at == (0.0, 0.0, 0.0)
    assert Training(cell=(2, 2)).repeats == (2, 2, 1)
    assert Training(cell=(2, 2)).rattle == Rattle(0.1, "julip")


def test_an_override_changes_one_key():
    study = loads(INPUT, ["relax.force_tolerance=1e-5", "relax.method=lbfgs", "training.0.samples=7"])
    assert (study.relax.force_tolerance, study.relax.method) == (1e-5, "lbfgs")
    assert [t.samples for t in study.training] == [7, 100]
    assert study.with_value("surrogate.total_degree", 10).surrogate.total_degree == 10
    assert loads(INPUT).surrogate.total_degree == 8


def test_an_override_replaces_a_whole_table():
    study = loads(INPUT, ["simulation={cell=[4, 4, 4]}", 'training=[{cell=[2, 2, 2]}, {cell=[3, 3, 3], name="b"}]'])
    assert (study.simulation.cell, study.simulation.defects) == ((4, 4, 4), ())
    trained = loads(study.as_toml(), ["sweep={}"]).training
    assert [(t.cell, t.samples) for t in trained] == [((2, 2, 2), 100), ((3, 3, 3), 100)]
    line = '{ kind="dipole", line=[1,1,1], plane=[-1,1,0], burgers=[0.5,0.5,0.5], core="easy" }'
    study = loads(INPUT, ["simulation.defects=[]", f"simulation.dislocations={line}", "fit.weights={force=2.0}"])
    assert study.simulation.dislocations.kind == "dipole"
    assert study.fit.weights.force == 2.0
    assert study.fit.weights.virial == loads(INPUT).fit.weights.virial
    assert loads(INPUT, ['sweep={"fit.tolerance"=[1e-4, 1e-6]}']).swept_keys == ("fit.tolerance",)


def test_a_sweep_is_the_product_of_its_lists_and_each_point_a_study():
    points = loads(INPUT).points()
    assert [tuple(p.values.values()) for p in points] == [
        (6, [3, 3, 3]), (6, [4, 4, 4]), (8, [3, 3, 3]), (8, [4, 4, 4])
    ]  # fmt: skip
    assert [p.index for p in points] == [0, 1, 2, 3]
    assert points[1].study.surrogate.total_degree == 6
    assert [t.cell for t in points[1].study.training] == [(4, 4, 4), (4, 4, 4)]
    assert points[1].study.points() == ()


def test_swept_keys_that_go_together_are_not_multiplied():
    defects = [[{"kind": "vacancy", "at": [0, 0, 0]}, {"kind": "vacancy", "at": [n, 0, 0]}] for n in (2, 3)]
    rows = "[" + ", ".join(toml_value([[n, n, n], d]) for n, d in zip((2, 3), defects, strict=True)) + "]"
    study = loads(
        INPUT, ["sweep={}", f'sweep."training.cell,simulation.defects"={rows}', "sweep.fit.tolerance=[1e-4, 1e-6]"]
    )
    assert study.swept_keys == ("training.cell", "simulation.defects", "fit.tolerance")
    assert [list(p.values.values()) for p in study.points()] == [
        [[2, 2, 2], defects[0], 1e-4], [[2, 2, 2], defects[0], 1e-6],
        [[3, 3, 3], defects[1], 1e-4], [[3, 3, 3], defects[1], 1e-6],
    ]  # fmt: skip
    assert [p.study.simulation.defects[1].at[0] for p in study.points()] == [2, 2, 3, 3]
    assert loads(study.as_toml()).sweep == study.sweep
    with pytest.raises(ConfigError, match=r"\[sweep\] gives its values; --set sweep={} for none"):
        loads(study.as_toml(), ["training.cell=[4, 4, 4]"])


def test_a_table_that_the_input_lacks_is_an_error_when_read():
    study = loads("[reference]\nparameters = 'W-EAM4'\n")
    assert study.reference.parameters == "W-EAM4"
    assert study.output.name == "input.h5"
    with pytest.raises(ConfigError, match=r"missing table \[\[training\]\]"):
        _ = study.training


def test_two_dimensional_cells_take_two_numbers():
    text = "[crystal]\nlattice = 'triangular'\nspecies = ['W']\n[simulation]\ncell = [12, 12]\n"
    assert loads(text).simulation.repeats == (12, 12, 1)
    with pytest.raises(ConfigError, match="directions that do not move must have 1 cell"):
        loads(text, ["simulation.cell=[12, 12, 2]"])


def test_names_in_the_input_are_those_of_the_modules_that_serve_them():
    from parmlip.crystal.lattices import LATTICES
    from parmlip.pipeline_stages import STAGES

    assert set(LATTICE_SLOTS) == set(LATTICE_DIMENSION) == set(LATTICES)
    for name, lattice in LATTICES.items():
        assert (LATTICE_SLOTS[name], LATTICE_DIMENSION[name]) == (lattice.n_slots, lattice.dimension), name
    assert {stage.stage for stage in STAGES.values()} == set(STAGE_NAMES)


@pytest.mark.parametrize("name", PARAMETER_SETS)
def test_built_in_parameter_sets_have_the_species_that_the_input_promises(name):
    from parmlip.potentials import bond_order, eam, stillinger_weber, tight_binding, toy

    modules = {
        "toy": toy,
        "eam": eam, "stillinger_weber": stillinger_weber, "bond_order": bond_order, "tight_binding": tight_binding,
    }  # fmt: skip
    assert modules[PARAMETER_KINDS[name]].builtin(name).species == PARAMETER_SETS[name]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"parameters": "Si-SW"}, 'parameters = "Si-SW": is a set of kind = "stillinger_weber", not "eam"'),
        ({"kind": "bond_order"}, 'kind = "bond_order" needs \'parameters\': one of "Si-PPM2017"'),
        ({"kind": "tight_binding", "file": "x"}, 'file: is not for kind = "tight_binding"'),
        ({"kind": "stillinger_weber", "parameters": "Si-SW", "taper": (3.0, 4.0)}, "taper: is not for kind"),
        ({"parameters": "W-EAM4", "exponent": "published"}, 'exponent: is for kind = "bond_order", not "eam"'),
        ({"parameters": "W-EAM4", "interpolation": "cubic"}, "is for the tables of a 'file'; \"W-EAM4\" has formulas"),
        ({"kind": "ace", "interpolation": "cubic"}, 'interpolation = "cubic": is for kind = "eam", not "ace"'),
        ({"kind": "stillinger_weber", "parameters": "Si-SW", "core": "zbl"}, 'core = "zbl": is for kind = "eam"'),
        ({"parameters": "W-Zhou", "core": "zbl"}, 'core = "zbl": is for parameters = "W-EAM4"; "W-Zhou" needs none'),
        ({"file": "x.eam.alloy", "core": "zbl"}, "is for parameters = \"W-EAM4\"; tables of a 'file' have their own"),
    ],
)
def test_keys_of_one_kind_of_reference_are_refused_with_another(keys, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        _check_reference(Reference(**keys))
