#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <numeric>
#include <optional>

#include "sentinel/comm/pool.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/transform/vulnerability.hpp"
#include "transform/deepvigor_cache.hpp"
#include "transform/deepvigor_deviations.hpp"
#include "transform/importance_methods.hpp"
#include "transform/layer_block.hpp"
#include "transform/vulnerability_cache.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kDeltaChannels = 16;    // of a part of the search
constexpr std::int64_t kCountedChannels = 64;  // of a part of the distribution
constexpr std::int64_t kSides = 2;

struct Layer {
  NodeId node = 0;
  std::string name;
  std::int64_t channels = 0;  // originals
};

std::vector<Layer> layers_of(const Graph& graph) {
  const auto channels = channel_counts(graph);
  std::vector<Layer> layers;
  for (const NodeId id : convolutions(graph)) {
    layers.push_back({id, graph[id].name, channels[static_cast<std::size_t>(id)]});
  }
  return layers;
}

enum class Task : std::uint32_t { kDeltas, kDeviations };

/// What one rank does at a time: channels begin … end-1 of a layer on one block of images.
struct Part {
  Task task = Task::kDeltas;
  std::uint32_t layer = 0;  // among the convolutions
  std::int64_t block = 0, begin = 0, end = 0;
};

// ---- any rank -----------------------------------------------------------------------------------

/// Does parts. Keeps the fault-free outputs of the last one, which the next is likely to need.
class Worker {
 public:
  explicit Worker(const ImportanceInputs& inputs)
      : inputs_(inputs),
        layers_(layers_of(inputs.graph)),
        threads_(at::get_num_threads()),
        block_(inputs.graph, *inputs.images, inputs.device) {}

  /// The part and its deltas [channel][image][side] with their comparison, or DeviationCounts
  /// [channel].
  Bytes operator()(const Bytes& bytes) {
    const at::NoGradGuard no_grad;
    // The pool's thread on rank 0 has a thread count of its own.
    at::set_num_threads(threads_);
    const auto part = ByteReader(bytes, "part of deepvigor").read<Part>();
    if (block_.go_to(layers_[part.layer].node, part.block)) search_.reset();
    ByteWriter writer;
    writer.write(part);
    switch (part.task) {
      case Task::kDeltas:
        write_deltas(part, writer);
        break;
      case Task::kDeviations:
        writer.vector(deviations(part));
        break;
    }
    return writer.take();
  }

 private:
  /// Where no shift changes the prediction, the last stands for all beyond.
  void write_deltas(const Part& part, ByteWriter& writer) {
    if (!search_) {
      std::vector<FactorUnit> channels;
      for (std::int64_t c = 0; c < layers_[part.layer].channels; ++c) channels.push_back({c, -1});
      search_.emplace(
          block_.search(std::move(channels), grid_steps(true), ToleranceRule::kRanking));
    }
    Tolerances own = search_->find(static_cast<std::size_t>(part.begin),
                                   static_cast<std::size_t>(part.end), inputs_.deepvigor.search);
    for (std::uint8_t& delta : own.found)
      delta = std::min<std::uint8_t>(delta, grid_steps(true) - 1);
    writer.vector(own.found);
    writer.write(own.comparison);
  }

  std::vector<DeviationCounts> deviations(const Part& part) const {
    const Node& node = inputs_.graph[layers_[part.layer].node];
    const at::Tensor& input = block_.trace()[static_cast<std::size_t>(node.inputs[0])];
    const at::Tensor& output = block_.trace()[static_cast<std::size_t>(layers_[part.layer].node)];
    const std::int64_t positions = output.size(2) * output.size(3);
    const FiltersAtWork filters{*as_conv(node.op),
                                layers_[part.layer].channels,
                                input.to(at::kCPU).contiguous(),
                                {output.size(2), output.size(3)}};
    return count_deviations(filters, part.begin, part.end, looked_at(positions, part.layer));
  }

  /// One draw for all channels of a layer: with one for each, scores within the layer differed by
  /// where they were looked at (ResNet-20: rank correlation with all positions 0.14, not 0.99).
  std::vector<std::int64_t> looked_at(std::int64_t positions, std::uint32_t layer) const {
    if (!inputs_.deepvigor.all_positions)
      return random_positions(positions, {inputs_.seed, layer, 0, Purpose::kPositions});
    std::vector<std::int64_t> all(static_cast<std::size_t>(positions));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  const ImportanceInputs& inputs_;
  std::vector<Layer> layers_;
  int threads_;
  LayerBlock block_;
  std::optional<ToleranceSearch> search_;  // of all channels of the layer
};

// ---- rank 0 -------------------------------------------------------------------------------------

/// What is known of a layer.
struct Factors {
  std::vector<std::uint8_t> deltas;               // [channel][image][side], numbers of grid values
  std::vector<DeviationCounts> counts;            // [channel]
  std::int64_t deltas_open = 0, counts_open = 0;  // parts
};

/// 1 - mean over images of F(delta+) - F(delta-); deltas [image][side].
double vulnerability(const DeviationCounts& counts, const std::uint8_t* deltas,
                     std::int64_t images) {
  const auto share = shares_below(counts);
  double sum = 0, block = 0;
  for (std::int64_t i = 0; i < images; ++i) {
    const std::size_t up = kGridZero + 1 + deltas[i * kSides];
    const std::size_t down = kGridZero - 1 - deltas[i * kSides + 1];
    block += share.at(up) - share.at(down);
    if ((i + 1) % kImagesAtOnce != 0 && i + 1 != images) continue;
    sum += block;
    block = 0;
  }
  return 1 - sum / static_cast<double>(images);
}

/// Whether something was counted, and the sum of all counts is a number.
bool is_possible(const DeviationCounts& counts) {
  std::uint64_t total = 0;
  for (const std::uint64_t count : counts) {
    if (count > UINT64_MAX - total) return false;
    total += count;
  }
  return total > 0;
}

/// Hands out the parts that no cache knows, gathers their results, keeps layers that are complete.
class PartBook {
 public:
  explicit PartBook(const ImportanceInputs& inputs)
      : layers_(layers_of(inputs.graph)),
        images_(inputs.images->size()),
        search_(inputs.deepvigor.search),
        cache_(inputs.model_sha256.empty() ? std::string() : inputs.deepvigor.cache),
        factors_(layers_.size()) {
    name_inputs(inputs);
    for (std::uint32_t i = 0; i < layers_.size(); ++i) {
      if (!known_deltas(i)) factors_[i].deltas_open = plan(Task::kDeltas, i, kDeltaChannels);
      if (!known_counts(i)) factors_[i].counts_open = plan(Task::kDeviations, i, kCountedChannels);
    }
    if (!parts_.empty()) progress_.emplace("deepvigor", "parts", parts_.size());
  }

  std::optional<Bytes> next() {
    if (stop_signal() != 0 || parts_.empty()) return std::nullopt;
    ByteWriter writer;
    writer.write(parts_.front());
    parts_.pop_front();
    return writer.take();
  }

  void take(const Bytes& result) {
    ByteReader reader(result, "result of deepvigor");
    const auto part = reader.read<Part>();
    switch (part.task) {
      case Task::kDeltas:
        add_deltas(part, read_vector<std::uint8_t>(reader));
        comparison_.add(reader.read<ToleranceComparison>());
        break;
      case Task::kDeviations:
        add_counts(part, read_vector<DeviationCounts>(reader));
        break;
    }
    progress_->update(++done_, layers_[part.layer].name);
  }

  /// Layer by layer the scores. Throws where a stop left something open.
  Bytes scores() const {
    require_complete();
    if (search_ != ToleranceOrder::kExhaustive && done_ > 0)
      spdlog::info("deepvigor, search {}: {}", word_of(search_),
                   comparison_in_words(search_, comparison_.compared, comparison_.differing));
    ByteWriter writer;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      std::vector<double> scores;
      for (std::size_t c = 0; c < factors_[i].counts.size(); ++c)
        scores.push_back(
            vulnerability(factors_[i].counts[c], factors_[i].deltas.data() + c * row(), images_));
      writer.vector(scores);
    }
    return writer.take();
  }

 private:
  /// Bytes of a channel's deltas.
  std::size_t row() const { return static_cast<std::size_t>(images_ * kSides); }

  void name_inputs(const ImportanceInputs& inputs) {
    // Keys of earlier versions knew the exhaustive search alone.
    const std::string search =
        search_ == ToleranceOrder::kExhaustive ? "" : "search " + word_of(search_) + "\n";
    deltas_key_ = "deepvigor 1: deltas\nnetwork " + inputs.model_sha256 + "\nimages " +
                  inputs.images->hash() + "\n" + search + "layer ";
    counts_key_ = "deepvigor 1: deviations\nnetwork " + inputs.model_sha256 + "\nimages " +
                  inputs.images->hash() + "\npositions " +
                  (inputs.deepvigor.all_positions ? "all" : fmt::format("log2 {}", inputs.seed)) +
                  "\nlayer ";
  }

  std::int64_t plan(Task task, std::uint32_t layer, std::int64_t width) {
    const std::size_t before = parts_.size();
    const std::int64_t channels = layers_[layer].channels;
    for (std::int64_t block = 0; block * kImagesAtOnce < images_; ++block)
      for (std::int64_t begin = 0; begin < channels; begin += width)
        parts_.push_back({task, layer, block, begin, std::min(begin + width, channels)});
    return static_cast<std::int64_t>(parts_.size() - before);
  }

  /// Makes room for a layer's deltas, takes them from the cache; false where it has none.
  bool known_deltas(std::uint32_t layer) {
    std::vector<std::uint8_t>& deltas = factors_[layer].deltas;
    deltas.assign(static_cast<std::size_t>(layers_[layer].channels) * row(), 0);
    if (!recall(deltas, layer, ".deltas", deltas_key_)) return false;
    if (std::any_of(deltas.begin(), deltas.end(), [](auto delta) { return delta >= kGridSide; }))
      throw DataError(
          cache_.path(layers_[layer].name + ".deltas", deltas_key_ + layers_[layer].name),
          "holds a number beyond the grid of deviations; delete the file");
    return true;
  }

  bool known_counts(std::uint32_t layer) {
    std::vector<DeviationCounts>& counts = factors_[layer].counts;
    counts.assign(static_cast<std::size_t>(layers_[layer].channels), DeviationCounts{});
    if (!recall(counts, layer, ".deviations", counts_key_)) return false;
    if (!std::all_of(counts.begin(), counts.end(), is_possible))
      throw DataError(
          cache_.path(layers_[layer].name + ".deviations", counts_key_ + layers_[layer].name),
          "holds counts that cannot be; delete the file");
    return true;
  }

  /// A kept list as long as `values` replaces them; false where there is none.
  template <class T>
  bool recall(std::vector<T>& values, std::uint32_t layer, const char* kind,
              const std::string& key) const {
    const std::string& name = layers_[layer].name;
    const auto kept = cache_.load(name + kind, key + name);
    if (!kept) return false;
    ByteReader reader(*kept, cache_.path(name + kind, key + name));
    std::vector<T> read = read_vector<T>(reader);
    if (read.size() != values.size()) reader.fail("the list has a wrong length; delete the file");
    values = std::move(read);
    return true;
  }

  template <class T>
  void keep(const std::vector<T>& values, std::uint32_t layer, const char* kind,
            const std::string& key) const {
    ByteWriter writer;
    writer.vector(values);
    cache_.store(layers_[layer].name + kind, key + layers_[layer].name, writer.bytes());
  }

  void add_deltas(const Part& part, const std::vector<std::uint8_t>& found) {
    Factors& factors = factors_.at(part.layer);
    const std::size_t width = found.size() / static_cast<std::size_t>(part.end - part.begin);
    for (std::int64_t c = part.begin; c < part.end; ++c) {
      const auto from = found.begin() + (c - part.begin) * static_cast<std::ptrdiff_t>(width);
      const std::int64_t to = (c * images_ + part.block * kImagesAtOnce) * kSides;
      std::copy_n(from, width, factors.deltas.begin() + to);
    }
    if (--factors.deltas_open == 0) keep(factors.deltas, part.layer, ".deltas", deltas_key_);
  }

  void add_counts(const Part& part, const std::vector<DeviationCounts>& found) {
    Factors& factors = factors_.at(part.layer);
    for (std::size_t c = 0; c < found.size(); ++c)
      for (std::size_t bin = 0; bin < found[c].size(); ++bin)
        factors.counts[static_cast<std::size_t>(part.begin) + c][bin] += found[c][bin];
    if (--factors.counts_open == 0) keep(factors.counts, part.layer, ".deviations", counts_key_);
  }

  void require_complete() const {
    const auto open = std::count_if(factors_.begin(), factors_.end(), [](const Factors& f) {
      return f.deltas_open > 0 || f.counts_open > 0;
    });
    if (open == 0) return;
    throw Error(
        stop_code(),
        fmt::format("deepvigor stopped by signal {} with {} of {} layers done; {}", stop_signal(),
                    layers_.size() - static_cast<std::size_t>(open), layers_.size(),
                    cache_.keeps()
                        ? "run the same command again to go on"
                        : "with " + spelled(Setting::kWorkspace) + " they would have been kept"));
  }

  std::vector<Layer> layers_;
  std::int64_t images_;
  ToleranceOrder search_;
  ToleranceComparison comparison_;  // of what was searched now
  KeyedCache cache_;
  std::string deltas_key_, counts_key_;  // without the layer
  std::vector<Factors> factors_;
  std::deque<Part> parts_;
  std::uint64_t done_ = 0;
  std::optional<Progress> progress_;
};

/// Channel vulnerability factors: how likely a bit flip in a filter's weights is to move its output
/// further than the predictions of the images tolerate (after Ahmadilivani et al., "DeepVigor", ETS
/// 2023). The costly part, the deltas, does not depend on which positions are looked at.
class DeepVigor : public ImportanceMethod {
 public:
  std::string name() const override { return "deepvigor"; }
  std::int64_t default_images() const override { return 64; }

  ChannelScores score(const ImportanceInputs& inputs) const override {
    const Comm& comm = inputs.comm;
    comm.agree([&] {
      if (inputs.images == nullptr || inputs.images->size() == 0)
        throw UserError("deepvigor needs at least one training image; see " +
                        spelled(Setting::kRankingImages));
    });
    if (!inputs.deepvigor.limited) return unlimited(inputs);
    std::optional<Worker> worker;
    std::optional<PartBook> book;
    comm.agree([&] {
      worker.emplace(inputs);
      if (comm.rank() == 0) book.emplace(inputs);
    });
    const StopWatch watch;
    run_pool(
        comm, [&] { return book->next(); }, std::ref(*worker),
        [&](const Bytes& result) { book->take(result); });
    const Bytes bytes = comm.from_root([&] { return book->scores(); });
    ByteReader reader(bytes, "scores of deepvigor");
    ChannelScores scores;
    for (const Layer& layer : layers_of(inputs.graph))
      scores.push_back({layer.node, layer.name, read_vector<double>(reader)});
    return scores;
  }

 private:
  /// The factors of `vulnerability` with pooled images.
  static ChannelScores unlimited(const ImportanceInputs& inputs) {
    FactorOptions options;
    options.all_positions = inputs.deepvigor.all_positions;
    options.pool_images = true;
    options.search = inputs.deepvigor.search;
    options.seed = inputs.seed;
    options.cache = inputs.deepvigor.cache;
    const std::vector<Layer> layers = layers_of(inputs.graph);
    for (const Layer& layer : layers) options.layers.push_back(layer.name);
    const VulnerabilityFile file = vulnerability_factors(
        {inputs.graph, *inputs.images, inputs.comm, inputs.device, inputs.model_sha256}, options);
    if (options.search != ToleranceOrder::kExhaustive && inputs.comm.rank() == 0)
      spdlog::info("deepvigor, search {}: {}", file.search,
                   comparison_in_words(options.search, file.compared, file.differing));
    return scores_of_root(inputs.comm, inputs.graph, "deepvigor", [&] {
      std::vector<std::vector<double>> scores;
      for (std::size_t i = 0; i < layers.size(); ++i) {
        const auto first = file.layers[i].lower.begin();
        scores.emplace_back(first, first + layers[i].channels);  // without copies
      }
      return scores;
    });
  }
};

}  // namespace

std::string definition_of(const DeepVigorOptions& options) {
  return fmt::format("search {}, limit {}, positions {}", word_of(options.search),
                     options.limited ? "1024" : "none", options.all_positions ? "all" : "log2");
}

std::unique_ptr<ImportanceMethod> make_deepvigor() {
  return std::make_unique<DeepVigor>();
}

}  // namespace sentinel
