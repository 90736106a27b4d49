// What a stopped command left: leases, deepvigor's files, states of a training. The first letter of
// an input says which it is.
#include <cmath>

#include "corrupt/small_network.hpp"
#include "corrupt/target.hpp"
#include "corrupt/zip_repair.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/importance.hpp"
#include "store/lock.hpp"
#include "transform/deepvigor_cache.hpp"
#include "transform/train_state.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

constexpr std::size_t kChecksum = sizeof(std::uint64_t);

void write_bytes(const std::string& path, std::string_view bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  std::fwrite(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
}

// ---- leases
// --------------------------------------------------------------------------------------

class Leases {
 public:
  /// False where another process seems to hold the result.
  bool read(std::string_view lease) const {
    write_bytes(result_ + ".lock", lease);
    try {
      store::ResultLock lock(result_, std::chrono::milliseconds(0));
      return true;
    } catch (const EnvironmentError&) {
      return false;
    }
  }

 private:
  TempDir folder_;
  std::string result_ = folder_ / "r.h5";
};

// ---- deepvigor's files
// ---------------------------------------------------------------------------

Dataset grey_image() {
  DatasetInfo info{"cifar10", 10, {3, 32, 32}};
  return Dataset(info, std::vector<std::uint8_t>(3 * 32 * 32, 100), {0});
}

class DeepVigorFiles {
 public:
  DeepVigorFiles() {
    score();
    for (const std::string& file : files_in(folder_.path())) good_.push_back(file);
  }

  std::vector<Bytes> seeds() const {
    std::vector<Bytes> all;
    for (std::size_t i = 0; i < good_.size(); ++i) {
      Bytes seed = to_bytes(std::string("d") + static_cast<char>('0' + i));
      const Bytes file = read_file(folder_ / good_[i]);
      seed.insert(seed.end(), file.begin(), file.end());
      all.push_back(std::move(seed));
    }
    return all;
  }

  /// One of the files is the fuzzer's. Where it is not used, it would be made anew, which takes
  /// long: nothing is scored then.
  bool read(std::string_view input) {
    if (input.empty()) return false;
    const std::size_t which = static_cast<unsigned char>(input[0]) % good_.size();
    const std::string path = folder_ / good_[which];
    const Bytes good = read_file(path);
    write_bytes(path, input.substr(1));
    const bool scored = is_used(good_[which], good) && accepted([&] { score(); });
    write_bytes(path, to_text(good));
    return scored;
  }

 private:
  /// Whether the cache gives the file for the key that the good one has.
  bool is_used(const std::string& file, const Bytes& good) const {
    ByteReader reader(good, file);
    reader.text(std::strlen("SentinelNN cache 1\n"));
    const std::string key = reader.text(reader.read<std::uint64_t>());
    const KeyedCache cache(folder_.path());
    return cache.load(file.substr(0, file.rfind('-')), key).has_value();
  }

  void score() const {
    ImportanceInputs inputs{graph_};
    inputs.images = &image_;
    inputs.model_sha256 = "network";
    inputs.deepvigor.cache = folder_.path();
    ChannelScores scores;
    try {
      scores = importance_method("deepvigor")->score(inputs);
    } catch (const SharedError& error) {  // what all ranks throw
      if (error.code() != ExitCode::kData) throw;
      throw DataError("deepvigor", error.what());
    }
    for (const LayerScores& layer : scores)
      for (const double score : layer.scores)
        if (!(score > -1e-9 && score < 1 + 1e-9)) throw std::runtime_error("an impossible score");
  }

  TempDir folder_;
  Graph graph_ =
      parse_model(serialize_pth(small_weights(Small::kPlain), small_record(Small::kPlain)), "small",
                  ModelChoice{});
  Dataset image_ = grey_image();
  std::vector<std::string> good_;
};

// ---- states of a training
// ------------------------------------------------------------------------

class TrainStates {
 public:
  /// A whole file, or the record of one.
  bool read(std::string_view input, bool whole) const {
    const Bytes file = whole ? to_bytes(input) : serialize_pth(tensors_, std::string(input));
    write_bytes(path_, to_text(file));
    return accepted([&] { TrainStateFile(path_, "f00d").load(live_); });
  }

  std::vector<Bytes> seeds() const {
    TrainStateFile(path_, "f00d").save(live_, {3, {{1, 0.5, 0.25, true}, {2, 0.25, 0.5, true}}});
    Bytes whole = read_file(path_);
    whole.insert(whole.begin(), std::byte{'T'});
    return {whole, to_bytes("t" + read_pth(path_).metadata.value()),
            to_bytes(R"(t{"training":1,"fingerprint":"f00d","best_correct":1e300,"epochs":[[]]})")};
  }

 private:
  TempDir folder_;
  std::string path_ = folder_ / "state";
  mutable at::Tensor weight_ = at::ones({2, 3}), steps_ = at::ones({1}, at::kLong);
  LiveTensors live_{{"weight", &weight_}, {"other/steps", &steps_}};
  StateDict tensors_ = [this] {
    StateDict state;
    for (const auto& [name, tensor] : live_) state.set(name, *tensor);
    return state;
  }();
};

class States {
 public:
  bool read(const Bytes& bytes) {
    if (bytes.empty()) return false;
    const std::string_view text = to_text(bytes).substr(1);
    switch (std::to_integer<char>(bytes[0])) {
      case 'd':
        return deepvigor_.read(text);
      case 't':
        return training_.read(text, false);
      case 'T':
        return training_.read(text, true);
      default: {
        bool taken = false;
        return accepted([&] { taken = leases_.read(text); }) && taken;
      }
    }
  }

  std::vector<Bytes> seeds() const {
    std::vector<Bytes> all = deepvigor_.seeds();
    for (Bytes& seed : training_.seeds()) all.push_back(std::move(seed));
    for (const char* lease :
         {R"(l{"host":"a","machine":"b","pid":1,"since":1.7e9,"heartbeat":1.7e9})",
          R"(l{"host":"","machine":"","pid":18446744073709551615,"since":-1e300,"heartbeat":1})",
          "l", "lx"})
      all.push_back(to_bytes(lease));
    return all;
  }

 private:
  Leases leases_;
  DeepVigorFiles deepvigor_;
  TrainStates training_;
};

void repair(Bytes& file) {
  if (file.size() > 2 + kChecksum && file[0] == std::byte{'d'}) {
    const std::size_t end = file.size() - kChecksum;
    const std::uint64_t checksum = checksum64(file.data() + 2, end - 2);
    std::memcpy(file.data() + end, &checksum, kChecksum);
  }
  if (!file.empty() && file[0] == std::byte{'T'}) {
    Bytes zip(file.begin() + 1, file.end());
    repair_zip(zip);
    std::copy(zip.begin(), zip.end(), file.begin() + 1);
  }
}

}  // namespace

Target state_target() {
  const auto states = std::make_shared<States>();
  return {"state", states->seeds(),
          words(R"({ } [ ] [[ null 1e999 nan -1 18446744073709551615 true "host":1 "pid": "pid":-1
                "since":1e300 "heartbeat": "machine":"" "training": "fingerprint":"f00d"
                "best_correct": "epochs":[ [0.5,0.5] [0.5] ["a",1])"),
          repair, [states](const Bytes& bytes) { return states->read(bytes); }};
}

}  // namespace sentinel::test
