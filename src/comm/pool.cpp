#include "sentinel/comm/pool.hpp"

#include <algorithm>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <deque>
#include <list>
#include <mutex>
#include <thread>

#include "comm/mpi.hpp"
#include "sentinel/core/failure.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {
namespace {

constexpr int kToWorker = 1, kToDriver = 2;  // MPI tags
constexpr int kPerWorker = 2;                // one chunk in work, one waiting

enum class Kind : std::uint8_t { kChunk, kResult, kError, kEnd, kBye };

/// A message between driver and worker.
struct Message {
  Kind kind = Kind::kChunk;
  std::int32_t code = 0;  // exit code of an error (kError, kEnd), 0 = none
  std::int32_t stop = 0;  // signal the sender saw, 0 = none
  Bytes payload;          // chunk, result, or the text of an error

  Bytes encode() const {
    ByteWriter writer;
    writer.write(kind);
    writer.write(code);
    writer.write(stop);
    writer.append(payload.data(), payload.size());
    return writer.take();
  }
  static Message decode(const Bytes& bytes) {
    ByteReader reader(bytes, "message between ranks");
    Message message;
    message.kind = reader.read<Kind>();
    message.code = reader.read<std::int32_t>();
    message.stop = reader.read<std::int32_t>();
    message.payload.assign(bytes.begin() + static_cast<std::ptrdiff_t>(reader.offset()),
                           bytes.end());
    return message;
  }
};

Message error_message(Kind kind, const std::exception& error) {
  const Failure failure = failure_of(error);
  ByteWriter writer;
  writer.text(failure.message);
  return {kind, static_cast<std::int32_t>(failure.code), 0, writer.take()};
}

[[noreturn]] void throw_shared(const Message& message) {
  ByteReader reader(message.payload, "");
  throw SharedError(static_cast<ExitCode>(message.code), reader.text(reader.remaining()));
}

/// The result of `work` on a chunk, an error as a message.
Message work_on(const WorkOnChunk& work, const Bytes& chunk) {
  try {
    return {Kind::kResult, 0, stop_signal(), work(chunk)};
  } catch (const std::exception& error) {
    return error_message(Kind::kError, error);
  }
}

/// Sleeps longer the longer nothing happens: the driver must not spin on the core of a worker.
class Backoff {
 public:
  void reset() { rounds_ = 0; }
  void pause() {
    if (++rounds_ < 20)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(std::min(rounds_ * 5, 500)));
  }

 private:
  int rounds_ = 0;
};

/// MPI counts bytes in an int.
int mpi_size(const Bytes& bytes) {
  if (bytes.size() > INT_MAX)
    throw EnvironmentError("a message between ranks has " + std::to_string(bytes.size()) +
                           " bytes, more than MPI's 2 GiB; give a lower " + spelled(Setting::kBer) +
                           ", or run one rank");
  return static_cast<int>(bytes.size());
}

/// Receives a waiting message, if there is one.
std::optional<std::pair<int, Message>> try_receive(int tag) {
  int there = 0;
  MPI_Status status;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &there, &status), "MPI_Iprobe");
  if (!there) return std::nullopt;
  int size = 0;
  MPI_Get_count(&status, MPI_BYTE, &size);
  Bytes bytes(static_cast<std::size_t>(size));
  check_mpi(MPI_Recv(bytes.data(), size, MPI_BYTE, status.MPI_SOURCE, tag, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE),
            "MPI_Recv");
  return std::pair(status.MPI_SOURCE, Message::decode(bytes));
}

/// Rank 0's own worker: a thread that never touches MPI.
class LocalWorker {
 public:
  explicit LocalWorker(const WorkOnChunk& work) : thread_([this, &work] { loop(work); }) {}
  ~LocalWorker() {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
      chunks_.clear();
    }
    wake_.notify_one();
    thread_.join();
  }
  void push(Bytes chunk) {
    {
      std::lock_guard lock(mutex_);
      chunks_.push_back(std::move(chunk));
    }
    wake_.notify_one();
  }
  std::optional<Message> try_pop() {
    std::lock_guard lock(mutex_);
    if (results_.empty()) return std::nullopt;
    Message message = std::move(results_.front());
    results_.pop_front();
    return message;
  }

 private:
  void loop(const WorkOnChunk& work) {
    while (true) {
      Bytes chunk;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return ended_ || !chunks_.empty(); });
        if (ended_) return;
        chunk = std::move(chunks_.front());
        chunks_.pop_front();
      }
      Message message = work_on(work, chunk);
      std::lock_guard lock(mutex_);
      results_.push_back(std::move(message));
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Bytes> chunks_;
  std::deque<Message> results_;
  bool ended_ = false;
  std::thread thread_;
};

/// Rank 0's side: hands out chunks, sinks results, ends the workers.
class Driver {
 public:
  Driver(const Comm& comm, const NextChunk& next, const WorkOnChunk& work, const SinkResult& sink,
         bool dedicated)
      : next_(next),
        sink_(sink),
        outstanding_(static_cast<std::size_t>(comm.size()), 0),
        sending_(outstanding_.size()) {
    if (!dedicated) local_.emplace(work);
  }

  void run() {
    Backoff backoff;
    guarded([&] { hand_out(); });
    while (!error_ && busy()) {
      bool moved = false;
      guarded([&] { moved = receive(); });
      // Results may make chunks of what had to wait for them.
      if (moved) guarded([&] { hand_out(); });
      moved ? backoff.reset() : backoff.pause();
    }
    end_workers();
    if (error_) throw_shared(*error_);
  }

 private:
  /// Errors of next and sink end the pool like errors of work.
  template <class F>
  void guarded(const F& body) {
    try {
      if (!error_) body();
    } catch (const std::exception& error) {
      error_ = error_message(Kind::kEnd, error);
    }
  }

  bool busy() const {
    return std::any_of(outstanding_.begin(), outstanding_.end(), [](int n) { return n > 0; });
  }

  void hand_out() {
    // First one chunk to everybody, then the second.
    for (int level = 1; level <= kPerWorker; ++level)
      for (std::size_t rank = local_ ? 0 : 1; rank < outstanding_.size(); ++rank)
        if (outstanding_[rank] < level && !give(rank)) return;
  }

  /// Whether there was a chunk.
  bool give(std::size_t rank) {
    std::optional<Bytes> chunk = next_();
    if (!chunk) return false;
    ++outstanding_[rank];
    if (rank == 0)
      local_->push(std::move(*chunk));
    else
      send(static_cast<int>(rank), {Kind::kChunk, 0, 0, std::move(*chunk)});
    return true;
  }

  void send(int rank, const Message& message) {
    // Its own earlier messages only: a large chunk stays in flight until its worker is free, and
    // asking after those of a thousand workers each time would hold up everything.
    std::list<Sending>& sent = sending_[static_cast<std::size_t>(rank)];
    sent.remove_if([](Sending& sending) {
      int done = 0;
      check_mpi(MPI_Test(&sending.request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      return done != 0;
    });
    Sending& sending = sent.emplace_back(Sending{message.encode(), MPI_REQUEST_NULL});
    check_mpi(MPI_Isend(sending.bytes.data(), mpi_size(sending.bytes), MPI_BYTE, rank, kToWorker,
                        MPI_COMM_WORLD, &sending.request),
              "MPI_Isend");
  }

  /// Sinks one waiting result of each kind; false when there was none.
  bool receive() {
    bool moved = false;
    if (auto from = outstanding_.size() > 1 ? try_receive(kToDriver) : std::nullopt) {
      take(static_cast<std::size_t>(from->first), from->second);
      moved = true;
    }
    if (auto message = local_ ? local_->try_pop() : std::nullopt) {
      take(0, *message);
      moved = true;
    }
    return moved;
  }

  void take(std::size_t rank, const Message& message) {
    if (message.stop != 0 && stop_signal() == 0) request_stop(message.stop);
    if (message.kind == Kind::kError) throw_shared(message);
    --outstanding_[rank];
    sink_(message.payload);
  }

  /// Tells every worker to stop and waits until each has said goodbye, dropping late results of a
  /// failed pool.
  void end_workers() {
    local_.reset();
    Message end = error_.value_or(Message{Kind::kEnd, 0, 0, {}});
    end.stop = stop_signal();
    for (std::size_t rank = 1; rank < outstanding_.size(); ++rank)
      send(static_cast<int>(rank), end);
    std::size_t waiting = outstanding_.size() - 1;
    Backoff backoff;
    while (waiting > 0) {
      const auto from = try_receive(kToDriver);
      if (from && from->second.kind == Kind::kBye) --waiting;
      from ? backoff.reset() : backoff.pause();
    }
    for (std::list<Sending>& sent : sending_)
      for (Sending& sending : sent)
        check_mpi(MPI_Wait(&sending.request, MPI_STATUS_IGNORE), "MPI_Wait");
  }

  struct Sending {
    Bytes bytes;
    MPI_Request request;
  };
  const NextChunk& next_;
  const SinkResult& sink_;
  std::vector<int> outstanding_;             // chunks each rank has
  std::vector<std::list<Sending>> sending_;  // to each rank
  std::optional<LocalWorker> local_;
  std::optional<Message> error_;
};

void send_to_driver(const Message& message) {
  const Bytes bytes = message.encode();
  check_mpi(MPI_Send(bytes.data(), mpi_size(bytes), MPI_BYTE, 0, kToDriver, MPI_COMM_WORLD),
            "MPI_Send");
}

/// A result too large to send goes as an error, so that the driver hears of it.
void send_result(const Message& result) {
  try {
    send_to_driver(result);
  } catch (const EnvironmentError& error) {
    send_to_driver(error_message(Kind::kError, error));
  }
}

/// Every message that is here already, so that an end overtakes a waiting chunk.
void receive_all(std::deque<Message>& inbox) {
  while (auto from = try_receive(kToWorker)) {
    if (from->second.kind == Kind::kEnd) inbox.clear();
    inbox.push_back(std::move(from->second));
  }
}

void run_worker(const WorkOnChunk& work) {
  std::deque<Message> inbox;
  Backoff backoff;
  while (true) {
    receive_all(inbox);
    if (inbox.empty()) {
      backoff.pause();
      continue;
    }
    backoff.reset();
    const Message message = std::move(inbox.front());
    inbox.pop_front();
    if (message.kind == Kind::kChunk) {
      send_result(work_on(work, message.payload));
      continue;
    }
    send_to_driver({Kind::kBye, 0, 0, {}});
    if (message.stop != 0) request_stop(message.stop);
    if (message.code != 0) throw_shared(message);
    return;
  }
}

void run_inline(const NextChunk& next, const WorkOnChunk& work, const SinkResult& sink) {
  while (const auto chunk = next()) {
    const Message message = work_on(work, *chunk);
    if (message.kind == Kind::kError) throw_shared(message);
    sink(message.payload);
  }
}

}  // namespace

void run_pool(const Comm& comm, const NextChunk& next, const WorkOnChunk& work,
              const SinkResult& sink, const PoolOptions& options) {
  if (comm.size() == 1) {
    if (options.dedicated_driver)
      throw UserError(spelled(Setting::kDedicatedDriver) +
                      " needs at least two ranks; start with mpirun -n 2 or more");
    return run_inline(next, work, sink);
  }
  if (comm.rank() == 0)
    Driver(comm, next, work, sink, options.dedicated_driver).run();
  else
    run_worker(work);
}

}  // namespace sentinel
