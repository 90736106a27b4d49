#include "parity/reference_file.hpp"

#include <hdf5.h>

#include <stdexcept>

namespace sentinel::parity {
namespace {

/// An HDF5 identifier that is closed with its scope.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
    if (id < 0) throw std::runtime_error("HDF5 cannot open " + what);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { close_(id_); }
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

Handle open_dataset(hid_t file, const std::string& name) {
  return {H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, name};
}

std::vector<std::int64_t> shape_of(hid_t dataset, const std::string& name) {
  const Handle space(H5Dget_space(dataset), H5Sclose, name);
  std::vector<hsize_t> sizes(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  return {sizes.begin(), sizes.end()};
}

void require(herr_t status, const std::string& what) {
  if (status < 0) throw std::runtime_error("HDF5 cannot read " + what);
}

}  // namespace

ReferenceFile::ReferenceFile(const std::string& path)
    : file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)) {
  if (file_ < 0) throw std::runtime_error("HDF5 cannot open " + path);
}

ReferenceFile::~ReferenceFile() {
  H5Fclose(file_);
}

at::Tensor ReferenceFile::tensor(const std::string& name) const {
  const Handle dataset = open_dataset(file_, name);
  const Handle type(H5Dget_type(dataset), H5Tclose, name);
  at::ScalarType kind = at::kLong;
  hid_t memory = H5T_NATIVE_INT64;
  if (H5Tget_class(type) == H5T_FLOAT) {
    kind = H5Tget_size(type) == 4 ? at::kFloat : at::kDouble;
    memory = kind == at::kFloat ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE;
  }
  at::Tensor values = at::empty(shape_of(dataset, name), kind);
  require(H5Dread(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data_ptr()), name);
  return values;
}

std::vector<std::string> ReferenceFile::texts(const std::string& name) const {
  const Handle dataset = open_dataset(file_, name);
  const Handle type(H5Dget_type(dataset), H5Tclose, name);
  const Handle space(H5Dget_space(dataset), H5Sclose, name);
  std::vector<char*> pointers(static_cast<std::size_t>(shape_of(dataset, name).at(0)));
  require(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()), name);
  const std::vector<std::string> list(pointers.begin(), pointers.end());
  H5Dvlen_reclaim(type, space, H5P_DEFAULT, pointers.data());
  return list;
}

std::int64_t ReferenceFile::number(const std::string& group, const std::string& attribute) const {
  const std::string what = group + "@" + attribute;
  const Handle handle(
      H5Aopen_by_name(file_, group.c_str(), attribute.c_str(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
      what);
  std::int64_t value = 0;
  require(H5Aread(handle, H5T_NATIVE_INT64, &value), what);
  return value;
}

std::vector<std::string> ReferenceFile::members(const std::string& group) const {
  const Handle handle(H5Gopen2(file_, group.c_str(), H5P_DEFAULT), H5Gclose, group);
  std::vector<std::string> names;
  const auto add = [](hid_t, const char* name, const H5L_info_t*, void* list) -> herr_t {
    static_cast<std::vector<std::string>*>(list)->emplace_back(name);
    return 0;
  };
  hsize_t next = 0;
  require(H5Literate(handle, H5_INDEX_NAME, H5_ITER_INC, &next, add, &names), group);
  return names;
}

}  // namespace sentinel::parity
