#include <algorithm>
#include <unordered_map>

#include "script_code.hpp"
#include "script_pickle.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/io/script_file.hpp"
#include "zip.hpp"

namespace sentinel {
namespace {

constexpr std::string_view kConstants = "/constants.pkl";
constexpr std::uint64_t kMaxCode = 8u << 20;   // bytes of all files; 750 000
constexpr std::size_t kMaxTensors = 1u << 15;  // a thousand layers have some 6000
constexpr std::uint64_t kMaxSharing = 8;       // as in checkpoints
constexpr std::size_t kMaxNameLength = 1024;   // of a tensor; as in checkpoints

/// The records of a TorchScript file, read by our own readers.
class ScriptArchive {
 public:
  ScriptArchive(const Bytes& file, const std::string& source)
      : file_(file), source_(source), archive_(file, source), prefix_(find_prefix()) {
    check_kind();
  }

  const std::string& source() const { return source_; }
  std::uint64_t size() const { return file_.size(); }
  std::string record(const std::string& name) const { return prefix_ + "/" + name; }
  bool contains(const std::string& name) const { return archive_.contains(record(name)); }
  /// Each once, however many tensors are in it: the archive counts what is read.
  ZipArchive::Record read(const std::string& name) {
    const auto known = records_.find(name);
    if (known != records_.end()) return known->second;
    return records_.emplace(name, archive_.read(record(name))).first->second;
  }

  /// Its code. Views into the archive.
  std::vector<ScriptText> code() {
    std::vector<ScriptText> files;
    std::uint64_t total = 0;
    const std::string begin = record("code/"), end = ".py";
    std::vector<std::string> names = archive_.names();
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      if (name.rfind(begin, 0) != 0 || !ends_with(name, end)) continue;
      const ZipArchive::Record data = archive_.read(name);
      total += data.size;
      if (total > kMaxCode) throw DataError(source_, "it holds more code than any network");
      std::string module = name.substr(begin.size(), name.size() - begin.size() - end.size());
      std::replace(module.begin(), module.end(), '/', '.');
      files.push_back({name.substr(prefix_.size() + 1),
                       std::move(module),
                       {reinterpret_cast<const char*>(data.data), data.size}});
    }
    return files;
  }

  Pickle pickle(const std::string& name) {
    const ZipArchive::Record data = read(name);
    return read_pickle(data.data, data.size, source_, data.offset, script_globals());
  }

  /// Its objects.
  Pickle network() {
    Pickle pickle = this->pickle("data.pkl");
    if (pickle.root_value().kind != PickleKind::kObject)
      pickle.fail(pickle.root_value(), "in the pickle: this is no network");
    return pickle;
  }

 private:
  std::string find_prefix() const {
    for (const std::string& name : archive_.names())
      if (ends_with(name, kConstants)) return name.substr(0, name.size() - kConstants.size());
    throw DataError(source_, "this is no TorchScript file: it has no constants.pkl");
  }

  void check_kind() {
    if (contains("model.json"))
      throw DataError(source_,
                      "a TorchScript file of PyTorch 1.3 or older, which is not read; load "
                      "and save it again by a later one");
    if (!contains("byteorder")) return;
    const ZipArchive::Record order = read("byteorder");
    if (std::string_view(reinterpret_cast<const char*>(order.data), order.size) != "little")
      throw DataError(source_, "written on a big-endian machine; load and save it again here");
  }

  const Bytes& file_;
  const std::string& source_;
  ZipArchive archive_;
  std::string prefix_;
  std::unordered_map<std::string, ZipArchive::Record> records_;
};

// ---- what it holds ----

/// Parameters and buffers in the order of torch.nn.Module.state_dict().
class TensorNames {
 public:
  TensorNames(ScriptArchive& archive, const Pickle& pickle, const ScriptCode& code)
      : archive_(archive), pickle_(pickle), classes_(code.classes()) {}

  /// The pickle is one that rewrite_script_pickle let through: no circles, and few enough places.
  StateDict run() {
    module(pickle_.root_value(), "");
    return std::move(tensors_);
  }

 private:
  void module(const PickleValue& object, const std::string& prefix) {
    const auto found = classes_.find(std::string(pickle_[object.callable].text));
    if (found == classes_.end()) return;
    if (prefix.size() > kMaxNameLength) pickle_.fail(object, "a tensor's name is too long");
    const ScriptClass& type = found->second;
    const Attributes values = attributes_of(object);
    const auto value_of = [&](const std::string& name) {
      const auto at = values.find(name);
      return at == values.end() ? nullptr : at->second;
    };
    for (const bool parameters : {true, false})
      for (const auto& [name, kind] : type.attributes) {
        const bool wanted = parameters ? type.parameters.count(name) > 0
                                       : kind == "Tensor" && type.buffers.count(name) > 0;
        const PickleValue* value = wanted ? value_of(name) : nullptr;
        if (value != nullptr && is_tensor(pickle_, *value)) tensor(prefix + name, *value);
      }
    for (const auto& [name, kind] : type.attributes) {
      const auto child = classes_.find(kind);
      const PickleValue* value = value_of(name);
      if (child != classes_.end() && child->second.is_module && value != nullptr &&
          value->kind == PickleKind::kObject)
        module(*value, prefix + name + ".");
    }
  }

  using Attributes = std::unordered_map<std::string_view, const PickleValue*>;

  Attributes attributes_of(const PickleValue& object) const {
    Attributes values;
    if (object.kind != PickleKind::kObject || object.state == kNoRef) return values;
    const auto& items = pickle_[object.state].items;
    for (std::size_t i = 0; i + 1 < items.size(); i += 2)
      values.emplace(pickle_[items[i]].text, &pickle_[items[i + 1]]);
    return values;
  }

  void tensor(const std::string& name, const PickleValue& value) {
    if (name.size() > kMaxNameLength) pickle_.fail(value, "a tensor's name is too long");
    const TensorView view = read_tensor(pickle_, name, value);
    const std::string& key = view.storage.key;
    if (storages_.count(key) == 0) {
      const ZipArchive::Record data = archive_.read("data/" + key);
      storages_[key] = {data.data, data.size};
    }
    at::Tensor copied = copy_tensor(pickle_, view, storages_);
    total_ += static_cast<std::uint64_t>(copied.nbytes());
    if (total_ > kMaxSharing * archive_.size() || tensors_.size() >= kMaxTensors)
      pickle_.fail(value, "the tensors together are larger than this file can honestly hold");
    tensors_.set(name, std::move(copied));
  }

  ScriptArchive& archive_;
  const Pickle& pickle_;
  const std::map<std::string, ScriptClass>& classes_;
  Storages storages_;
  StateDict tensors_;
  std::uint64_t total_ = 0;
};

std::vector<double> numbers_in(const Pickle& pickle, const char* name) {
  const PickleValue* value = attribute_of(pickle, pickle.root_value(), name);
  if (value == nullptr) return {};
  if (!pickle.calls(*value, "torch.jit._pickle.build_doublelist"))
    pickle.fail(*value, "its " + std::string(name) + " is no list of numbers");
  std::vector<double> numbers;
  for (const PickleRef ref : pickle.sequence(pickle.element(pickle[value->args], 0))) {
    if (pickle[ref].kind != PickleKind::kFloat)
      pickle.fail(pickle[ref], "its " + std::string(name) + " is no list of numbers");
    numbers.push_back(pickle[ref].number);
  }
  return numbers;
}

// ---- the archive written again ----

CleanPickle clean_pickle(ScriptArchive& archive, const std::string& name, const Pickle& pickle,
                         const ClassSizes& classes) {
  const StorageSize size = [&](const std::string& key) {
    return archive.read(name + "/" + key).size;
  };
  return rewrite_script_pickle(pickle, classes, size);
}

void add_clean(ScriptArchive& archive, ZipWriter& writer, const std::string& name,
               const ClassSizes& classes) {
  const CleanPickle clean = clean_pickle(
      archive, name, name == "data" ? archive.network() : archive.pickle("constants.pkl"), classes);
  writer.add("network/" + name + ".pkl", clean.bytes.data(), clean.bytes.size());
  for (std::size_t i = 0; i < clean.storages.size(); ++i) {
    const ZipArchive::Record data = archive.read(name + "/" + clean.storages[i]);
    writer.add("network/" + name + "/" + std::to_string(i), data.data, data.size);
  }
}

}  // namespace

ScriptContents read_script(const Bytes& file, const std::string& source) {
  ScriptArchive archive(file, source);
  ScriptContents contents;
  const Pickle pickle = archive.network();
  const ScriptCode code(archive.code(), source);
  clean_pickle(archive, "data", pickle, code.class_sizes());
  contents.tensors = TensorNames(archive, pickle, code).run();
  try {
    code.check();
  } catch (const DataError& error) {
    contents.refused = error.what();
  }
  return contents;
}

ScriptNumbers read_script_numbers(const Bytes& file, const std::string& source) {
  ScriptArchive archive(file, source);
  const Pickle pickle = archive.network();
  return {numbers_in(pickle, kScriptMean), numbers_in(pickle, kScriptStd)};
}

Bytes checked_script(const Bytes& file, const std::string& source) {
  ScriptArchive archive(file, source);
  const std::vector<ScriptText> texts = archive.code();
  const ScriptCode code(texts, source);
  code.check();
  ZipWriter writer;
  const ZipArchive::Record version =
      archive.read(archive.contains("version") ? "version" : ".data/version");
  writer.add("network/version", version.data, version.size);
  for (const ScriptText& text : texts)
    writer.add("network/" + text.record, text.text.data(), text.text.size());
  for (const char* name : {"constants", "data"})
    add_clean(archive, writer, name, code.class_sizes());
  try {
    return writer.finish();
  } catch (const UserError&) {
    throw DataError(source,
                    "a TorchScript file of 4 GiB or more, or of more than 65 535 records, "
                    "which is not read");
  }
}

}  // namespace sentinel
