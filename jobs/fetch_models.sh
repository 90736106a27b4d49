#!/usr/bin/env bash
# Downloads published weights and CIFAR-10/100, checked by SHA-256.
#   fetch_models.sh [--to DIR] NAME...     into DIR (data): weights as NAME.pth, a data set as the folder NAME
#   fetch_models.sh --list                 the names and their addresses, from models.tsv beside this script
# Of weights it prints the options for the normalisation that they were trained with.
# Stopped or cut off, the same command goes on where it was; what is there is checked, not fetched again.
# SENTINEL_MIRROR=URL fetches URL/FILE instead of the address that ends in FILE (file:///FOLDER is a URL too).
# Exit codes as the program's: 64 wrong option or name, 65 not the published file, 71 network, disk, tools.
set -Eeuo pipefail
trap 'exit 71' ERR # what fails unforeseen is a full disk or the like, and the tool has said so

table=$(dirname "$0")/models.tsv
lists="fetch_models.sh --list shows the names"

fail() { # CODE MESSAGE
  echo "fetch_models.sh: $2" >&2
  exit "$1"
}

row_of() { # NAME -> its SHA-256, address, mean and std, or nothing
  awk -F'\t' -v name="$1" '$1 == name { print $2, $3, $4, $5 }' "$table"
}

# Whether FILE's SHA-256 begins with HASH; sets found to what it is.
has_hash() { # FILE HASH
  found=$(sha256sum <"$1" | cut -d' ' -f1) || exit 71
  [[ $found == "$2"* ]]
}

# Fetches URL into PART, going on where PART ends.
download() { # URL PART
  local wait status http
  local progress=(--silent --show-error)
  [ ! -t 2 ] || progress=(--progress-bar)
  for wait in 0 1 2 4; do
    sleep "$wait"
    status=0
    http=$(curl "${progress[@]}" --fail --location --connect-timeout 30 --speed-time 60 \
      --continue-at - --output "$2" --write-out '%{http_code}' "$1") || status=$?
    case $status/$http in
      33/* | */416) rm -f "$2" ;; # the server knows no ranges, or its file ends before PART: from the start
      0/*) return ;;
      */408 | */429) ;;
      23/* | */4??) break ;; # cannot write, or the server will not have it: no better a second later
    esac
  done
  fail 71 "cannot fetch $1, curl says why above; run it again to go on, or set SENTINEL_MIRROR"
}

# Leaves PART whole and right, or not at all.
fetch_part() { # URL PART HASH
  if [ -f "$2" ] && has_hash "$2" "$3"; then
    return
  fi
  echo "Fetching $1"
  download "$1" "$2"
  has_hash "$2" "$3" || {
    rm "$2"
    fail 65 "$2 (removed) is not the published file: SHA-256 of $1 should begin with $3, but is $found; \
run it again, or set another SENTINEL_MIRROR"
  }
}

put_in_place() { # NEW FINAL
  find "$1" -type f -exec sync {} +
  mv --no-target-directory "$1" "$2"
  echo "$2"
}

fetch_weights() { # NAME HASH URL
  local final=$to/$1.pth
  if [ -e "$final" ]; then
    has_hash "$final" "$2" || fail 65 "$final is not the published file: its SHA-256 should begin with $2, \
but is $found; move it away, or give another folder by --to"
    echo "$final is there"
    return
  fi
  fetch_part "$3" "$final.part" "$2"
  put_in_place "$final.part" "$final"
}

fetch_data_set() { # NAME HASH URL
  local final=$to/$1 part=$to/$1.tar.gz.part new=$to/$1.unpacking sums
  if [ -e "$final" ]; then
    (cd "$final" && sha256sum --quiet --check SHA256SUMS) >&2 ||
      fail 65 "$final is not as unpacked here; move it away, or give another folder by --to"
    rm -f "$part" # where a run was killed between the two last lines below
    echo "$final is there"
    return
  fi
  fetch_part "$3" "$part" "$2"
  rm -rf "$new"
  mkdir "$new"
  tar --extract --gzip --no-same-owner --file "$part" --directory "$new"
  sums=$(cd "$new" && find . -type f -exec sha256sum {} +)
  echo "$sums" >"$new/SHA256SUMS"
  put_in_place "$new" "$final"
  rm "$part"
}

to=data
names=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) exec awk -F'\t' '!/^#/ { printf "%-28s %s\n", $1, $3 }' "$table" ;;
    --to)
      [ -n "${2:-}" ] || fail 64 "--to wants a folder"
      to=$2
      shift
      ;;
    -*) fail 64 "unknown option '$1'; there are --to DIR and --list" ;;
    *)
      [ -n "$(row_of "$1")" ] || fail 64 "nothing is called '$1'; $lists"
      names+=("$1")
      ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || fail 64 "fetch what? $lists"
command -v curl >/dev/null || fail 71 "curl is missing; install it (Debian: apt-get install curl)"

# One at a time in a folder; curl inherits the lock, so that one left behind by a kill still holds it.
mkdir -p "$to"
touch "$to/.fetch_models.lock"
exec 9>"$to/.fetch_models.lock"
flock --nonblock 9 || {
  echo "Another fetch_models.sh is at work in $to; waiting for it"
  flock 9
}

for name in "${names[@]}"; do
  read -r hash url mean std < <(row_of "$name")
  file=${url##*/}
  [ -z "${SENTINEL_MIRROR:-}" ] || url=${SENTINEL_MIRROR%/}/$file
  case $file in
    *.tar.gz) fetch_data_set "$name" "$hash" "$url" ;;
    *) fetch_weights "$name" "$hash" "$url" ;;
  esac
  [ -z "$std" ] || echo "  trained on images normalised by --mean $mean --std $std"
done
