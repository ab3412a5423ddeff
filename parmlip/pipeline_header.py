"""The first lines of a run: version, commit, ranks and hosts, what the input gives, what is to be known before."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mpi4py import MPI

import parmlip
from parmlip.config import Study
from parmlip.config_schema import key_name, plain, toml_key, toml_value
from parmlip.construct_warnings import charge_warning
from parmlip.crystal import neighbours
from parmlip.potentials.kernels import ace_sites, bond_order, eam, stillinger_weber, tight_binding, toy

# A kernel of each kind of law that every run with it needs. Where it is compiled, so are mostly the others.
_KERNELS: Final[dict[str, Any]] = {
    "eam": eam.site_gradients,
    "ace": ace_sites.energies_and_gradients,
    "stillinger_weber": stillinger_weber.site_gradients,
    "bond_order": bond_order.site_gradients,
    "tight_binding": tight_binding.pair_blocks,
    "toy": toy.site_gradients,
}


def header(study: Study, comm: MPI.Comm) -> list[str]:
    """Version, commit, ranks and hosts, input, and the keys that are given or not at their defaults.

    Collective on ``comm``.
    """
    hosts = comm.allgather(MPI.Get_processor_name())
    counts = ", ".join(f"{hosts.count(host)} on {host}" for host in dict.fromkeys(hosts))
    at = f" ({commit()[:12]})" if commit() else ""
    lines = [
        f"parmlip {parmlip.__version__}{at}, {comm.size} rank{'s' if comm.size > 1 else ''}: {counts}",
        f"input {study.source} (all keys: parmlip info {study.output})",
        *(f"    {line}" for line in told_keys(study)),
    ]
    warning = charge_warning(study)
    if warning is not None:
        lines.append(warning)
    if not compiled(study):
        lines.append("compiling kernels, once on this machine: about half a minute")
    return lines


def commit() -> str:
    """The git commit of the package's work tree, empty when it is not in one."""
    git = Path(__file__).resolve().parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines())
        return next((line[0] for line in packed if line[1:] == [name]), "")
    except OSError:
        return ""


def told_keys(study: Study) -> list[str]:
    """`table.key = value` for each key that the input file gives or that has another value than its default."""
    given: dict[str, Any] = {}
    if study.source.suffix == ".toml":  # a result file gives all of them
        given = tomllib.loads(study.text)
    lines = []
    for name, table in study.tables.items():
        blocks = table if isinstance(table, tuple) else (table,)
        of_blocks = given.get(name, {}) if isinstance(table, tuple) else [given.get(name, {})]
        for i, block in enumerate(blocks):
            head = f"{name}.{i}" if isinstance(table, tuple) else name
            mine = of_blocks[i] if isinstance(of_blocks, list) and i < len(of_blocks) else {}
            lines += [f"{head}.{toml_key(key)} = {toml_value(value)}" for key, value in _told(block, mine)]
    return lines + [f"sweep.{toml_key(key)} = {toml_value(plain(value))}" for key, value in study.sweep.items()]


def _told(table: Any, given: Any) -> Iterator[tuple[str, Any]]:
    """Keys of a dataclass with plain values, without those at their default that are not given."""
    for field in dataclasses.fields(table):
        name, value = key_name(field), getattr(table, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        by_hand = isinstance(given, dict) and name in given
        if value is None or (value == default and not by_hand):
            continue
        if dataclasses.is_dataclass(value):
            yield name, dict(_told(value, given[name] if by_hand else {}))
        else:
            yield name, plain(value)


def compiled(study: Study) -> bool:
    """Whether numba's cache has the kernels of the laws of this input, as far as one of each can tell."""
    kinds = [study.reference.kind] if "reference" in study.tables else []
    kinds += ["ace"] if "train" in study.run.stages and study.surrogate.kind == "ace" else []
    kernels = [_KERNELS[kind] for kind in kinds if kind in _KERNELS]
    return all(_is_cached(kernel) for kernel in [neighbours._sweep, *kernels])


def _is_cached(kernel: Any) -> bool:
    """Whether there is an index of a kernel's compiled versions; true where nothing is compiled (NUMBA_DISABLE_JIT)."""
    if not hasattr(kernel, "stats"):
        return True
    code = kernel.py_func.__code__
    index = f"{Path(code.co_filename).stem}.{code.co_name}-{code.co_firstlineno}.*.nbi"
    return any(Path(kernel.stats.cache_path).glob(index))
