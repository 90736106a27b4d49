#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "sentinel/transform/storing.hpp"

namespace sentinel {

/// A trained tensor that is not stored as plain fp32. Training keeps its fp32 values, the masters.
struct Master {
  StoredTensor tensor;
  at::Tensor* values;  // the graph's
  Layout layout, scales;
};
/// The weights and biases, those of batch norm too, that the layouts name. The graph must outlive
/// them.
std::vector<Master> masters_of(Graph& graph, const Layouts& layouts);

/// While it lives, the graph has the values that would be read without faults if its masters were
/// stored, with scales for the masters of this moment. They require gradients. At the end the
/// masters are back, and the gradients are theirs as they are: the straight-through estimator
/// (Bengio, Leonard, Courville, arXiv:1308.3432). Values beyond the range of a format get theirs
/// too: else nothing would bring them back.
class AsRead {
 public:
  explicit AsRead(const std::vector<Master>& masters);
  ~AsRead();
  AsRead(const AsRead&) = delete;
  AsRead& operator=(const AsRead&) = delete;

 private:
  const std::vector<Master>& masters_;
  std::vector<at::Tensor> values_;
};

}  // namespace sentinel
