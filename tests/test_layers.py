"""The layers of the program, read from its syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "parmlip").rglob("*.py"))

# Lowest first; a module imports from its own and from lower layers.
LAYERS = (
    ("errors", "units"),
    ("config", "parallel"),
    ("numerics", "crystal"),
    ("io", "potentials"),
    ("mechanics",),
    ("fit", "analysis"),
    ("report", "construct", "input_keys"),
    ("stages", "evaluate", "estimate"),
    ("pipeline",),
    ("doctor",),
    ("cli", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Who may import what, by top-level package of the import; others may not.
CONFINED = {
    "petsc4py": ("mechanics", "doctor"),
    "h5py": ("io",),
    "matplotlib": ("report",),
}
# Plain functions of arrays, without communication.
LOCAL = ("crystal", "potentials", "numerics")
# Reading an input or a result must not run what stands in it.
FORBIDDEN_IMPORTS = ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve")
FORBIDDEN_CALLS = ("eval", "exec", "__import__")


def part(path: Path) -> str:
    """The package or module directly under parmlip/ to which a file belongs; "" for parmlip/__init__.py.

    config_schema.py is a part of config.
    """
    name = path.relative_to(ROOT / "parmlip").parts[0].removesuffix(".py")
    if name == "__init__":
        return ""
    return name if name in LEVEL else name.partition("_")[0]


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each import, also those inside functions and under TYPE_CHECKING."""
    package = ("parmlip", *path.relative_to(ROOT / "parmlip").parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from parmlip import config` names a module, `from parmlip.errors import X` does not; both begin alike
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def faults(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and description of each breach of the rules in one file."""
    mine = part(path)
    for_annotations = {
        statement.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
    }
    for line, name in imports(tree, path):
        top, _, rest = name.partition(".")
        if top in CONFINED and mine not in CONFINED[top]:
            yield line, f"imports {top}, which only {' and '.join(CONFINED[top])} may"
        if top == "mpi4py" and mine in LOCAL and line not in for_annotations:
            yield line, f"imports mpi4py, but {mine} is local: it may be given a communicator"
        if top in FORBIDDEN_IMPORTS:
            yield line, f"imports {top}: data files must not be able to run code"
        if top == "parmlip":
            other = rest.partition(".")[0]
            if other in LEVEL and (not mine or LEVEL[other] > LEVEL[mine]):
                yield line, f"imports parmlip.{other}, a higher layer than parmlip.{mine}"
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield line, "bare except"
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in FORBIDDEN_CALLS:
                yield line, f"calls {called.id}"
            if isinstance(called, ast.Name) and called.id == "print" and mine != "cli":
                yield line, "prints; only cli may, the others log"
            if isinstance(called, ast.Attribute) and called.attr == "load":
                pickles = [k.value for k in node.keywords if k.arg == "allow_pickle"]
                if any(not (isinstance(v, ast.Constant) and v.value is False) for v in pickles):
                    yield line, "loads pickles"
        named = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if named == "COMM_WORLD" and mine != "cli":
            yield line, "names COMM_WORLD; only cli may, the others are given a communicator"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_keeps_to_its_layer(path):
    found = [f"{path.relative_to(ROOT)}:{line}: {what}" for line, what in faults(path, ast.parse(path.read_text()))]
    assert not found, "\n".join(found)


def test_every_part_of_the_program_has_a_layer():
    assert {part(path) for path in MODULES} - {""} <= set(LEVEL)


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("fit/design.py", "from petsc4py import PETSc", "imports petsc4py"),
        ("stages.py", "def f():\n    import h5py", "imports h5py"),
        ("io/atoms.py", "import matplotlib.pyplot as plt", "imports matplotlib"),
        ("crystal/norms.py", "from mpi4py import MPI", "crystal is local"),
        ("potentials/eam.py", "from parmlip.mechanics.energy import Energy", "a higher layer"),
        ("potentials/eam.py", "from ..mechanics import energy", "a higher layer"),
        ("numerics/lstsq.py", "from parmlip import stages", "a higher layer"),
        ("__init__.py", "from parmlip.config import load", "a higher layer"),
        ("io/hdf5.py", "import pickle", "imports pickle"),
        ("io/hdf5.py", "x = np.load(f, allow_pickle=True)", "loads pickles"),
        ("config.py", "x = eval(text)", "calls eval"),
        ("report.py", "print(1)", "prints"),
        ("stages.py", "from mpi4py import MPI\ncomm = MPI.COMM_WORLD", "names COMM_WORLD"),
        ("pipeline.py", "try:\n    f()\nexcept:\n    pass", "bare except"),
    ],
)
def test_breach_is_found(path, source, fault):
    assert any(fault in what for _, what in faults(ROOT / "parmlip" / path, ast.parse(source)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("mechanics/energy.py", "from petsc4py import PETSc\nfrom parmlip.errors import ConfigError"),
        ("fit/design.py", "from parmlip.fit import observations\nfrom mpi4py import MPI"),
        ("cli.py", "from mpi4py import MPI\nprint(MPI.COMM_WORLD.size)"),
        ("config.py", "from .errors import ConfigError"),
        ("numerics/lstsq.py", "if TYPE_CHECKING:\n    from mpi4py import MPI"),
    ],
)
def test_allowed_code_has_no_fault(path, source):
    assert not list(faults(ROOT / "parmlip" / path, ast.parse(source)))
