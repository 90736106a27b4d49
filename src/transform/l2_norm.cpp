#include <cmath>

#include "transform/importance_methods.hpp"

namespace sentinel {
namespace {

class L2Norm : public ImportanceMethod {
 public:
  std::string name() const override { return "l2-norm"; }
  ChannelScores score(const ImportanceInputs& inputs) const override {
    return score_filters(inputs.graph, [](const float* weights, std::int64_t count) {
      double sum = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        const double weight = weights[i];
        sum += weight * weight;
      }
      return std::sqrt(sum);
    });
  }
};

}  // namespace

std::unique_ptr<ImportanceMethod> make_l2_norm() {
  return std::make_unique<L2Norm>();
}

}  // namespace sentinel
