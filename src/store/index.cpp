#include "store/index.hpp"

namespace sentinel::store {

const RowIndex::Models* RowIndex::models_of(std::uint32_t point, std::uint64_t id) const {
  const PageKey key{point, id / kPageRows};
  if (last_ && last_key_ == key) return last_;
  const auto found = pages_.find(key);
  if (found == pages_.end()) return nullptr;
  last_key_ = key;
  last_ = &found->second;
  return last_;
}

bool RowIndex::has(std::uint32_t point, std::uint64_t id) const {
  const Models* models = models_of(point, id);
  if (!models) return false;
  for (const auto& page : *models)
    if (page && page->slots[id % kPageRows].load(std::memory_order_relaxed) != 0) return true;
  return false;
}

Location RowIndex::find(const RowKey& key) const {
  const Models* models = models_of(key.point, key.id);
  if (!models || key.model >= models->size() || !(*models)[key.model]) return {};
  return Location::from_bits(
      (*models)[key.model]->slots[key.id % kPageRows].load(std::memory_order_relaxed));
}

void RowIndex::insert(const RowKey& key, Location location) {
  Models& models = pages_[{key.point, key.id / kPageRows}];
  if (models.size() <= key.model) models.resize(key.model + std::size_t{1});
  auto& page = models[key.model];
  if (!page) page = std::make_unique<Page>();
  page->slots[key.id % kPageRows].store(location.bits(), std::memory_order_release);
  ++size_;
}

void RowIndex::erase(const RowKey& key) {
  pages_.at({key.point, key.id / kPageRows})
      .at(key.model)
      ->slots[key.id % kPageRows]
      .store(0, std::memory_order_release);
  --size_;
}

std::vector<RowIndex::PageRef> RowIndex::snapshot() const {
  std::vector<PageRef> refs;
  for (const auto& [key, models] : pages_)
    for (std::size_t m = 0; m < models.size(); ++m)
      if (models[m])
        refs.push_back(
            {key.first, key.second * kPageRows, static_cast<std::uint32_t>(m), models[m].get()});
  return refs;
}

}  // namespace sentinel::store
