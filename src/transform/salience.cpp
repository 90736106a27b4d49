#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "transform/importance_methods.hpp"

namespace sentinel {
namespace {

using Salience = std::vector<double>;  // one number per output channel of a node

/// |W| as the network reads it, summed over the kernel: [rows, in/groups] f64.
at::Tensor magnitudes(const at::Tensor& weight, const WeightBounds& bounds) {
  const at::Tensor all = decoded(weight, bounds).detach().to(at::kCPU, at::kDouble).abs();
  return all.contiguous().view({all.size(0), all.size(1), -1}).sum(2);
}

Salience bn_scales(const BatchNorm& bn) {
  const auto wide = [](const at::Tensor& t) { return t.detach().to(at::kCPU, at::kDouble); };
  const at::Tensor scales = (wide(bn.weight).abs() / (wide(bn.var) + bn.eps).sqrt()).contiguous();
  return {scales.data_ptr<double>(), scales.data_ptr<double>() + scales.numel()};
}

/// Adds what arrives at one node's output to what arrives at its inputs.
struct Propagate {
  const Node& node;
  const Salience& out;
  std::vector<Salience>& all;  // of every node

  /// The merged channel of a duplicated convolution passes on what its original does; `out` has no
  /// entry for the copies' rows.
  void run() const {
    const auto* linear = std::get_if<Linear>(&node.op);
    if (const Conv* conv = as_conv(node.op))
      mix(magnitudes(conv->weight, conv->bounds), conv->groups);
    else if (linear)
      mix(magnitudes(linear->weight, linear->bounds), 1);
    else
      follow(scaled());
  }

 private:
  Salience& input(std::size_t k) const { return all[static_cast<std::size_t>(node.inputs[k])]; }

  Salience scaled() const {
    Salience passed = out;
    if (const auto* norm = std::get_if<BatchNorm>(&node.op)) {
      const Salience scales = bn_scales(*norm);
      for (std::size_t c = 0; c < passed.size(); ++c) passed[c] *= scales[c];
    }
    return passed;
  }

  /// Every output channel reads all inputs of its group.
  void mix(const at::Tensor& weights, std::int64_t groups) const {
    const auto width = static_cast<std::size_t>(weights.size(1));
    const std::size_t per_group = out.size() / static_cast<std::size_t>(groups);
    const double* row = weights.data_ptr<double>();
    for (std::size_t o = 0; o < out.size(); ++o, row += width) {
      double* block = input(0).data() + o / per_group * width;
      for (std::size_t i = 0; i < width; ++i) block[i] += row[i] * out[o];
    }
  }

  /// Every output channel reads at most one channel of each input.
  void follow(const Salience& passed) const {
    std::vector<std::int64_t> in_channels;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      in_channels.push_back(static_cast<std::int64_t>(input(k).size()));
    }
    const auto maps = channel_maps(node.op, in_channels, static_cast<std::int64_t>(passed.size()));
    for (std::size_t k = 0; k < maps.size(); ++k) {
      for (std::size_t o = 0; o < passed.size(); ++o) {
        const std::int64_t source = maps[k].source.at(o);
        if (source >= 0) input(k)[static_cast<std::size_t>(source)] += passed[o];
      }
    }
  }
};

/// What arrives at every node's output, from ones at the logits.
std::vector<Salience> propagate(const Graph& graph) {
  std::vector<Salience> all;
  for (const std::int64_t channels : channel_counts(graph)) {
    all.emplace_back(static_cast<std::size_t>(channels), 0.0);
  }
  all.back().assign(all.back().size(), 1.0);
  for (NodeId id = graph.size() - 1; id >= 0; --id) {
    Propagate{graph[id], all[static_cast<std::size_t>(id)], all}.run();
  }
  return all;
}

class SalienceMethod : public ImportanceMethod {
 public:
  std::string name() const override { return "salience"; }
  ChannelScores score(const ImportanceInputs& inputs) const override {
    return scores_of_root(inputs.comm, inputs.graph, name(), [&] {
      std::vector<Salience> all = propagate(inputs.graph), scores;
      for (const NodeId node : convolutions(inputs.graph)) {
        scores.push_back(std::move(all[static_cast<std::size_t>(node)]));
      }
      return scores;
    });
  }
};

}  // namespace

std::unique_ptr<ImportanceMethod> make_salience() {
  return std::make_unique<SalienceMethod>();
}

}  // namespace sentinel
