"""Structures of files in the place of labels by a reference."""

from __future__ import annotations

import logging
from dataclasses import asdict

from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.config_schema import suggestion
from parmlip.errors import ConfigError, DataError
from parmlip.fit.dataset_files import counts_by_type, counts_table, dataset_of, nearest_distance, species_of
from parmlip.fit.one_body import one_body_energies
from parmlip.io.hdf5 import Field
from parmlip.parallel.comm import on_root

logger = logging.getLogger(__name__)


def dataset_fields(study: Study, comm: MPI.Comm) -> dict[str, Field]:
    """Training and test structures with their labels, the one-body energies taken off.

    Collective on ``comm``.

    Raises
    ------
    ConfigError, DataError, GeometryError
        A type of [dataset.weights] or a label is not there, or atoms collide.
    """
    training, test, keys = on_root(comm, "reading the data set", construct.labelled_structures, study)
    given, species = study.dataset, species_of(training, test)
    counts = {"training": counts_by_type(training), **({"test": counts_by_type(test)} if test else {})}
    for kind in given.weights:
        if kind not in counts["training"]:
            raise ConfigError(f"[dataset.weights] {kind}: no such type{suggestion(kind, counts['training'])}")
    nearest = nearest_distance(training + test, given.closest, comm=comm)
    one_body = one_body_energies(training, given.one_body, species)
    logger.info("data set: %s", keys)
    for line in counts_table(counts):
        logger.info("    %s", line)
    if given.one_body == "fit":  # no function of neighbours gives the difference to a free atom's energy
        free = [s for s in training + test if s.is_free_atom]
        training, test = ([s for s in of if not s.is_free_atom] for of in (training, test))
        if free:
            logger.info('%d free atoms are left out, since one_body = "fit"', len(free))
        if not training:
            raise DataError("the data set has nothing but free atoms")
    logger.info("one-body energies (eV): %s", ", ".join(f"{symbol} {e:.6f}" for symbol, e in one_body.items()))
    if (keys.virial or keys.stress) and study.fit.weights.virial == 0.0:
        logger.warning("the data set has virials, but [fit] weights.virial is 0: they are not fitted")
    fields = {
        "training": Field(dataset_of(training, one_body, given.size, asdict(given.noise)).packed()),
        "n_training": Field(len(training), about="configurations"),
        "n_test": Field(len(test), about="configurations"),
        "species": Field(list(species)),
        "one_body": Field(one_body, "eV", "energies of free atoms, taken off the labels"),
        "keys": Field({name: key for name, key in asdict(keys).items() if key}, about="where the labels stand"),
        "counts": Field({of: {kind: asdict(n) for kind, n in by.items()} for of, by in counts.items()}),
    }
    if nearest is not None:
        logger.info("nearest neighbours are %.4f A apart (median)", nearest)
        fields["nearest_distance"] = Field(nearest, "A", "median over the atoms")
    if test:
        fields["test"] = Field(dataset_of(test, one_body, given.size, asdict(given.noise)).packed())
    return fields
