#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/outcome.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {

Accuracy evaluate(const Graph& graph, const Dataset& images, at::Device device,
                  std::int64_t batch_size) {
  if (batch_size < 1) throw UserError("the batch size must be at least 1");
  const at::NoGradGuard no_grad;
  Graph local = graph.clone();
  local.to(device, at::MemoryFormat::ChannelsLast);
  Accuracy accuracy;
  for (std::int64_t begin = 0; begin < images.size(); begin += batch_size) {
    const Batch batch =
        images.batch(begin, std::min(begin + batch_size, images.size()), graph.normalisation);
    const auto inputs = batch.images.to(device).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor output = logits(local, inputs).to(at::kCPU);
    const TrialResult result = classify(output, output, batch.labels);
    accuracy.logits.add(output);
    accuracy.images += result.images;
    accuracy.correct += result.correct;
    accuracy.top5 += result.top5;
  }
  return accuracy;
}

}  // namespace sentinel
