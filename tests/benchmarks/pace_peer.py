"""Times PACE's evaluators (python-ace) on request; runs in the environment that has them, started by bench_ace.py.

Reads one JSON object: positions, cell and symbol of a periodic crystal, cutoff, and either `yace` (a file) or `slots`
(n and l of the factors of each basis function). Then, for every line read, evaluates once and prints microseconds per
atom of processor time. The neighbour list is built before.
"""

import json
import sys
import time

import numpy as np
from ase import Atoms
from pyace import create_multispecies_basis_config
from pyace.atomicenvironment import aseatoms_to_atomicenvironment
from pyace.basis import ACEBBasisSet, ACECTildeBasisSet, BBasisFunctionSpecification
from pyace.calculator import ACECalculator
from pyace.evaluator import ACEBEvaluator, ACERecursiveEvaluator


def basis_of(symbol, cutoff, slots):
    """PACE's own basis of the given factors (its own radial functions: only the time counts)."""
    n_max = max(n for ns, _ in slots for n in ns)
    l_max = max(ell for _, ls in slots for ell in ls)
    configuration = create_multispecies_basis_config(
        {
            "deltaSplineBins": 0.001,
            "elements": [symbol],
            "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1], "ndensity": 1}},
            "bonds": {
                "ALL": {
                    "radbase": "SBessel",
                    "radparameters": [5.25],
                    "rcut": cutoff,
                    "dcut": 0.01,
                    "NameOfCutoffFunction": "cos",
                }
            },
            "functions": {"ALL": {"nradmax_by_orders": [n_max, n_max], "lmax_by_orders": [0, l_max]}},
        }
    )
    block = configuration.funcspecs_blocks[0]
    block.funcspecs = [
        BBasisFunctionSpecification(elements=[symbol] * (len(ns) + 1), ns=ns, ls=ls, coeffs=[1e-3]) for ns, ls in slots
    ]
    return ACEBBasisSet(configuration)


def main():
    """Serve one basis."""
    job = json.loads(sys.stdin.readline())
    atoms = Atoms([job["symbol"]] * len(job["positions"]), job["positions"], cell=job["cell"], pbc=True)
    environment = aseatoms_to_atomicenvironment(atoms, cutoff=job["cutoff"], elements_mapper_dict={job["symbol"]: 0})
    options = {}
    if "yace" in job:
        basis = ACECTildeBasisSet(job["yace"])
        evaluator = ACERecursiveEvaluator(basis)
        evaluator.set_recursive(True)
    else:
        basis = basis_of(job["symbol"], job["cutoff"], job["slots"])
        evaluator = ACEBEvaluator(basis)
        options = {"compute_projections": True, "compute_b_grad": True}
    calculator = ACECalculator()
    calculator.set_evaluator(evaluator)
    calculator.compute(environment, **options)
    if options:
        size = np.shape(calculator.forces_bfuncs)[1]
    else:
        size = len(calculator.forces)
    print(
        json.dumps({"size": size, "energy": calculator.energy, "forces": np.array(calculator.forces).tolist()}),
        flush=True,
    )
    for _ in sys.stdin:
        start = time.thread_time()
        calculator.compute(environment, **options)
        print((time.thread_time() - start) / len(atoms) * 1e6, flush=True)


if __name__ == "__main__":
    main()
