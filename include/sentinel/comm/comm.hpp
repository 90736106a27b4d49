#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {

/// The ranks that work together: one process alone, or MPI_COMM_WORLD. A value passed in;
/// algorithms do not know which they have. All members are collective unless they say otherwise.
class Comm {
 public:
  /// One rank, no MPI.
  static Comm local();
  /// MPI_COMM_WORLD where the process was started by mpirun or srun, else local(). Initialises MPI
  /// (MPI_THREAD_FUNNELED); the last copy to go finalises it.
  static Comm world();

  int rank() const;
  int size() const;
  /// Rank among the ranks of this host, and their number (not collective).
  int local_rank() const;
  int local_size() const;
  /// CPUs for this rank [CPUs]: those it is bound to, each divided by the ranks that are bound to
  /// it too (not collective).
  double cpus() const;

  /// Replaces `bytes` on every rank by those of rank 0. Any size.
  void broadcast(Bytes& bytes) const;
  /// Every rank's bytes, in rank order, on rank 0 (empty on the others).
  std::vector<Bytes> gather(const Bytes& bytes) const;

  /// Runs `body` on rank 0 and returns its bytes on every rank. Where it throws, every rank throws
  /// the same SharedError. The way to read files once: parallel file systems hate a thousand
  /// readers.
  Bytes from_root(const std::function<Bytes()>& body) const;
  /// Runs `body` on every rank; where any throws, every rank throws the SharedError of the lowest
  /// such rank.
  void agree(const std::function<void()>& body) const;

  /// Ends all ranks at once with this exit code (not collective). For errors only this rank knows
  /// of.
  [[noreturn]] void abort(int code) const;

 private:
  class World;
  explicit Comm(std::shared_ptr<World> world);
  std::shared_ptr<World> world_;
};

/// Runs `body` on rank 0; its exit code on every rank. Collective.
ExitCode code_of_root(const Comm& comm, const std::function<ExitCode()>& body);

}  // namespace sentinel
