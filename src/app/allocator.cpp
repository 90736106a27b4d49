// The program's malloc is jemalloc; this is how it wants its options, read before main (MALLOC_CONF
// in the environment overrides them). Outputs of layers come and go: in large pages, which spare
// most lookups of addresses, and kept, as the kernel clears every page that it gives out. Measured
// in tests/bench/README.md, "Pages".
#include <jemalloc/jemalloc.h>

const char* malloc_conf = "thp:always,metadata_thp:auto,dirty_decay_ms:-1,oversize_threshold:0";
