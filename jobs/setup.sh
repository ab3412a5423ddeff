#!/usr/bin/env bash
# Makes .venv with parmlip and all it needs; returns at once when nothing is to do. Usage: jobs/setup.sh [test]
#
# MPI, mpi4py and petsc4py (real scalars) come from a Python that already has them: the one named in PARMLIP_PYTHON, the
# first python3 on PATH, or /usr/bin/python3 with Debian's or Ubuntu's packages, which are installed if they are missing.
# All else comes from PyPI into .venv. `jobs/setup.sh test` adds what the tests need.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extra=${1:-}
case "$extra" in '' | test) ;; *) echo "usage: jobs/setup.sh [test]" >&2; exit 2 ;; esac
venv=$PWD/.venv
python=$venv/bin/python
stamp=$venv/.parmlip-stamp
apt_packages="python3-petsc4py-real python3-mpi4py openmpi-bin libopenblas0-serial python3-venv"

say() { echo "[setup] $*"; }
wanted() { # what the environment is made from: if it changes, set-up runs again
    { cat jobs/setup.sh setup.cfg; echo "$PWD ${PARMLIP_PYTHON:-}"; } | sha256sum | cut -d' ' -f1
}
done_already() { # the extra "test" includes the plain set-up
    [ -f "$stamp" ] && [ -x "$python" ] && read -r hash level < "$stamp" &&
        [ "$hash" = "$(wanted)" ] && { [ -z "$extra" ] || [ "$level" = "$extra" ]; }
}

if done_already; then exit 0; fi
# Two set-ups at once would spoil each other: the second waits, and then has nothing to do.
if command -v flock > /dev/null; then
    exec 9< jobs/setup.sh
    flock 9
    if done_already; then exit 0; fi
fi

# Prints, for a Python that has all of them, numpy's major version and the directories of petsc4py and mpi4py.
# Debian keeps petsc4py outside Python's path. MPI is not started here: login nodes may forbid it.
probe='
import glob, re, sys
from importlib.util import find_spec
from pathlib import Path
assert sys.version_info >= (3, 11), "older than Python 3.11"
assert not glob.glob(f"{sys.prefix}/lib/python3*/site-packages/parmlip-mpi.pth"), "made by jobs/setup.sh elsewhere"
import ensurepip, numpy
if find_spec("petsc4py") is None:
    places = glob.glob("/usr/lib/petscdir/petsc3*/*-real/lib/python3/dist-packages/petsc4py")
    tag = f"cpython-{sys.version_info[0]}{sys.version_info[1]}-"
    places = [p for p in places if any(tag in f.name for f in Path(p).rglob("PETSc.*.so"))]
    assert places, "no petsc4py"
    newest = max(places, key=lambda p: [int(n) for n in re.findall(r"\d+", p.split("/")[4])])
    sys.path.append(str(Path(newest).parent))
assert find_spec("mpi4py"), "no mpi4py"
print(numpy.__version__.split(".")[0])
for name in "petsc4py", "mpi4py":
    print(Path(find_spec(name).origin).parent.parent)
'
find_base() { # sets base and found
    local candidate
    for candidate in ${PARMLIP_PYTHON:-$(type -ap python3 || true) /usr/bin/python3}; do
        case "$candidate" in "$venv"/*) continue ;; esac
        if found=$("$candidate" -c "$probe" 2> /dev/null); then
            base=$candidate
            return 0
        fi
    done
    return 1
}

if ! find_base; then
    if [ -n "${PARMLIP_PYTHON:-}" ]; then
        say "PARMLIP_PYTHON=$PARMLIP_PYTHON is not Python 3.11 or later with venv, numpy, petsc4py and mpi4py:" >&2
        "$PARMLIP_PYTHON" -c "$probe" 2>&1 | tail -n 1 >&2
        exit 1
    fi
    install="apt-get install -y --no-install-recommends $apt_packages"
    if ! command -v apt-get > /dev/null; then
        say "no python3 with petsc4py and mpi4py found, and no apt-get: load or build them (README, 'On a cluster')," >&2
        say "then run again, with PARMLIP_PYTHON=/path/to/python if it is not the first python3 on PATH" >&2
        exit 1
    elif [ "$(id -u)" = 0 ]; then
        as_root="env DEBIAN_FRONTEND=noninteractive"
    elif sudo -n true 2> /dev/null; then
        as_root="sudo -n DEBIAN_FRONTEND=noninteractive"
    else
        say "MPI and PETSc are missing and need root. Run this line, then jobs/setup.sh again:" >&2
        say "    sudo apt-get update && sudo $install" >&2
        exit 1
    fi
    say "installing MPI and PETSc: $install"
    # shellcheck disable=SC2086
    { $as_root apt-get update -q && $as_root $install; } > /tmp/parmlip-apt.$$.log 2>&1 ||
        { tail -n 20 /tmp/parmlip-apt.$$.log >&2; say "apt-get failed; its log is /tmp/parmlip-apt.$$.log" >&2; exit 1; }
    rm -f /tmp/parmlip-apt.$$.log
    find_base || { say "python3 still lacks petsc4py and mpi4py; /usr/bin/python3 says:" >&2
                   /usr/bin/python3 -c "$probe" 2>&1 | tail -n 1 >&2; exit 1; }
fi
{ read -r numpy_major; read -r petsc4py_at; read -r mpi4py_at; } <<< "$found"

rm -f "$stamp"
usable() { # .venv stands on the same Python
    [ -x "$python" ] && [ "$("$python" -c 'import sys; print(sys.base_prefix, *sys.version_info[:2])' 2> /dev/null)" \
        = "$("$base" -c 'import sys; print(sys.base_prefix, *sys.version_info[:2])')" ] && "$python" -m pip --version > /dev/null 2>&1
}
if ! usable; then
    say "making .venv on $base"
    "$base" -m venv --clear --system-site-packages .venv
fi
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Directories of a .pth file come last on Python's path, so that they hide nothing of .venv's own.
printf '%s\n' "$petsc4py_at" "$mpi4py_at" > "$site/parmlip-mpi.pth"

# A petsc4py compiled for numpy 1 cannot be imported under numpy 2. (Compiled for 2 it runs under both.)
constraint=$(mktemp)
trap 'rm -f "$constraint"' EXIT
echo "numpy<$((numpy_major + 1))" > "$constraint"
say "installing Python packages (numpy $numpy_major)"
pip() { "$python" -m pip install --quiet --disable-pip-version-check --no-input --prefer-binary "$@"; }
pip "setuptools>=64" wheel
pip --no-build-isolation --constraint "$constraint" --editable ".${extra:+[$extra]}"

# shellcheck source=jobs/env.sh
. jobs/env.sh
say "checking, and compiling the kernels once (parmlip doctor)"
told=$("$venv/bin/parmlip" doctor 2>&1) || {
    echo "$told" >&2
    say "parmlip doctor found faults, see above; mend them and run jobs/setup.sh again" >&2
    exit 1
}
grep -v '^ok ' <<< "$told"
echo "$(wanted) ${extra:-run}" > "$stamp"
say "ready; '. jobs/env.sh' puts parmlip on PATH"
