#!/bin/sh
# Runs a command where the test cluster may do as it likes: nothing listens beyond the loopback of a network
# namespace, mounts are seen by nobody else, and every process left over is killed at the end.
#   tests/slurm/private.sh COMMAND [ARGUMENTS]      77: cannot be done here, and why
skip() {
  echo "skipped: the SLURM tests need $1" >&2
  exit 77
}

if [ "${1:-}" = --inside ]; then
  shift
  # Mount by mount, because the root of a chroot is no mount point. Those out of reach do not matter.
  while read -r _ _ _ _ place _; do
    mount --make-private "$(printf '%b' "$place")" 2>/dev/null
  done </proc/self/mountinfo
  mount -t proc proc /proc
  # With 127.0.0.1 alone, getaddrinfo(AI_ADDRCONFIG) resolves no name at all.
  ip link set lo up && ip address add 10.99.0.1/32 dev lo || exit 71
  # Open MPI leaves the loopback out where it is not told to use it.
  export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
  exec "$@"
fi

[ "$(id -u)" -eq 0 ] || skip "root: a cluster starts jobs"
for program in unshare ip munged slurmctld slurmd srun; do
  command -v $program >/dev/null || skip "$program (jobs/install_packages.sh tests)"
done
unshare --net --pid --fork --mount --propagation unchanged true 2>/dev/null ||
  skip "a kernel that lets root make namespaces"
exec unshare --net --pid --fork --kill-child --mount --propagation unchanged "$0" --inside "$@"
