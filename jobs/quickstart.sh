#!/usr/bin/env bash
# From nothing to a report: installs what is missing, builds, trains a small network on the built-in
# images, compares it under faults with the seed tool's hardening and with weight bounds, and finds its best protection at
# a high rate. Run again, it reuses what is there.
#   jobs/quickstart.sh [CAMPAIGN OPTIONS]     --fresh: start the campaign over, after another training, say
set -euo pipefail
cd "$(dirname "$0")/.."

sentinelnn=build/release/sentinelnn
work=workspace/quickstart
checkpoint=$work/resnet20.pth
result=$work/result.h5
report=$work/report.html

step() {
  printf '\n[%3d s] %s\n' "$SECONDS" "$*"
}

step "Packages"
bash jobs/install_packages.sh build analysis
python=/usr/bin/python3 # Debian's packages belong to Debian's Python
[ -x $python ] || python=python3

step "Build $sentinelnn (minutes the first time)"
mkdir -p "$work"
if ! { cmake --preset release && cmake --build --preset release --target sentinelnn; } \
  >"$work/build.log" 2>&1 </dev/null; then
  tail -n 30 "$work/build.log" >&2
  echo "quickstart.sh: the build failed; all of its output is in $work/build.log" >&2
  exit 71
fi

# As root Open MPI wants to be asked twice.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

if [ -f "$work/data/test_batch.bin" ]; then
  step "Images: $work/data is there"
else
  step "Make 5000 training and 1000 test images in $work/data"
  "$sentinelnn" synth --output "$work/data" --train 5000 --test 1000 --seed 1
fi

if [ -f "$checkpoint" ]; then
  step "Network: $checkpoint is there"
else
  step "Train ResNet-20 for 7 epochs into $checkpoint"
  "$sentinelnn" train --model resnet20 --dataset synthetic \
    --data "$work/data" --epochs 7 --seed 1 --output "$checkpoint"
fi

bounded=$work/weight_bounds.pth
if [ "$bounded" -nt "$checkpoint" ]; then
  step "Weight bounds: $bounded is there"
else
  step "Bound the weights of $checkpoint, in $bounded"
  "$sentinelnn" harden --model resnet20 --dataset synthetic --checkpoint "$checkpoint" --data "$work/data" \
    --hardening-ratio 0 --clipping none --weight-bounds layer --output "$bounded"
fi

step "Campaign jobs/quickstart.toml on two ranks: unprotected, hardened, weight bounds"
OMP_NUM_THREADS=1 mpirun --oversubscribe -n 2 "$sentinelnn" campaign --job jobs/quickstart.toml "$@" \
  </dev/null

step "Report"
"$python" analysis/report.py "$result" -o "$report"

protected=$work/protected.pth
step "The best protection at BER 1e-2 within 0.3 of the memory: jobs/protect_quickstart.toml on two ranks"
code=0
OMP_NUM_THREADS=1 mpirun --oversubscribe -n 2 "$sentinelnn" protect --job jobs/protect_quickstart.toml \
  </dev/null || code=$?
[ $code -eq 0 ] || [ $code -eq 3 ] || exit $code # 3: the loss is larger than wished for, or nothing fits
pages=$PWD/$report
if grep -q '"chosen":' "$protected.json"; then
  "$python" analysis/report.py "$protected.h5" --answer "$protected.json" -o "$work/protected.html"
  pages="$pages and $PWD/$work/protected.html"
fi

step "Done. Open $pages; every trial is in $PWD/$result (also: $sentinelnn summarize $result)"
