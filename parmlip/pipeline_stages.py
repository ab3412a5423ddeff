"""The table of stages: what each runs, needs and depends on.

A stage is a collective function `run(study, results, comm)` that returns its fields by name (those of rank 0 count).
Stages speak to each other only through the result file, so a resumed run sees what an uninterrupted one saw.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mpi4py import MPI

from parmlip.config import Study
from parmlip.config_fit_tables import LATTICE_NAMES
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results


@dataclass(frozen=True)
class Stage:
    """One step of the work. `stage` is the name in `[run] stages` that asks for it (several steps may share one)."""

    run: Callable[[Study, Results, MPI.Comm], Mapping[str, Field]]
    stage: str
    needs: tuple[str, ...] = ()  # steps that must be complete
    tables: tuple[str, ...] = ()  # tables, or single keys, that it depends on (beside those of its needs)
    optional: tuple[str, ...] = ()  # tables that it depends on where the input has them
    wanted: Callable[[Study], bool] = lambda study: True  # whether this input wants the step at all
    gathers: bool = False  # done once, after all points of a sweep
    also: Callable[[Study], object] = lambda study: None  # what else must agree at two points for one to stand for both
    otherwise: str = ""  # what can be done in place of its last need
    instead: tuple[Callable[[Study], bool], Stage] | None = None  # when, and the step that gives the same results then

    def of(self, study: Study) -> Stage:
        """The step as this input wants it."""
        return self if self.instead is None or not self.instead[0](study) else self.instead[1].of(study)


def _by_name(name: str) -> Callable[[Study, Results, MPI.Comm], Mapping[str, Field]]:
    """`parmlip.stages.<name>`, imported when it runs: stages bring PETSc and numba, which take their time."""

    def run(study: Study, results: Results, comm: MPI.Comm) -> Mapping[str, Field]:
        function: Callable[[Study, Results, MPI.Comm], Mapping[str, Field]]
        function = getattr(importlib.import_module("parmlip.stages"), name)
        return function(study, results, comm)

    return run


def _has_law(study: Study) -> bool:
    """Whether there is something to compare with: a data set may stand in for a reference law."""
    return "reference" in study.tables or "dataset" not in study.tables


def _has_dataset(study: Study) -> bool:
    return "dataset" in study.tables


def _labels(study: Study) -> object:
    """What is labelled, and as far as the surrogate reaches where that is on the perfect crystal."""
    observed = study.fit.observed
    return [observed, study.surrogate.reach if any(name in LATTICE_NAMES for name in observed) else 0.0]


def _is_controlled(study: Study) -> bool:
    """Whether the surrogate is an expansion of the reference, which is not fitted."""
    return study.surrogate.kind == "taylor"


def _at_equilibrium(study: Study) -> bool:
    return study.locality.displacement.kind == "equilibrium"


def _without_truth(study: Study) -> bool:
    return not study.qmmm.truth or getattr(study.tables.get("reference"), "is_total", False)


def _without_surrogate(study: Study) -> bool:
    return study.qmmm.mm != "surrogate"


def _qmmm(*needs: str, instead: tuple[Callable[[Study], bool], Stage] | None = None) -> Stage:
    """The coupling, which needs the MM law and the reference's equilibrium where the input wants them."""
    learnt = ("surrogate",) if "train" in needs else ()
    tables = (*_MODEL, "simulation", "relax", "compare", "qmmm", *learnt)
    otherwise = ""
    if needs[-1:] == ("relax_reference",):
        otherwise = "or [qmmm] truth = false where no errors against the reference everywhere are wanted"
    return Stage(_by_name("qmmm"), "qmmm", ("build", "reference", *needs), tables, otherwise=otherwise, instead=instead)


_MODEL: Final = ("crystal", "reference")
# Steps that ask the reference law stand apart from those that use the surrogate: a sweep over the surrogate does the
# former, which are dear, only once.
STAGES: Final[Mapping[str, Stage]] = MappingProxyType(
    {
        "build": Stage(
            _by_name("build"), "build", (), (*_MODEL, "simulation"),
            instead=(_has_dataset, Stage(_by_name("build"), "build", (), ("crystal", "simulation"), ("reference",))),
        ),
        "reference": Stage(_by_name("reference"), "reference", ("build",), _MODEL, wanted=_has_law),
        "label": Stage(
            _by_name("label"), "train", ("build", "reference"),
            (*_MODEL, "training", "fit.homogeneous", "fit.decay", "surrogate.target", "fit.decomposition",
             "rates.masses", "rates.images", "rates.force_tolerance"),
            instead=(_has_dataset, Stage(_by_name("read_dataset"), "train", (), ("dataset",))),
            wanted=lambda study: not _is_controlled(study),
            also=_labels,
        ),
        "train": Stage(
            _by_name("train"), "train", ("label",), ("surrogate", "fit"),
            instead=(_is_controlled, Stage(
                _by_name("train_controlled"), "train", ("build", "reference"), (*_MODEL, "surrogate"), ("training",)
            )),
        ),
        "match": Stage(
            _by_name("match"), "match", ("build", "train"),
            (*_MODEL, "training", "surrogate", "match", "relax", "compare.neighbours"),
        ),
        "relax_reference": Stage(
            _by_name("relax_reference"), "relax", ("build", "reference"), (*_MODEL, "simulation", "relax"),
            wanted=lambda study: "reference" in study.relax.laws,
        ),
        "relax_surrogate": Stage(
            _by_name("relax_surrogate"), "relax", ("build", "train"),
            ("simulation", "surrogate", "relax", "compare.neighbours"), ("reference",),
            wanted=lambda study: "surrogate" in study.relax.laws,
        ),
        "compare": Stage(
            _by_name("compare"), "compare", ("relax_reference", "relax_surrogate"), ("compare",), ("training",),
            wanted=_has_law,
        ),
        "qmmm": _qmmm("train", "relax_reference", instead=(
            lambda study: _without_truth(study) or _without_surrogate(study),
            _qmmm("train", instead=(
                _without_surrogate, _qmmm("relax_reference", instead=(_without_truth, _qmmm()))
            )),
        )),
        "advise": Stage(
            _by_name("advise"), "advise", ("build", "reference", "train", "match", "relax_surrogate"),
            ("training", "simulation", "surrogate", "fit", "compare.neighbours", "advise"),
        ),
        "entropy": Stage(
            _by_name("entropy"), "entropy", ("build", "relax_reference"), (*_MODEL, "simulation", "relax", "entropy"),
            wanted=lambda study: "reference" in (study.entropy.laws or study.relax.laws),
        ),
        "entropy_surrogate": Stage(
            _by_name("entropy_surrogate"), "entropy", ("build", "relax_surrogate"),
            ("crystal", "simulation", "surrogate", "relax", "entropy"), ("reference",),
            wanted=lambda study: "surrogate" in (study.entropy.laws or study.relax.laws),
        ),
        "predict_entropy": Stage(
            _by_name("predict_entropy"), "entropy", ("build", "train", "relax_reference", "entropy"),
            ("crystal", "simulation", "surrogate", "fit", "entropy"), ("reference",),
            wanted=lambda study: study.surrogate.target == "entropy" and "train" in study.run.stages,
        ),
        "rates": Stage(
            _by_name("rates"), "rates", ("build", "relax_reference"),
            (*_MODEL, "simulation", "relax", "rates", "entropy"),
            wanted=lambda study: "reference" in (study.rates.laws or study.relax.laws),
        ),
        "rates_surrogate": Stage(
            _by_name("rates_surrogate"), "rates", ("build", "relax_surrogate"),
            ("crystal", "simulation", "surrogate", "relax", "rates", "entropy"), ("reference",),
            wanted=lambda study: "surrogate" in (study.rates.laws or study.relax.laws),
        ),
        "locality": Stage(
            _by_name("locality"), "locality", ("build",), (*_MODEL, "simulation", "locality", "run.seed"),
            instead=(_at_equilibrium, Stage(
                _by_name("locality"), "locality", ("build", "relax_reference"),
                (*_MODEL, "simulation", "relax", "locality"),
            )),
        ),
        "report": Stage(_by_name("report"), "report", (), ("report",), gathers=True),
    }
)  # fmt: skip
