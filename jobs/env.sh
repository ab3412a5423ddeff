# Environment of parmlip; source it: `. jobs/env.sh`. Bash.
parmlip_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ":$PATH:" in
    ":$parmlip_root/.venv/bin:"*) ;;
    *) export PATH="$parmlip_root/.venv/bin:$PATH" ;;
esac
unset parmlip_root

# Parallel is MPI; a library that starts threads beside it slows both (a 2-rank eigensolve took 4.9 s instead of 0.67 s).
for name in OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMBA_NUM_THREADS; do
    export "$name=${!name:-1}"
done
unset name

# One shared machine only: inside a batch job the scheduler places the ranks.
if [ -z "${SLURM_JOB_ID:-}${PBS_JOBID:-}${LSB_JOBID:-}" ]; then
    export OMPI_MCA_rmaps_base_oversubscribe=1           # more ranks than cores may be started
    export OMPI_MCA_hwloc_base_binding_policy=none       # else two jobs both pin their ranks to the first cores
    export OMPI_MCA_mpi_yield_when_idle=1
    export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none  # Open MPI 5
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
fi
