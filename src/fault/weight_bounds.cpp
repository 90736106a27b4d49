#include <algorithm>
#include <cstring>
#include <set>

#include "sentinel/fault/memory.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/graph/run.hpp"

namespace sentinel {
namespace {

bool same_bits(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

bool before(const ReadChange& a, const ReadChange& b) {
  return std::tie(a.stored, a.element) < std::tie(b.stored, b.element);
}

/// Changes of one tensor among sorted ones.
std::pair<const ReadChange*, const ReadChange*> changes_of(const std::vector<ReadChange>& changes,
                                                           std::int64_t tensor) {
  const auto number = static_cast<std::uint32_t>(tensor);
  const auto first =
      std::lower_bound(changes.begin(), changes.end(), ReadChange{number, 0, 0, 0}, before);
  auto last = first;
  while (last != changes.end() && last->stored == number) ++last;
  return {changes.data() + (first - changes.begin()), changes.data() + (last - changes.begin())};
}

/// A tensor's values with changes, by element.
class Changed {
 public:
  Changed(const float* clean, const std::vector<ReadChange>& changes, std::int64_t tensor)
      : clean_(clean), own_(changes_of(changes, tensor)) {}
  float clean(std::uint64_t element) const { return clean_[element]; }
  float faulty(std::uint64_t element) const {
    const ReadChange* found =
        std::lower_bound(own_.first, own_.second, element,
                         [](const ReadChange& a, std::uint64_t e) { return a.element < e; });
    return found != own_.second && found->element == element ? found->faulty : clean_[element];
  }
  const ReadChange* begin() const { return own_.first; }
  const ReadChange* end() const { return own_.second; }

 private:
  const float* clean_;
  std::pair<const ReadChange*, const ReadChange*> own_;
};

/// Weights of one tensor after its bounds, some of which may have changed themselves.
void bounded_weights(const Changed& weights, const Changed& low, const Changed& high,
                     std::uint64_t row, std::uint64_t values, std::uint32_t tensor,
                     std::vector<ReadChange>& to) {
  const auto add = [&](std::uint64_t element) {
    const std::uint64_t entry = element / row;
    const float clean =
        rules::read_weight(weights.clean(element), low.clean(entry), high.clean(entry));
    const float faulty =
        rules::read_weight(weights.faulty(element), low.faulty(entry), high.faulty(entry));
    if (!same_bits(clean, faulty)) to.push_back({tensor, element, clean, faulty});
  };
  std::set<std::uint64_t> rows;  // of which a bound has changed
  for (const ReadChange& change : low) rows.insert(change.element);
  for (const ReadChange& change : high) rows.insert(change.element);
  const ReadChange* next = weights.begin();
  const auto add_until = [&](std::uint64_t end) {
    for (; next != weights.end() && next->element < end; ++next) add(next->element);
  };
  for (const std::uint64_t entry : rows) {
    add_until(entry * row);
    for (std::uint64_t e = entry * row; e < std::min((entry + 1) * row, values); ++e) add(e);
    while (next != weights.end() && next->element < (entry + 1) * row) ++next;
  }
  add_until(UINT64_MAX);
}

}  // namespace

std::vector<ReadChange> Memory::through_bounds(std::vector<ReadChange> changes) const {
  std::set<std::int64_t> bounded;  // weights that are hit, or whose bounds are
  for (const ReadChange& change : changes) {
    const auto stored = static_cast<std::int64_t>(change.stored);
    if (tensors_[change.stored].kind == TensorClass::kWeight) {
      if (links_[change.stored].range.low >= 0) bounded.insert(stored);
    } else if (links_[change.stored].bounds >= 0) {
      bounded.insert(links_[change.stored].bounds);
    }
  }
  if (bounded.empty()) return changes;
  std::vector<ReadChange> all;
  for (const ReadChange& change : changes)
    if (links_[change.stored].bounds < 0 &&
        bounded.count(static_cast<std::int64_t>(change.stored)) == 0)
      all.push_back(change);
  for (const std::int64_t weight : bounded) {
    const auto number = static_cast<std::size_t>(weight);
    const ReadRange& range = links_[number].range;
    const auto of = [&](std::int64_t tensor) {
      return Changed(values(static_cast<std::size_t>(tensor)), changes, tensor);
    };
    bounded_weights(of(weight), of(range.low), of(range.high), range.row, tensors_[number].values,
                    static_cast<std::uint32_t>(weight), all);
  }
  std::sort(all.begin(), all.end(), before);
  return all;
}

void take_weight_bounds(Graph& graph) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    WeightBounds* bounds = weight_bounds_of(graph[id].op);
    if (bounds == nullptr || !bounds->low.defined()) continue;
    Conv* conv = as_conv(graph[id].op);
    at::Tensor& weight = conv ? conv->weight : std::get<Linear>(graph[id].op).weight;
    weight = decoded(weight, *bounds);
    *bounds = {};
  }
}

}  // namespace sentinel
