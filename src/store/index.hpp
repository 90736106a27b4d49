#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace sentinel::store {

/// Where a record lies: number of the journal (16 bits) and byte offset in it (48 bits). 0 = none:
/// every journal begins with a header.
class Location {
 public:
  Location() = default;
  Location(std::size_t journal, std::uint64_t offset)
      : bits_(static_cast<std::uint64_t>(journal) << kOffsetBits | offset) {}
  static Location from_bits(std::uint64_t bits) {
    Location location;
    location.bits_ = bits;
    return location;
  }
  std::uint64_t bits() const { return bits_; }
  bool none() const { return bits_ == 0; }
  std::size_t journal() const { return static_cast<std::size_t>(bits_ >> kOffsetBits); }
  std::uint64_t offset() const { return bits_ & ((std::uint64_t{1} << kOffsetBits) - 1); }

 private:
  static constexpr int kOffsetBits = 48;
  std::uint64_t bits_ = 0;
};

struct RowKey {
  std::uint32_t point;
  std::uint64_t id;
  std::uint32_t model;
};

/// (point, id, model) -> Location in 8 bytes a row: ids are dense, so a page holds the slots of
/// 1024 neighbours. Pages never move, so a snapshot is a list of their addresses; what was added
/// after it is told apart by its offset in the growing journal. Not synchronised, but a snapshot
/// may be read while rows are added.
class RowIndex {
 public:
  static constexpr std::uint64_t kPageRows = 1024;
  struct Page {
    std::array<std::atomic<std::uint64_t>, kPageRows> slots{};
  };
  struct PageRef {
    std::uint32_t point;
    std::uint64_t first_id;
    std::uint32_t model;
    const Page* page;
  };

  /// Whether any model's row of the trial is there.
  bool has(std::uint32_t point, std::uint64_t id) const;
  Location find(const RowKey& key) const;
  /// The row must be absent.
  void insert(const RowKey& key, Location location);
  void erase(const RowKey& key);
  std::uint64_t size() const { return size_; }
  /// All pages by (point, first id, model).
  std::vector<PageRef> snapshot() const;

 private:
  using Models = std::vector<std::unique_ptr<Page>>;
  using PageKey = std::pair<std::uint32_t, std::uint64_t>;
  const Models* models_of(std::uint32_t point, std::uint64_t id) const;

  std::map<PageKey, Models> pages_;
  std::uint64_t size_ = 0;
  // Neighbouring trials come together: the last page found is nearly always the next one wanted.
  mutable PageKey last_key_{};
  mutable const Models* last_ = nullptr;
};

}  // namespace sentinel::store
