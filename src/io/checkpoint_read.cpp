#include <algorithm>
#include <optional>

#include "pickle.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "tensor_views.hpp"
#include "zip.hpp"

namespace sentinel {
namespace {

constexpr std::string_view kPickleSuffix = "/data.pkl";
// Tensors may share storages (tied weights), but not without bound.
constexpr std::uint64_t kMaxSharing = 8;

StateDict copy_tensors(const Pickle& pickle, const std::vector<TensorView>& views,
                       const Storages& storages, std::uint64_t file_size) {
  StateDict tensors;
  std::uint64_t total = 0;
  for (const TensorView& view : views) {
    at::Tensor tensor = copy_tensor(pickle, view, storages);
    total += static_cast<std::uint64_t>(tensor.nbytes());
    if (total > kMaxSharing * file_size)
      pickle.fail(*view.at, "the tensors together are larger than this file can honestly hold");
    tensors.set(view.name, std::move(tensor));
  }
  return tensors;
}

// ---- zip format (PyTorch 1.6 and later)
// ----------------------------------------------------------

/// All records are in one folder, whose name depends on the file's first name.
std::string find_prefix(const ZipArchive& archive, const std::string& name) {
  std::vector<std::string> prefixes;
  for (const std::string& record : archive.names())
    if (record.size() > kPickleSuffix.size() &&
        record.compare(record.size() - kPickleSuffix.size(), std::string::npos, kPickleSuffix) == 0)
      prefixes.push_back(record.substr(0, record.size() - kPickleSuffix.size()));
  if (prefixes.empty())
    throw DataError(name,
                    "this zip archive is no PyTorch checkpoint (it has no data.pkl); give a "
                    "file that torch.save wrote");
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
                    "with torch.save, or give this file as --model");
  if (archive.contains(prefix + "/byteorder") &&
      read_text(archive, prefix + "/byteorder") != "little")
    throw DataError(name, "written on a big-endian machine; load and save it with PyTorch here");
}

CheckpointFile parse_zip(const Bytes& bytes, const std::string& name) {
  ZipArchive archive(bytes, name);
  const std::string prefix = find_prefix(archive, name);
  check_zip_kind(archive, prefix, name);
  const ZipArchive::Record record = archive.read(prefix + std::string(kPickleSuffix));
  const Pickle pickle =
      read_pickle(record.data, record.size, name, record.offset, checkpoint_globals());
  const std::vector<TensorView> views = find_tensors(pickle);
  Storages storages;
  for (const TensorView& view : views) {
    const std::string& key = view.storage.key;
    if (storages.count(key) > 0) continue;
    const ZipArchive::Record data = archive.read(prefix + "/data/" + key);
    storages[key] = {data.data, data.size};
  }
  CheckpointFile file{copy_tensors(pickle, views, storages, bytes.size()), {}};
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
               "a pickle, but not one of torch.save; save the state_dict with "
               "torch.save");
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

CheckpointFile parse_legacy(const Bytes& bytes, const std::string& name) {
  ByteReader reader(bytes, name);
  read_legacy_head(reader, bytes);
  const Pickle pickle = next_pickle(reader, bytes);
  const std::vector<TensorView> views = find_tensors(pickle);
  const auto ids = all_storage_ids(pickle);
  const Pickle keys = next_pickle(reader, bytes);
  const Storages storages = read_legacy_storages(reader, keys, ids);
  for (const TensorView& view : views)
    if (storages.count(view.storage.key) == 0)
      pickle.fail(*view.at, "the storage of the tensor " + view.name + " is missing");
  return {copy_tensors(pickle, views, storages, bytes.size()), {}};
}

bool starts_with(const Bytes& bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), reinterpret_cast<const char*>(bytes.data()));
}

}  // namespace

CheckpointFile parse_pth(const Bytes& bytes, const std::string& name) {
  if (bytes.empty()) throw DataError(name, "the file is empty; download or save it again");
  if (starts_with(bytes, "PK\x03\x04")) return parse_zip(bytes, name);
  if (starts_with(bytes, "\x80")) return parse_legacy(bytes, name);
  throw DataError(name, 0,
                  "not a PyTorch checkpoint (neither a zip archive nor a pickle); give a "
                  "file that torch.save wrote, or download it again");
}

bool is_script_archive(const Bytes& bytes) {
  constexpr std::string_view kConstants = "/constants.pkl";
  if (!starts_with(bytes, "PK\x03\x04")) return false;
  try {
    const auto names = ZipArchive(bytes, "").names();
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return name.size() > kConstants.size() &&
             name.compare(name.size() - kConstants.size(), std::string::npos, kConstants) == 0;
    });
  } catch (const DataError&) {
    return false;
  }
}

CheckpointFile read_pth(const std::string& path) {
  return parse_pth(read_file(path), path);
}

}  // namespace sentinel
