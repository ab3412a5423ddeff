#!/usr/bin/env bash
# Runs one input file on this machine, after the set-up if that is missing.
# Usage: jobs/local.sh INPUT.toml [ranks, default 2] [options of parmlip, as --overwrite or --set table.key=value]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { sed -n 2,3p "$0" >&2; exit 2; }
input=$1
shift
ranks=2
case "${1:-}" in [1-9]*) ranks=$1; shift ;; esac
"$here/setup.sh"
# shellcheck source=jobs/env.sh
. "$here/env.sh"
exec mpirun -n "$ranks" parmlip "$input" "$@"
