"""The verbs that read or write files and compute little: export, report, info, template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mpi4py import MPI

from parmlip.cli_parser import Parser, tell
from parmlip.config_schema import suggestion
from parmlip.errors import ConfigError, DataError
from parmlip.parallel.comm import on_root

# Imports that bring numpy or HDF5 stand inside the verbs, as in `cli`.

TEMPLATES: Final = Path(__file__).parent / "templates"


def export(arguments: list[str], comm: MPI.Comm) -> int:
    """Write the fitted potential for LAMMPS. Collective on ``comm``: rank 0 works."""
    parser = Parser(
        prog="parmlip export",
        description="The fitted potential as a file for LAMMPS' pair style pace. Beside it goes a certificate "
        "(NAME.yace.json): range of validity, and how far an independent reader of the file is from the law.",
    )
    parser.add_argument("results", type=Path, metavar="RUN.h5")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="NAME.yace", help="file to be written")
    parser.add_argument("--point", type=int, metavar="I", help="point of the sweep whose surrogate is taken")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        from parmlip.io.fitted import fitted_law
        from parmlip.io.pace import certificate_path, check_target, write_yace

        check_target(options.output, options.overwrite)
        c = write_yace(options.output, fitted_law(options.results, options.point))
        return [
            f"{options.output} written: {', '.join(c['species'])}, {c['n_basis']} functions, valid from "
            f"{c['valid_from']:.4g} to {c['cutoff']:.4g} A",
            f"read back in {c['test_environments']} environments: site energies up to {c['max_energy']:.3g} eV to "
            f"{c['max_energy_deviation']:.1e}, forces up to {c['max_force']:.3g} eV/A to "
            f"{c['max_force_deviation']:.1e}; see {certificate_path(options.output)}",
            "LAMMPS: " + "; ".join(c["lammps"]),
        ]

    tell(comm, *on_root(comm, "exporting", work))
    return 0


def report(arguments: list[str], comm: MPI.Comm) -> int:
    """Tell and draw the results of a file. Collective on ``comm``: rank 0 works."""
    parser = Parser(prog="parmlip report", description="Figures and a table from a result file.")
    parser.add_argument("results", type=Path, metavar="RUN.h5")
    parser.add_argument("--json", action="store_true", help="numbers and short lists as one JSON object, no figures")
    parser.add_argument("-o", "--output", type=Path, metavar="DIRECTORY", help="where the figures go")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        if options.json:
            from parmlip.report.numbers import numbers

            return [json.dumps(numbers(options.results), indent=1, allow_nan=False)]
        from parmlip.report import draw, table

        directory = options.output or options.results.parent
        if not directory.is_dir():
            raise ConfigError(f"-o {directory}: there is no such directory")
        lines = table(options.results)
        return [*lines, *(f"figure {path}" for path in draw(options.results, directory))]

    tell(comm, *on_root(comm, "reporting", work))
    return 0


def info(arguments: list[str], comm: MPI.Comm) -> int:
    """Tell what a result file holds. Collective on ``comm``: rank 0 works."""
    parser = Parser(prog="parmlip info", description="What a result file holds.")
    parser.add_argument("results", type=Path, metavar="RUN.h5")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        from parmlip.io.hdf5 import ResultFile

        file = ResultFile(options.results)
        meta = file.meta()
        lines = [f"{key:<8} {meta[key]}" for key in ("version", "commit", "ranks", "start", "end")]
        told: set[str] = set()
        for name, point, seconds in file.stages():
            where = name if point is None else f"point {point}: {name}"
            names = "" if name in told else f": {', '.join(file.names(name, point))}"  # the same at every point
            lines.append(f"{where}: complete, {seconds:.2f} s{names}")
            told.add(name)
        points = [f"point {i}: " + ", ".join(f"{k} = {v}" for k, v in p.items()) for i, p in enumerate(file.points())]
        return [*lines, *points, "", str(meta["config"]).rstrip()]

    tell(comm, *on_root(comm, "reading the result file", work))
    return 0


def template(arguments: list[str], comm: MPI.Comm) -> int:
    """Write an input to start from. Collective on ``comm``: rank 0 works."""
    parser = Parser(prog="parmlip template", description="A commented input file to start from.")
    parser.add_argument("name", nargs="?", help="without a name: which there are")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="by default NAME.toml")
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        texts = {path.stem: path.read_text() for path in sorted(TEMPLATES.glob("*.toml"))}
        if options.name is None:
            lines = [f"{name:<12} {text.splitlines()[0].removeprefix('# ')}" for name, text in texts.items()]
            return [*lines, "keys         prints every table and key, its default and what is right"]
        if options.name == "keys":
            from parmlip.input_keys import key_reference

            return key_reference()
        if options.name not in texts:
            raise ConfigError(f"unknown template '{options.name}'{suggestion(options.name, texts)}")
        path = options.output or Path(f"{options.name}.toml")
        try:
            with open(path, "x") as file:
                file.write(texts[options.name])
        except FileExistsError:
            raise ConfigError(f"{path} exists; choose another name with -o") from None
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from None
        verb, behind = ("", "") if "[simulation]" in texts[options.name] else ("evaluate ", " STRUCTURES -o OUT.xyz")
        return [f"{path} written; run it with: parmlip {verb}{path}{behind}"]

    tell(comm, *on_root(comm, "writing the template", work))
    return 0
