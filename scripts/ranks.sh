#!/usr/bin/env bash
# Several processes on this machine to train one model:  scripts/ranks.sh N PROGRAM ARGUMENT...
# For a first try, and for tests: there may be more processes than cores, none is bound to a core, and in a container
# they may run as root. Open MPI's settings for that are made here; MPICH needs none. MPIRUN: another mpirun.
set -u
mpirun=${MPIRUN:-mpirun}
if [ $# -lt 2 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "scripts/ranks.sh N PROGRAM ARGUMENT...: N processes of the program, by mpirun" >&2
    exit 2
fi
if ! command -v "$mpirun" >/dev/null; then
    echo "error: no $mpirun: install openmpi-bin" >&2
    exit 2
fi
if "$mpirun" --version 2>/dev/null | grep -q "Open MPI"; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe     # version 4, 5
    export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
    export OMPI_MCA_btl_vader_single_copy_mechanism=none # containers may forbid reading another process's memory
    export OMPI_MCA_plm_rsh_agent=/bin/false             # no other machine is contacted, and ssh is not needed
fi
exec "$mpirun" -n "$@"
