#include "sentinel/comm/comm.hpp"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

#include "comm/mpi.hpp"
#include "sentinel/core/cpus.hpp"
#include "sentinel/core/failure.hpp"

namespace sentinel {
namespace {

/// Set by mpirun (Open MPI) and by srun --mpi=pmix for every process they start.
bool started_by_launcher() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

constexpr std::size_t kPiece = std::size_t{1} << 30;  // MPI counts are int

/// What one rank's body did, as bytes: exit code and message, or success and the bytes it made.
Bytes outcome_of(const std::function<Bytes()>& body) {
  ByteWriter writer;
  try {
    const Bytes bytes = body();
    writer.write<std::int32_t>(0);
    writer.append(bytes.data(), bytes.size());
  } catch (const std::exception& error) {
    const Failure failure = failure_of(error);
    writer = ByteWriter();
    writer.write<std::int32_t>(static_cast<std::int32_t>(failure.code));
    writer.text(failure.message);
  }
  return writer.take();
}

/// The bytes of a success; throws the SharedError of a failure.
Bytes unwrap(const Bytes& outcome) {
  ByteReader reader(outcome, "message between ranks");
  const auto code = reader.read<std::int32_t>();
  if (code != 0) throw SharedError(static_cast<ExitCode>(code), reader.text(reader.remaining()));
  return Bytes(outcome.begin() + sizeof(std::int32_t), outcome.end());
}

/// CPUs for this rank where the `size` ranks of `node` run at once [CPUs].
double share_on(MPI_Comm node, int size) {
  const CpuSet own = allowed_cpus();
  std::vector<CpuSet> all(static_cast<std::size_t>(size));
  check_mpi(MPI_Allgather(&own, sizeof own, MPI_BYTE, all.data(), sizeof own, MPI_BYTE, node),
            "MPI_Allgather");
  return share_of_cpus(own, all);
}

}  // namespace

/// MPI_COMM_WORLD between MPI_Init_thread and MPI_Finalize.
class Comm::World {
 public:
  World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  bool active = false;
  int rank = 0, size = 1, local_rank = 0, local_size = 1;
  double cpus = 1;
};

Comm::World::World() {
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  active = true;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_FUNNELED)
    throw EnvironmentError(
        "this MPI library does not support MPI_THREAD_FUNNELED; use another build of it");
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
  MPI_Comm_rank(node, &local_rank);
  MPI_Comm_size(node, &local_size);
  cpus = share_on(node, local_size);
  MPI_Comm_free(&node);
}

Comm::World::~World() {
  if (active) MPI_Finalize();
}

Comm::Comm(std::shared_ptr<World> world) : world_(std::move(world)) {}

Comm Comm::local() {
  return Comm(nullptr);
}

Comm Comm::world() {
  return started_by_launcher() ? Comm(std::make_shared<World>()) : Comm(nullptr);
}

int Comm::rank() const {
  return world_ ? world_->rank : 0;
}
int Comm::size() const {
  return world_ ? world_->size : 1;
}
int Comm::local_rank() const {
  return world_ ? world_->local_rank : 0;
}
int Comm::local_size() const {
  return world_ ? world_->local_size : 1;
}
double Comm::cpus() const {
  return world_ ? world_->cpus : static_cast<double>(allowed_cpus().count());
}

void Comm::broadcast(Bytes& bytes) const {
  if (!world_) return;
  std::uint64_t size = bytes.size();
  check_mpi(MPI_Bcast(&size, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD), "MPI_Bcast");
  bytes.resize(size);
  for (std::size_t begin = 0; begin < size; begin += kPiece)
    check_mpi(MPI_Bcast(bytes.data() + begin, static_cast<int>(std::min(kPiece, size - begin)),
                        MPI_BYTE, 0, MPI_COMM_WORLD),
              "MPI_Bcast");
}

std::vector<Bytes> Comm::gather(const Bytes& bytes) const {
  if (!world_) return {bytes};
  if (bytes.size() > INT_MAX) throw Bug("a rank gathers more than 2 GiB at once");
  const int own = static_cast<int>(bytes.size());
  const auto ranks = static_cast<std::size_t>(size());
  std::vector<int> sizes(ranks), offsets(ranks);
  check_mpi(MPI_Gather(&own, 1, MPI_INT, sizes.data(), 1, MPI_INT, 0, MPI_COMM_WORLD),
            "MPI_Gather");
  std::size_t total = 0;
  if (rank() == 0) {
    for (std::size_t r = 0; r < ranks; ++r) {
      offsets[r] = static_cast<int>(total);
      total += static_cast<std::size_t>(sizes[r]);
    }
    if (total > INT_MAX) throw Bug("the ranks gather more than 2 GiB at once");
  }
  Bytes all(total);
  check_mpi(MPI_Gatherv(bytes.data(), own, MPI_BYTE, all.data(), sizes.data(), offsets.data(),
                        MPI_BYTE, 0, MPI_COMM_WORLD),
            "MPI_Gatherv");
  std::vector<Bytes> pieces;
  if (rank() != 0) return pieces;
  for (std::size_t r = 0; r < ranks; ++r)
    pieces.emplace_back(all.begin() + offsets[r], all.begin() + offsets[r] + sizes[r]);
  return pieces;
}

Bytes Comm::from_root(const std::function<Bytes()>& body) const {
  Bytes outcome;
  if (rank() == 0) outcome = outcome_of(body);
  broadcast(outcome);
  return unwrap(outcome);
}

void Comm::agree(const std::function<void()>& body) const {
  const Bytes own = outcome_of([&] {
    body();
    return Bytes();
  });
  const std::vector<Bytes> outcomes = gather(own);
  Bytes worst = own;
  const auto failed = [](const Bytes& outcome) {
    return ByteReader(outcome, "").read<std::int32_t>() != 0;
  };
  const auto first = std::find_if(outcomes.begin(), outcomes.end(), failed);
  if (rank() == 0 && first != outcomes.end()) worst = *first;
  broadcast(worst);
  unwrap(worst);
}

void Comm::abort(int code) const {
  if (world_) MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

ExitCode code_of_root(const Comm& comm, const std::function<ExitCode()>& body) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    writer.write(static_cast<std::int32_t>(body()));
    return writer.take();
  });
  return static_cast<ExitCode>(ByteReader(bytes, "exit code").read<std::int32_t>());
}

}  // namespace sentinel
