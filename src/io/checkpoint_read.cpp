#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <tuple>

#include "file_kind.hpp"
#include "pickle.hpp"
#include "safetensors.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "tensor_views.hpp"
#include "zip.hpp"

namespace sentinel {
namespace {

constexpr std::string_view kPickleSuffix = "/data.pkl";
// Tensors may share storages (tied weights), but not without bound.
constexpr std::uint64_t kMaxSharing = 8;

/// Copies the tensors of every dictionary; together they may not be larger than the file allows.
class TensorCopies {
 public:
  TensorCopies(const Pickle& pickle, const Storages& storages, std::uint64_t file_size)
      : pickle_(pickle), storages_(storages), most_(kMaxSharing * file_size) {}

  std::vector<TensorDict> all(std::vector<TensorViews> found) {
    std::vector<TensorDict> dicts;
    for (TensorViews& views : found)
      dicts.push_back({std::move(views.key), copy(views.tensors), std::move(views.others)});
    return dicts;
  }

 private:
  StateDict copy(const std::vector<TensorView>& views) {
    StateDict tensors;
    for (const TensorView& view : views) {
      at::Tensor tensor = copy_tensor(pickle_, view, storages_);
      total_ += static_cast<std::uint64_t>(tensor.nbytes());
      if (total_ > most_)
        pickle_.fail(*view.at, "the tensors together are larger than this file can honestly hold");
      tensors.set(view.name, std::move(tensor));
    }
    return tensors;
  }

  const Pickle& pickle_;
  const Storages& storages_;
  std::uint64_t most_, total_ = 0;
};

template <class Use>
void for_each_view(const std::vector<TensorViews>& found, Use&& use) {
  for (const TensorViews& views : found)
    for (const TensorView& view : views.tensors) {
      use(view);
      for (const TensorView& part : view.by_channel) use(part);
    }
}

// ---- zip format (PyTorch 1.6 and later)
// ----------------------------------------------------------

/// All records are in one folder, whose name depends on the file's first name.
std::string find_prefix(const ZipArchive& archive, const std::string& name) {
  std::vector<std::string> prefixes;
  for (const std::string& record : archive.names())
    if (record.size() > kPickleSuffix.size() && ends_with(record, kPickleSuffix))
      prefixes.push_back(record.substr(0, record.size() - kPickleSuffix.size()));
  if (prefixes.empty())
    throw DataError(name, "this zip archive is no PyTorch checkpoint (it has no data.pkl)" +
                              what_archive(archive.names()) +
                              "; give a file that torch.save wrote");
  return *std::min_element(prefixes.begin(), prefixes.end());
}

std::string read_text(ZipArchive& archive, const std::string& record) {
  const ZipArchive::Record data = archive.read(record);
  return std::string(reinterpret_cast<const char*>(data.data), data.size);
}

void check_zip_kind(ZipArchive& archive, const std::string& prefix, const std::string& name) {
  if (archive.contains(prefix + "/constants.pkl"))
    throw DataError(name,
                    "this is a TorchScript file, a state_dict is wanted; save model.state_dict() "
                    "with torch.save, or give this file as " +
                        spelled(Setting::kModel));
  if (archive.contains(prefix + "/byteorder") &&
      read_text(archive, prefix + "/byteorder") != "little")
    throw DataError(name, "written on a big-endian machine; load and save it with PyTorch here");
  // Its number changes nothing here; damage to it is damage all the same.
  if (archive.contains(prefix + "/version")) archive.read(prefix + "/version");
}

WeightsFile parse_zip(const Bytes& bytes, const std::string& name) {
  ZipArchive archive(bytes, name);
  const std::string prefix = find_prefix(archive, name);
  check_zip_kind(archive, prefix, name);
  const ZipArchive::Record record = archive.read(prefix + std::string(kPickleSuffix));
  const Pickle pickle =
      read_pickle(record.data, record.size, name, record.offset, checkpoint_globals());
  std::vector<TensorViews> found = find_tensors(pickle);
  Storages storages;
  for_each_view(found, [&](const TensorView& view) {
    const std::string& key = view.storage.key;
    if (storages.count(key) > 0) return;
    const ZipArchive::Record data = archive.read(prefix + "/data/" + key);
    storages[key] = {data.data, data.size};
  });
  WeightsFile file;
  file.dicts = TensorCopies(pickle, storages, bytes.size()).all(std::move(found));
  const std::string metadata = prefix + "/sentinelnn.json";
  if (archive.contains(metadata)) file.metadata = read_text(archive, metadata);
  return file;
}

// ---- legacy format (before 1.6): five pickles, then the storages
// ---------------------------------

// 0x1950a86a20f9469cfc6c and 1001, as PyTorch begins these files.
constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr std::int64_t kLegacyProtocol = 1001;

Pickle next_pickle(ByteReader& reader, const Bytes& bytes) {
  const std::size_t start = reader.offset();
  Pickle pickle = read_pickle(bytes.data() + start, reader.remaining(), reader.name(), start,
                              checkpoint_globals());
  reader.take(pickle.size);
  return pickle;
}

bool is_false(const PickleValue& value) {
  return value.kind == PickleKind::kBool && value.integer == 0;
}

void read_legacy_head(ByteReader& reader, const Bytes& bytes) {
  const Pickle magic = next_pickle(reader, bytes);
  if (magic.root_value().kind != PickleKind::kBigInt || magic.root_value().text != kMagic)
    magic.fail(magic.root_value(),
               "a pickle, but not one of torch.save (written by pickle.dump?); load it in Python "
               "and save the state_dict with torch.save");
  const Pickle protocol = next_pickle(reader, bytes);
  if (protocol.integer(protocol.root_value()) != kLegacyProtocol)
    protocol.fail(protocol.root_value(),
                  "an unknown version of PyTorch's old format; load and save "
                  "it with PyTorch");
  const Pickle system = next_pickle(reader, bytes);
  const auto& items = system.root_value().items;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2)
    if (system.text(system[items[i]]) == "little_endian" && is_false(system[items[i + 1]]))
      system.fail(system[items[i]],
                  "written on a big-endian machine; load and save it with PyTorch");
}

/// Elements of every storage that the pickle names, the ones of an optimizer too: the file holds
/// them all in a row and only the pickle knows their types.
std::unordered_map<std::string, StorageId> all_storage_ids(const Pickle& pickle) {
  std::unordered_map<std::string, StorageId> ids;
  for (const PickleValue& value : pickle.values) {
    if (value.kind != PickleKind::kPersistent) continue;
    StorageId id = read_storage_id(pickle, value);
    const auto [known, added] = ids.emplace(id.key, id);
    if (!added && known->second.dtype != id.dtype) pickle.fail(value, "one storage with two types");
  }
  return ids;
}

Storages read_legacy_storages(ByteReader& reader, const Pickle& keys,
                              const std::unordered_map<std::string, StorageId>& ids) {
  Storages storages;
  for (const PickleRef ref : keys.sequence(keys.root_value())) {
    const std::string key(keys.text(keys[ref]));
    const auto id = ids.find(key);
    if (id == ids.end()) keys.fail(keys[ref], "a storage that no tensor uses");
    const std::size_t itemsize = at::elementSize(id->second.dtype);
    const auto numel = reader.read<std::uint64_t>();
    if (numel > reader.remaining() / itemsize)
      reader.fail("a storage claims " + std::to_string(numel) +
                  " elements, more than the file has left; it is truncated or damaged, download or "
                  "save it again");
    storages[key] = {reader.take(numel * itemsize), numel * itemsize};
  }
  return storages;
}

WeightsFile parse_legacy(const Bytes& bytes, const std::string& name) {
  ByteReader reader(bytes, name);
  read_legacy_head(reader, bytes);
  const Pickle pickle = next_pickle(reader, bytes);
  std::vector<TensorViews> found = find_tensors(pickle);
  const auto ids = all_storage_ids(pickle);
  const Pickle keys = next_pickle(reader, bytes);
  const Storages storages = read_legacy_storages(reader, keys, ids);
  for_each_view(found, [&](const TensorView& view) {
    if (storages.count(view.storage.key) == 0)
      pickle.fail(*view.at, "the storage of the tensor " + view.name + " is missing");
  });
  WeightsFile file;
  file.dicts = TensorCopies(pickle, storages, bytes.size()).all(std::move(found));
  return file;
}

bool starts_with(const Bytes& bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), reinterpret_cast<const char*>(bytes.data()));
}

// ---- which dictionary comes first
// ---------------------------------------------------------------

/// Averages last, outer ones first, then by the usual names.
std::tuple<bool, std::ptrdiff_t, std::ptrdiff_t> rank(const TensorDict& dict) {
  constexpr std::array<std::string_view, 4> kUsual{"state_dict", "model_state_dict", "model",
                                                   "net"};
  const std::string& key = dict.key;
  const std::string last = key.substr(key.rfind('.') + 1);  // all of it where there is no dot
  const auto depth = key.empty() ? -1 : std::count(key.begin(), key.end(), '.');
  return {is_average(key), depth, std::find(kUsual.begin(), kUsual.end(), last) - kUsual.begin()};
}

}  // namespace

bool is_average(const std::string& key) {
  std::string word;
  for (const char c : key + ".") {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      continue;
    }
    if (word == "ema" || word == "swa" || begins_with(word, "averag")) return true;
    word.clear();
  }
  return false;
}

WeightsFile parse_weights(const Bytes& bytes, const std::string& name) {
  WeightsFile file;
  if (starts_with(bytes, "PK\x03\x04"))
    file = parse_zip(bytes, name);
  else if (is_safetensors(bytes))
    file = parse_safetensors(bytes, name);
  else if (starts_with(bytes, "\x80"))
    file = parse_legacy(bytes, name);
  else
    throw DataError(name, what_file(bytes));
  std::stable_sort(file.dicts.begin(), file.dicts.end(),
                   [](const TensorDict& a, const TensorDict& b) { return rank(a) < rank(b); });
  return file;
}

CheckpointFile parse_pth(const Bytes& bytes, const std::string& name) {
  WeightsFile file = parse_weights(bytes, name);
  return {std::move(file.dicts.front().tensors), std::move(file.metadata)};
}

bool is_script_archive(const Bytes& bytes) {
  constexpr std::string_view kConstants = "/constants.pkl";
  if (!starts_with(bytes, "PK\x03\x04")) return false;
  try {
    const auto names = ZipArchive(bytes, "").names();
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return ends_with(name, kConstants); });
  } catch (const DataError&) {
    return false;
  }
}

OwnArchive own_archive(const std::string& path) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 32;  // ZipWriter makes none of 4 GiB
  try {
    const Bytes bytes = read_file(path, kLargest);
    if (!starts_with(bytes, "PK\x03\x04")) return OwnArchive::kNone;
    ZipArchive archive(bytes, path);
    if (archive.contains("archive/code/__torch__/sentinelnn.py")) return OwnArchive::kScript;
    if (!archive.contains("archive/sentinelnn.json")) return OwnArchive::kNone;
    const std::string record = read_text(archive, "archive/sentinelnn.json");
    const auto has = [&](const char* key) { return record.find(key) != std::string::npos; };
    if (has("\"architecture\":")) return OwnArchive::kCheckpoint;
    return has("\"training\":") ? OwnArchive::kTrainingState : OwnArchive::kNone;
  } catch (const DataError&) {
    return OwnArchive::kNone;
  }
}

CheckpointFile read_pth(const std::string& path) {
  return parse_pth(read_file(path), path);
}

}  // namespace sentinel
