#!/bin/bash
# Submits slurm/sweep.sbatch as a job array and, for a campaign cut into ranges of trials, the merge that follows it.
#
#   TRIALS=100000 PARTS=8 OUTPUT=all.h5 slurm/submit_sweep.sh campaign --job jobs/x.toml
#   JOBS="resnet20.toml vgg11.toml" slurm/submit_sweep.sh
#
#   SBATCH_OPTIONS  more options of sbatch for the elements, such as "--nodes=4 --time=2:00:00"
# Prints the number of the array and that of the merge. A campaign that makes networks itself makes them in every
# element: make them before (`prune`, `harden`) and name them by --also instead.
set -euo pipefail

export SENTINELNN_SCRIPTS=${SENTINELNN_SCRIPTS:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}
read -ra options <<<"${SBATCH_OPTIONS:-}"

if [ -n "${JOBS:-}" ]; then
  read -ra jobs <<<"$JOBS"
  exec sbatch --parsable "${options[@]}" --array="0-$((${#jobs[@]} - 1))" "$SENTINELNN_SCRIPTS/sweep.sbatch" "$@"
fi

: "${TRIALS:?give TRIALS=NUMBER, or JOBS=FILES}" "${OUTPUT:?give OUTPUT=FILE.h5}"
export TRIALS OUTPUT PARTS=${PARTS:-8}
array=$(sbatch --parsable "${options[@]}" --array="0-$((PARTS - 1))" "$SENTINELNN_SCRIPTS/sweep.sbatch" "$@")
array=${array%%;*} # a cluster's name may follow
echo "$array"

parts=()
for ((i = 0; i < PARTS; i++)); do parts+=("$OUTPUT.part$i.h5"); done
# Without --kill-on-invalid-dep a merge whose element failed would wait for ever.
printf -v merge '%q ' "${SENTINELNN:-build/release/sentinelnn}" merge "${parts[@]}" -o "$OUTPUT"
sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes --job-name=sentinelnn-merge \
  --ntasks=1 --output=%x-%j.out --wrap "$merge"
