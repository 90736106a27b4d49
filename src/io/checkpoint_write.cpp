#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "storage_types.hpp"
#include "zip.hpp"

namespace sentinel {
namespace {

const std::string kFolder = "archive/";

/// Writes the few opcodes that a state_dict takes (protocol 2), without memo.
class StateDictPickle {
 public:
  StateDictPickle() {
    out_.text("\x80\x02");
    global("collections", "OrderedDict");
    out_.text(")R(");
  }

  void tensor(const std::string& name, const at::Tensor& tensor, std::size_t storage) {
    text(name);
    global("torch._utils", "_rebuild_tensor_v2");
    out_.text("((");
    persistent_id(name, tensor, storage);
    integer(0);
    integers(tensor.sizes());
    integers(tensor.strides());
    out_.text("\x89");  // requires_grad is False
    global("collections", "OrderedDict");
    out_.text(")RtR");
  }

  Bytes finish() {
    out_.text("u.");
    return out_.take();
  }

 private:
  void global(const std::string& module, const std::string& name) {
    out_.text("c" + module + "\n" + name + "\n");
  }
  void text(const std::string& text) {
    out_.text("X");
    out_.write(static_cast<std::uint32_t>(text.size()));
    out_.text(text);
  }
  void integer(std::int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) {
      out_.text("J");
      out_.write(static_cast<std::int32_t>(value));
    } else {
      out_.text("\x8a\x08");
      out_.write(value);
    }
  }
  void integers(at::IntArrayRef values) {
    out_.text("(");
    for (const std::int64_t value : values) integer(value);
    out_.text("t");
  }
  void persistent_id(const std::string& name, const at::Tensor& tensor, std::size_t storage) {
    const auto type =
        std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                     [&](const StorageType& row) { return row.dtype == tensor.scalar_type(); });
    if (type == kStorageTypes.end())
      throw UserError("the tensor " + name + " has a type that cannot be saved; convert it first");
    text("storage");
    global("torch", std::string(type->global.substr(type->global.find('.') + 1)));
    text(std::to_string(storage));
    text("cpu");
    integer(tensor.numel());
    out_.text("tQ");
  }

  ByteWriter out_;
};

std::size_t byte_count(const at::Tensor& tensor) {
  return static_cast<std::size_t>(tensor.numel()) * tensor.element_size();
}

}  // namespace

Bytes serialize_pth(const StateDict& tensors, const std::optional<std::string>& metadata) {
  std::vector<at::Tensor> plain;
  StateDictPickle pickle;
  for (const auto& [name, tensor] : tensors) {
    plain.push_back(tensor.detach().cpu().contiguous());
    pickle.tensor(name, plain.back(), plain.size() - 1);
  }
  const Bytes data = pickle.finish();
  ZipWriter zip;
  zip.add(kFolder + "data.pkl", data.data(), data.size());
  zip.add(kFolder + "byteorder", "little", 6);
  for (std::size_t i = 0; i < plain.size(); ++i)
    zip.add(kFolder + "data/" + std::to_string(i), plain[i].data_ptr(), byte_count(plain[i]));
  zip.add(kFolder + "version", "3\n", 2);
  if (metadata) zip.add(kFolder + "sentinelnn.json", metadata->data(), metadata->size());
  return zip.finish();
}

void write_pth(const std::string& path, const StateDict& tensors,
               const std::optional<std::string>& metadata) {
  write_file_atomic(path, serialize_pth(tensors, metadata));
}

}  // namespace sentinel
