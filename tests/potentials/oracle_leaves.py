"""Values of independent programs by their path in the project's table of laws, gathered from tests/data."""

import hashlib
import json
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"


def _flat(value, path=""):
    """(path, value) of every leaf; lists of tables are numbered, lists of numbers are leaves."""
    if isinstance(value, dict):
        return [leaf for key, below in value.items() for leaf in _flat(below, f"{path}/{key}".lstrip("/"))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [leaf for i, below in enumerate(value) for leaf in _flat(below, f"{path}/{i}")]
    return [(path, value)]


def _gathered():
    """Every leaf of the table, and the digest of its paths as it was when the values were copied.

    Parts of the table were copied by the tests of the laws; `law_oracles.json` has the paths that are in none of them.
    """
    eam, silicon, binding, rest = (
        json.loads((DATA / f"{name}_oracles.json").read_text()) for name in ("eam", "silicon", "tight_binding", "law")
    )
    eam, silicon = eam["laws"], silicon["laws"]
    parts = {
        "potentials/W_EAM4": eam["W-EAM4"],
        "potentials/W_Zhou": eam["W-Zhou"],
        "potentials/Cu_Mishin2001": eam["Cu-Mishin2001"],
        "potentials/NiAl_AngeloMoodyBaskes1995": eam["NiAlH_jea.eam.alloy"],
        "potentials/Si_SW": silicon["Si-SW"],
        "potentials/Si_SW_eps2.1675": silicon["Si-SW-2.1675"],
        "potentials/Si_PPM2017": silicon["Si-PPM2017"],
        "hessians/Cu_Mishin2001_2x2x1_rattled": eam["Cu-Mishin2001"]["hessian"],
        "hessians/Si_SW_eps2.1675_2x2x1_rattled": silicon["Si-SW-2.1675"]["hessian"],
        "triangular_lattice_2d/W_EAM4": eam["W-EAM4"]["triangular"],
        "NRL_TB_Si": {key: value for key, value in binding.items() if key != "_meta"},
    }
    leaves = dict(rest["leaves"])
    # What the tests of the laws have from elsewhere, or under names of their own.
    own = ("hessian", "triangular", "vacancy", "dense", "inward_vacancy")
    silicon["Si-SW-2.1675"]["hessian"].pop("source")
    for prefix, part in parts.items():
        for path, value in _flat(part):
            if not (prefix.startswith("potentials/") and path.split("/")[0] in own):
                place = path.replace("rattled/", "rattled/0/", 1) if path.startswith("rattled/") else path
                leaves.setdefault(f"{prefix}/{place}", value)
    return leaves, rest["n_paths"], rest["sha256_of_the_sorted_paths"]


LEAVES, N_PATHS, DIGEST = _gathered()


def digest_of_paths():
    """SHA-256 of the sorted paths, one a line."""
    return hashlib.sha256("\n".join(sorted(LEAVES)).encode()).hexdigest()
