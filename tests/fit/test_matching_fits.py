"""Fits to the matching conditions of QM/MM coupling: losses (4.1) to (4.3) with the weights of table F.1."""

import numpy as np
import pytest

from parmlip.config_fit_tables import WEIGHT_PRESETS
from parmlip.crystal.lattices import LATTICES
from parmlip.fit.patches import Crystal, patch_of
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin
from tests.test_observations_run import done


def fitted(path, *overrides):
    """A run whose rattled cells count for nothing."""
    cells = "training=[{ cell = [2, 2, 2], samples = 1, test_samples = 0 }]"
    return done(path, cells, "fit.tolerance=1e-13", "fit.homogeneous=0", *overrides)


def test_weights_of_virials_are_of_the_energy_of_a_site(tmp_path):
    """W_cb of (3.4) is the energy of a site in eV, where the rows are of energies per volume."""
    preset = fitted(tmp_path / "preset.h5", "fit.weights=force_mixing_K1_virial")
    volume = preset.read("build", "lattice_constant") ** 3 / 2
    table = WEIGHT_PRESETS["force_mixing_K1_virial"]
    own = {name: weight * (volume**2 if name == "cauchy_born_3" else 1.0) for name, weight in table.items()}
    words = ", ".join(f"{name} = {weight}" for name, weight in {"energy": 0.0, "force": 0.0, **own}.items())
    written = fitted(tmp_path / "written.h5", f"fit.weights={{{words}}}")
    for name in table:
        a, b = (file.read("train", "matching")[name]["rmse"] for file in (preset, written))
        assert a == pytest.approx(b, rel=1e-6)


def test_the_loss_of_a_preset_is_that_of_the_paper(tmp_path):
    """(4.2) with (4.3): table F.1's weights times the errors of all force constants and of the tensor d^3 W itself."""
    preset = "force_mixing_K1_virial"
    file = fitted(tmp_path / "loss.h5", f"fit.weights={preset}", "fit.tolerance=0.01")
    of = LATTICES["bcc"], float(file.read("build", "lattice_constant")), ("W",)
    ace = ACE(ACEBasis.from_parameters(file.read("train", "basis")), np.asarray(file.read("train", "coefficients")))
    law = builtin("W-Zhou", (3.3, 4.2))
    a, b = (CauchyBorn(x, *of) for x in (law, ace))
    virial = np.sum(((a.third() - b.third()) * a.volume / 2) ** 2)  # two sites in the cell
    patch = patch_of(Crystal(*of), 0, 4.3, 4.3)
    force = 0.0
    for c in range(3):
        v_ac = np.zeros((patch.n_sites, 3))
        v_ac[0, c] = 1.0
        force += np.sum(
            (patch.tangent_of_law(law)(patch.r_pc, patch.bonds(v_ac))
             - patch.tangent_of_law(ace)(patch.r_pc, patch.bonds(v_ac))) ** 2
        )  # fmt: skip
    weights = WEIGHT_PRESETS[preset]
    parts = weights["force_derivative_1"] * force, weights["cauchy_born_3"] * virial
    assert min(parts) > 1e-3 * max(parts)  # both count
    assert file.read("train", "residual_norm") ** 2 == pytest.approx(sum(parts), rel=1e-6)
