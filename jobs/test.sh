#!/usr/bin/env bash
# Lint, types and all tests, serial and on 2, 3 and 4 ranks, after the set-up if that is missing.
# Usage: jobs/test.sh [arguments of pytest, as tests/crystal -k vacancy or --ranks 2]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs/setup.sh test
# shellcheck source=jobs/env.sh
. jobs/env.sh
ruff check .
mypy
exec python -m pytest "$@"
