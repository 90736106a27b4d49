#include <cmath>

#include "transform/importance_methods.hpp"

namespace sentinel {
namespace {

class L1Norm : public ImportanceMethod {
 public:
  std::string name() const override { return "l1-norm"; }
  ChannelScores score(const ImportanceInputs& inputs) const override {
    return score_filters(inputs.graph, [](const float* weights, std::int64_t count) {
      double sum = 0;
      for (std::int64_t i = 0; i < count; ++i) sum += std::fabs(static_cast<double>(weights[i]));
      return sum;
    });
  }
};

}  // namespace

std::unique_ptr<ImportanceMethod> make_l1_norm() {
  return std::make_unique<L1Norm>();
}

}  // namespace sentinel
