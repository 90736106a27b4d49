// Shapes as PyTorch has them: over a grid of windows and sizes, TorchScript networks of one
// operator are either refused with a reason or give what LibTorch's operators give.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/script.h>

#include <functional>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/graph/fused.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/script.hpp"
#include "unit/io_support.hpp"
#include "unit/models_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kChannels = 4, kMostRows = 9;

enum class Fate { kSame, kRefused };

/// One operator on 4 channels of images [N, 4, rows, columns], then the mean of each channel.
class OneOperator {
 public:
  OneOperator(const std::string& expression, std::int64_t rows, std::int64_t columns)
      : module_("Net"), rows_(rows), columns_(columns) {
    torch::jit::Module layer("Layer");
    layer.register_parameter("weight", at::rand({kChannels, kChannels, 3, 3}), false);
    layer.register_parameter("deep", at::rand({kChannels, 1, 2, 3}), false);
    module_.register_module("layer", layer);
    module_.define("def forward(self, x):\n  x = " + expression +
                   "\n  return torch.mean(x, [2, 3])\n");
  }

  /// The logits that LibTorch makes of images, nothing where it refuses them.
  std::optional<at::Tensor> theirs(const at::Tensor& images) {
    try {
      return module_.forward({images}).toTensor();
    } catch (const std::exception&) {
      return std::nullopt;
    }
  }

  /// Expects that the file is refused as bad data, or computes and shapes everything as LibTorch.
  Fate import() {
    const std::string path = folder_ / "net.ts";
    module_.save(path);
    const at::Tensor images = test::values({3, kChannels, rows_, columns_});
    const auto wanted = theirs(images);
    try {
      const Graph graph = import_script(read_file(path, 1 << 20), path, dataset());
      if (!wanted) {
        ADD_FAILURE() << "PyTorch refuses this network";
        return Fate::kSame;
      }
      expect_same(graph, images, *wanted);
      return Fate::kSame;
    } catch (const DataError& error) {
      EXPECT_EQ(std::string(error.what()).find("bug"), std::string::npos) << error.what();
      return Fate::kRefused;
    }
  }

 private:
  DatasetInfo dataset() const {
    return {"cifar10", kChannels, {kChannels, rows_, columns_}, {}, {}};
  }

  static void expect_same(const Graph& graph, const at::Tensor& images, const at::Tensor& wanted) {
    Trace trace{images};
    EXPECT_TRUE(at::allclose(run(graph, trace), wanted, test::kFloats, test::kFewFloats));
    const auto shapes = output_shapes(graph);
    for (std::size_t i = 0; i < shapes.size(); ++i)
      EXPECT_EQ(shapes[i], trace[i].sizes().slice(1).vec()) << graph.nodes()[i].name;
    Trace empty(trace.size());
    empty[0] = images;
    EXPECT_TRUE(
        at::allclose(FusedNet(graph).run(empty, 0), wanted, test::kFloats, test::kFewFloats));
  }

  torch::jit::Module module_;
  std::int64_t rows_, columns_;
  test::TemporaryFolder folder_;
};

/// The operator on maps of 1 … 9 rows; columns run the other way. `supported`: by rows; then it is
/// refused only where LibTorch refuses it.
void try_rows(const std::string& expression, const std::function<bool(std::int64_t)>& supported) {
  const at::NoGradGuard no_grad;
  for (std::int64_t rows = 1; rows <= kMostRows; ++rows) {
    SCOPED_TRACE(fmt::format("{} of {} rows", expression, rows));
    const std::int64_t columns = kMostRows + 1 - rows;
    OneOperator net(expression, rows, columns);
    const bool possible = net.theirs(at::ones({1, kChannels, rows, columns})).has_value();
    EXPECT_EQ(net.import(), supported(rows) && possible ? Fate::kSame : Fate::kRefused);
  }
}
void try_sizes(const std::string& expression, bool supported) {
  try_rows(expression, [=](std::int64_t) { return supported; });
}

template <class Visit>
void each_window(const Visit& visit) {
  for (const int kernel : {1, 2, 3})
    for (const int stride : {1, 2, 3})
      for (const int padding : {0, 1, 2}) visit(kernel, stride, padding);
}

TEST(ShapesOfPyTorch, MaxPooling) {
  each_window([](int kernel, int stride, int padding) {
    for (const char* ceil : {"False", "True"})
      try_sizes(fmt::format("torch.max_pool2d(x, [{}, {}], [{}], [{}], [1], {})", kernel,
                            kernel + 1, stride, padding, ceil),
                true);
  });
  try_sizes("torch.max_pool2d(x, [2, 2])", true);  // without a stride it is the window's
  try_sizes("torch.max_pool2d(x, [2, 2], [1], [1], [2], True)", false);
}

TEST(ShapesOfPyTorch, AveragePooling) {
  each_window([](int kernel, int stride, int padding) {
    for (const bool counts : {true, false})
      try_sizes(fmt::format("torch.avg_pool2d(x, [{}, {}], [{}], [{}], False, {}, None)", kernel,
                            kernel + 1, stride, padding, counts ? "True" : "False"),
                counts || padding == 0);
  });
  for (const char* rest : {"True, False, None", "False, True, 2"})
    try_sizes(fmt::format("torch.avg_pool2d(x, [2], [2], [1], {})", rest), false);
  // Without effect: no window lies beyond the padding; the divisor is the window's size.
  for (const char* rest : {"True, True, None", "False, True, 4", "False, False, 4"})
    try_sizes(fmt::format("torch.avg_pool2d(x, [2], [2], [1], {})", rest), true);
  for (const char* counts : {"True", "False"})
    try_rows(fmt::format("torch.avg_pool2d(x, [2], [2], [0], True, {}, None)", counts),
             [](std::int64_t rows) { return rows % 2 == 0; });
}

TEST(ShapesOfPyTorch, AdaptivePoolingAndTheMean) {
  for (const char* size : {"1, 1", "1, 3", "2, 2", "3, 1", "4, 9"})
    try_sizes(fmt::format("torch.adaptive_avg_pool2d(x, [{}])", size), true);
  for (const char* rest : {"[2, 3], True", "[-1, -2], True"})
    try_sizes(fmt::format("torch.mean(x, {})", rest), true);
  for (const char* rest : {"[3], True", "[2], True"})
    try_sizes(fmt::format("torch.mean(x, {})", rest), false);
}

TEST(ShapesOfPyTorch, Convolutions) {
  each_window([](int kernel, int stride, int padding) {
    const bool deep = kernel == 1;
    for (const int dilation : {1, 2})
      try_sizes(fmt::format("torch.conv2d(x, self.layer.{}, None, [{}, {}], [{}, {}], [{}, 1], {})",
                            deep ? "deep" : "weight", stride, kernel, padding, padding / 2,
                            dilation, deep ? kChannels : 1),
                true);
  });
  try_sizes("torch.conv2d(x, self.layer.weight, None, [1, 1], 'same', [2, 1])", true);
}

TEST(ShapesOfPyTorch, Flattened) {
  const at::NoGradGuard no_grad;
  for (const char* form : {"torch.flatten(x, 1)", "x.reshape(x.size(0), -1)", "x.view([-1, 4])"}) {
    SCOPED_TRACE(form);
    OneOperator net(std::string("torch.adaptive_avg_pool2d(x, [1, 1])\n  x = ") + form +
                        "\n  x = x.unsqueeze(2).unsqueeze(3)",
                    3, 2);
    EXPECT_EQ(net.import(), Fate::kRefused);  // features do not become a map again
  }
}

}  // namespace
}  // namespace sentinel
