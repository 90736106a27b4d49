#!/bin/bash
# Builds the fuzzers and runs each in turn: fuzz.sh FOLDER TARGET=COUNT...
# FOLDER gets the corpora (FOLDER/TARGET), a log of each run, and what was found (FOLDER/found).
# Ends with 1 where a target has a fault.
set -u
folder=${1:?usage: fuzz.sh FOLDER TARGET=COUNT...}
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
targets=()
for job in "$@"; do targets+=("fuzz_${job%%=*}"); done
cmake -S "$root" -B "$root/build/fuzz" --preset fuzz >/dev/null || exit
cmake --build "$root/build/fuzz" --target "${targets[@]}" || exit

export OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1
mkdir -p "$folder/found"
bad=0
for job in "$@"; do
  name=${job%%=*} count=${job#*=}
  program=$root/build/fuzz/tests/fuzz_$name
  options=max_allocation_size_mb=2048:quarantine_size_mb=1  # a small one stays in the cache of the processor
  if [ "$name" = result_bytes ]; then
    arguments=("$count" "$folder/found")
  else
    mkdir -p "$folder/$name"
    options+=:malloc_context_size=0  # where memory was taken, a crasher tells when it is run again
    longest=4096
    [ "$name" = script ] && longest=10240  # the seeds' export of a hardened network
    arguments=("$folder/$name" -runs="$count" -max_len=$longest -timeout=5 -rss_limit_mb=2500 -malloc_limit_mb=2048
               -print_final_stats=1 -artifact_prefix="$folder/found/$name-")
  fi
  { time ASAN_OPTIONS=$options "$program" "${arguments[@]}"; } >"$folder/$name.log" 2>&1 || { bad=1; echo "$name: a fault"; }
  grep -E "cov:|executed_units|files read|^user|^sys" "$folder/$name.log" | tail -n 4
done
exit $bad
