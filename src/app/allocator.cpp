// The program's malloc is jemalloc; this is how it wants its options, read before main (MALLOC_CONF
// in the environment overrides them). Outputs of layers come and go: in large pages, which spare
// most lookups of addresses, and kept, as the kernel clears every page that it gives out. Measured
// in tests/bench/README.md, "Pages".
#include <jemalloc/jemalloc.h>

//
// Kept pages join to extents of gigabytes. By default small requests take nothing of an extent 64
// times their size, so that a campaign on outputs of all sizes grew by 0.2 GB/s. The last option
// takes that limit away.
const char* malloc_conf =
    "thp:always,metadata_thp:auto,dirty_decay_ms:-1,oversize_threshold:0,"
    "lg_extent_max_active_fit:40";
