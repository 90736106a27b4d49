#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <optional>

#include "sentinel/core/error.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/fault/outcome.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "transform/importance_methods.hpp"

namespace sentinel {
namespace {

// Bounds of what is held at once [elements]; scores do not depend on them.
constexpr std::int64_t kHeldGradients = std::int64_t{1} << 26;  // at the outputs of convolutions
constexpr std::int64_t kHeldUnfolded = std::int64_t{1} << 20;   // inputs, and gradients of weights

/// The gradients of some classes' Z_t - Z_j [class][convolution], each [N, out, H, W]; undefined
/// where the logits do not depend on the convolution.
using ClassGradients = std::vector<std::vector<at::Tensor>>;

/// A block of images through the network, ready for backward passes.
struct Pass {
  Trace trace;
  at::Tensor logits;     // [N, classes]
  at::Tensor predicted;  // [N] i64 on the CPU: t
};

Pass forward(const Graph& graph, const at::Tensor& images) {
  const c10::AutoGradMode recording(true);
  Pass pass;
  pass.trace = {images.detach().requires_grad_(true)};
  pass.logits = run(graph, pass.trace);
  pass.predicted = predictions_of(pass.logits.detach().to(at::kCPU));
  return pass;
}

void require_finite(const Pass& pass, const Graph& graph, const Dataset& images,
                    std::int64_t begin) {
  const auto* predicted = pass.predicted.data_ptr<std::int64_t>();
  const auto* wrong = std::find(predicted, predicted + pass.predicted.numel(), -1);
  if (wrong == predicted + pass.predicted.numel()) return;
  throw DataError("training images of " + images.info().name,
                  "the logits (" + graph.nodes().back().name + ") of image " +
                      std::to_string(begin + (wrong - predicted)) +
                      " are not finite; check the checkpoint");
}

/// One backward pass per class j for all images and convolutions. Where j = t the gradient is 0.
ClassGradients class_gradients(const Pass& pass, const std::vector<NodeId>& convs,
                               std::int64_t first, std::int64_t count) {
  std::vector<at::Tensor> outputs;
  for (const NodeId node : convs) outputs.push_back(pass.trace[static_cast<std::size_t>(node)]);
  const at::Tensor best =
      at::one_hot(pass.predicted, pass.logits.size(1)).to(pass.logits.device(), at::kFloat);
  ClassGradients gradients;
  for (std::int64_t j = first; j < first + count; ++j) {
    at::Tensor direction = best.clone();  // of Z_t - Z_j
    direction.select(1, j).sub_(1);
    gradients.push_back(torch::autograd::grad({pass.logits}, outputs, {direction},
                                              /*retain_graph=*/true, /*create_graph=*/false,
                                              /*allow_unused=*/true));
  }
  return gradients;
}

/// 1 / (Z_t - Z_j)^2 [N, classes] f64, 1 where the two are equal.
at::Tensor class_weights(const Pass& pass) {
  const at::Tensor z = pass.logits.detach().to(at::kDouble);
  const at::Tensor margin = z.gather(1, pass.predicted.to(z.device()).unsqueeze(1)) - z;
  return at::where(margin == 0, at::ones_like(margin), margin.square().reciprocal());
}

/// Images of a block whose unfolded inputs and weight gradients of `classes` classes fit.
std::int64_t images_at_once(const Conv& conv, const at::Tensor& output, std::int64_t classes) {
  const std::int64_t rows = output.size(1), positions = output.size(2) * output.size(3);
  const std::int64_t filter = conv.weight[0].numel();
  const std::int64_t held = (filter * conv.groups + classes * rows) * positions +
                            3 * classes * rows * filter;  // f32 and their squares in f64
  return std::max<std::int64_t>(1, kHeldUnfolded / held);
}

/// a [b, M, L] times the transposes of b [b, K, L]: [b, M, K].
at::Tensor products(const at::Tensor& a, const at::Tensor& b) {
  constexpr std::int64_t kWorthACall = 1 << 16;  // multiply-adds
  const std::int64_t rows = a.size(1), length = a.size(2), columns = b.size(1);
  if (!a.is_cpu() || at::hasMKL() || !at::hasMKLDNN() || rows * length * columns < kWorthACall) {
    return at::bmm(a, b.transpose(1, 2));
  }
  // Without MKL, matrix products are some 25 times slower than oneDNN's 1x1 convolutions. The rows
  // become positions and the columns output channels, in memory as they are.
  std::vector<at::Tensor> parts;
  for (std::int64_t i = 0; i < a.size(0); ++i) {
    const at::Tensor x = a[i].view({1, 1, rows, length}).permute({0, 3, 1, 2});
    const at::Tensor y = at::mkldnn_convolution(x, b[i].view({columns, length, 1, 1}), {}, {0, 0},
                                                {1, 1}, {1, 1}, 1);
    parts.push_back(y.permute({0, 2, 3, 1}).reshape({rows, columns}));
  }
  return at::stack(parts);
}

/// Sums of the squares of products(a, b) over the columns: [b, M] f64.
at::Tensor product_squares(const at::Tensor& a, const at::Tensor& b) {
  const std::int64_t per_row = 3 * a.size(0) * b.size(1);  // f32 and the squares in f64
  std::vector<at::Tensor> parts;
  for (const at::Tensor& rows : a.split(std::max<std::int64_t>(1, kHeldUnfolded / per_row), 1)) {
    parts.push_back(products(rows, b).to(at::kDouble).square_().sum(2));
  }
  return at::cat(parts, 1);
}

/// Squared norm of every filter's weight gradient, per image: x [n, in, H, W], gradients at the
/// output [n, J, out, h, w] -> [n, J, out] f64.
at::Tensor filter_squares(const Conv& conv, const at::Tensor& x, const at::Tensor& gradients) {
  const std::int64_t n = x.size(0), classes = gradients.size(1), groups = conv.groups;
  const std::int64_t rows = gradients.size(2) / groups;
  const std::int64_t positions = gradients.size(3) * gradients.size(4);
  const Pair kernel{conv.weight.size(2), conv.weight.size(3)};
  const at::Tensor unfolded = at::im2col(x, kernel, conv.dilation, conv.padding, conv.stride)
                                  .view({n * groups, -1, positions});
  const at::Tensor at_rows = gradients.view({n, classes, groups, rows, positions})
                                 .transpose(1, 2)
                                 .reshape({n * groups, classes * rows, positions});
  const at::Tensor squares = product_squares(at_rows, unfolded);
  return squares.view({n, groups, classes, rows})
      .transpose(1, 2)
      .reshape({n, classes, groups * rows});
}

/// Adds the terms of some classes of one convolution (the k-th) to its images' sums [N, out] f64.
void add_terms(const Conv& conv, const at::Tensor& x, const ClassGradients& gradients,
               std::size_t k, const at::Tensor& weights, const at::Tensor& sums) {
  const auto classes = static_cast<std::int64_t>(gradients.size());
  const std::int64_t step = images_at_once(conv, gradients[0][k], classes);
  for (std::int64_t begin = 0; begin < x.size(0); begin += step) {
    const std::int64_t n = std::min(step, x.size(0) - begin);
    std::vector<at::Tensor> parts;
    for (const auto& of_class : gradients) parts.push_back(of_class[k].narrow(0, begin, n));
    const at::Tensor squares =
        filter_squares(conv, x.narrow(0, begin, n), at::stack(parts, 1).contiguous());
    const at::Tensor terms = squares * weights.narrow(0, begin, n).unsqueeze(2);
    // One by one, so that the sum does not depend on how many classes are held.
    for (std::int64_t j = 0; j < classes; ++j) sums.narrow(0, begin, n).add_(terms.select(1, j));
  }
}

/// Classes whose gradients at every convolution's output fit.
std::int64_t classes_at_once(const Pass& pass, const std::vector<NodeId>& convs) {
  std::int64_t elements = 0;
  for (const NodeId node : convs) elements += pass.trace[static_cast<std::size_t>(node)].numel();
  return std::clamp<std::int64_t>(kHeldGradients / std::max<std::int64_t>(1, elements), 1,
                                  pass.logits.size(1));
}

/// Per-image sums over the classes, one [N, out] f64 for each convolution.
std::vector<at::Tensor> image_sums(const Graph& graph, const std::vector<NodeId>& convs,
                                   const Pass& pass) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> sums;
  for (const NodeId node : convs) {
    const at::Tensor& output = pass.trace[static_cast<std::size_t>(node)];
    sums.push_back(
        at::zeros({output.size(0), output.size(1)}, output.options().dtype(at::kDouble)));
  }
  const at::Tensor weights = class_weights(pass);
  const std::int64_t classes = weights.size(1), step = classes_at_once(pass, convs);
  for (std::int64_t first = 0; first < classes; first += step) {
    const std::int64_t count = std::min(step, classes - first);
    const ClassGradients gradients = class_gradients(pass, convs, first, count);
    for (std::size_t k = 0; k < convs.size(); ++k) {
      if (!gradients[0][k].defined()) continue;
      const Node& node = graph[convs[k]];
      const at::Tensor& x = pass.trace[static_cast<std::size_t>(node.inputs[0])];
      add_terms(*as_conv(node.op), x, gradients, k, weights.narrow(1, first, count), sums[k]);
    }
  }
  return sums;
}

/// Sums over the block of images that starts at `begin`: all channels of all convolutions. The
/// gradient at a duplicated convolution's merged output is that of the originals, as fault-free
/// copies agree.
std::vector<double> block_sums(const Graph& graph, const Dataset& images, std::int64_t begin,
                               at::Device device) {
  const Batch batch =
      images.batch(begin, std::min(begin + kImagesAtOnce, images.size()), graph.normalisation);
  const Pass pass = forward(graph, batch.images.to(device));
  require_finite(pass, graph, images, begin);
  std::vector<double> sums;
  for (const at::Tensor& layer : image_sums(graph, convolutions(graph), pass)) {
    const at::Tensor sum = layer.sum(0).to(at::kCPU).contiguous();
    sums.insert(sums.end(), sum.data_ptr<double>(), sum.data_ptr<double>() + sum.numel());
  }
  return sums;
}

/// The sums over all images on rank 0, nothing on the others. Block b is computed by rank
/// b % size; blocks are added in order. Collective.
std::vector<double> total_sums(const ImportanceInputs& inputs, const Graph& graph) {
  const Comm& comm = inputs.comm;
  const std::int64_t images = inputs.images->size();
  std::optional<Progress> progress;
  if (comm.rank() == 0) progress.emplace("vul-gain", "images", static_cast<std::uint64_t>(images));
  std::vector<double> total;
  const StopWatch watch;
  for (std::int64_t round = 0; round < images; round += kImagesAtOnce * comm.size()) {
    const std::int64_t begin = round + kImagesAtOnce * comm.rank();
    ByteWriter own;
    comm.agree([&] {
      if (stop_signal() != 0)
        throw Error(stop_code(), fmt::format("vul-gain was stopped by signal {}; run the same "
                                             "command again",
                                             stop_signal()));
      if (begin < images) own.vector(block_sums(graph, *inputs.images, begin, inputs.device));
    });
    for (const Bytes& part : comm.gather(own.bytes())) {
      if (part.empty()) continue;
      ByteReader reader(part, "vul-gain");
      const auto block = read_vector<double>(reader);
      total.resize(block.size());
      for (std::size_t i = 0; i < block.size(); ++i) total[i] += block[i];
    }
    const std::int64_t done = std::min(images, round + kImagesAtOnce * comm.size());
    if (progress) progress->update(static_cast<std::uint64_t>(done));
  }
  return total;
}

/// Means over `images` images, layer by layer.
std::vector<std::vector<double>> layer_means(const Graph& graph, const std::vector<double>& sums,
                                             std::int64_t images) {
  const auto channels = channel_counts(graph);
  std::vector<std::vector<double>> layers;
  auto next = sums.begin();
  for (const NodeId node : convolutions(graph)) {
    const auto end = next + channels[static_cast<std::size_t>(node)];
    layers.emplace_back(next, end);
    for (double& score : layers.back()) score /= static_cast<double>(images);
    next = end;
  }
  return layers;
}

class VulGain : public ImportanceMethod {
 public:
  std::string name() const override { return "vul-gain"; }
  std::int64_t default_images() const override { return 256; }
  ChannelScores score(const ImportanceInputs& inputs) const override {
    Graph graph;
    inputs.comm.agree([&] {
      if (!inputs.images) throw Bug("vul-gain is not given any images");
      if (inputs.images->size() == 0) throw UserError("vul-gain needs at least one image");
      graph = inputs.graph.clone();
      graph.to(inputs.device);
    });
    const std::vector<double> sums = total_sums(inputs, graph);
    return scores_of_root(inputs.comm, graph, name(),
                          [&] { return layer_means(graph, sums, inputs.images->size()); });
  }
};

}  // namespace

std::unique_ptr<ImportanceMethod> make_vul_gain() {
  return std::make_unique<VulGain>();
}

}  // namespace sentinel
