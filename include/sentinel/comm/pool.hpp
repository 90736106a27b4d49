#pragma once
#include <functional>
#include <optional>

#include "sentinel/comm/comm.hpp"

namespace sentinel {

struct PoolOptions {
  bool dedicated_driver = false;  // rank 0 only hands out; needs at least two ranks
};

/// Called on rank 0: the next chunk of work, or nothing when there is no more (or a stop was asked
/// for), or none before a result is in: then it is asked again after the next result.
using NextChunk = std::function<std::optional<Bytes>()>;
/// Called on any rank, one call at a time per rank; on rank 0 in a thread of its own that never
/// touches MPI.
using WorkOnChunk = std::function<Bytes(const Bytes& chunk)>;
/// Called on rank 0's driver thread with each result, in the order of arrival, which is arbitrary.
using SinkResult = std::function<void(const Bytes& result)>;

/// Dynamic driver and workers: rank 0 hands out chunks, one message each way per chunk, each worker
/// has one chunk in work and one waiting. Rank 0 works too unless dedicated. One rank alone runs
/// the same calls inline. Returns when every chunk handed out has been sunk. An exception of any
/// callback on any rank ends the pool: every rank throws the same SharedError (results already sunk
/// stay sunk). Collective.
void run_pool(const Comm& comm, const NextChunk& next, const WorkOnChunk& work,
              const SinkResult& sink, const PoolOptions& options = {});

}  // namespace sentinel
