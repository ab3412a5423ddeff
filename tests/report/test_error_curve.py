"""What all reports of sweeps share: which points count, and the slope through them."""

import numpy as np
import pytest

from parmlip.report.dislocations import LineSeries
from parmlip.report.domains import Series
from parmlip.report.qmmm_table import Coupled
from parmlip.report.sweep import ErrorCurve, Sweep

OWN = {
    Sweep: {"labels": ("",) * 8, "what": "", "test": True, "rmse_energy": np.ones(8)},
    Series: {"label": "", "against": "L", "rmse_energy": np.ones(8), "dimension": 3},
    LineSeries: {"label": "", "loss": "none", "group": "", "against": "L", "rmse_energy": np.ones(8)},
    Coupled: {"label": "", "kind": "force", "rate": -3.0},
}


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_points_of_other_basins_or_without_a_logarithm_do_not_count(kind):
    x = np.array([1.0, 2.0, 4.0, 8.0, 3.0, 5.0, 6.0, np.nan])
    error = np.array([*x[:4] ** -2.0, 7.0, 0.0, np.nan, 1.0])
    same = np.arange(8) != 4
    one = kind(x=x, errors={"geometry_error": error}, same_basin=same, **OWN[kind])
    np.testing.assert_array_equal(one.usable("geometry_error"), np.arange(8) < 4)
    assert one.slope("geometry_error").slope == pytest.approx(-2.0)
    assert "slope" not in vars(kind)  # said once
    few = ErrorCurve(x=x[:3], errors={"geometry_error": error[:3]}, same_basin=same[:3])
    assert few.slope("geometry_error") is None
