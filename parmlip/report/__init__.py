"""Figures and tables from the result file alone, so that they can be remade anywhere."""

from parmlip.report.figures import draw
from parmlip.report.tables import table

__all__ = ["draw", "table"]
