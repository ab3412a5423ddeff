"""parmlip: machine-learned interatomic potentials of crystal defects with error control."""

__version__ = "0.1.0"
