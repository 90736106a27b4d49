#include "sentinel/store/result_file.hpp"
#include "store/h5.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kShownText = 100;

std::string type_name(const h5::File& file, hid_t type);

std::string compound_name(const h5::File& file, hid_t type) {
  std::string text;
  const int members = H5Tget_nmembers(type);
  file.check(members, "cannot read a type");
  for (unsigned i = 0; i < static_cast<unsigned>(members); ++i) {
    char* name = H5Tget_member_name(type, i);
    const h5::Handle member = file.own(H5Tget_member_type(type, i), H5Tclose, "cannot read a type");
    text += (i ? ", " : "") + std::string(name ? name : "?") + " " + type_name(file, member);
    H5free_memory(name);
  }
  return "{" + text + "}";
}

std::string type_name(const h5::File& file, hid_t type) {
  const std::string bits = std::to_string(8 * H5Tget_size(type));
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return (H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "i") + bits;
    case H5T_FLOAT:
      return "f" + bits;
    case H5T_STRING:
      return H5Tis_variable_str(type) > 0 ? "string"
                                          : "string[" + std::to_string(H5Tget_size(type)) + "]";
    case H5T_COMPOUND:
      return compound_name(file, type);
    case H5T_NO_CLASS:
    case H5T_TIME:
    case H5T_BITFIELD:
    case H5T_OPAQUE:
    case H5T_REFERENCE:
    case H5T_ENUM:
    case H5T_VLEN:
    case H5T_ARRAY:
    case H5T_NCLASSES:
      return "other type";
  }
  return "other type";
}

std::string attribute_value(const h5::File& file, hid_t object, const std::string& name) {
  const h5::Handle attribute =
      file.own(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, "attribute " + name);
  const h5::Handle type = file.own(H5Aget_type(attribute), H5Tclose, "attribute " + name);
  const h5::Handle space = file.own(H5Aget_space(attribute), H5Sclose, "attribute " + name);
  const H5T_class_t kind = H5Tget_class(type);
  if (H5Sget_simple_extent_npoints(space) != 1) return type_name(file, type) + " list";
  if (kind == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE)
    return std::to_string(h5::get<std::uint64_t>(file, object, name));
  if (kind == H5T_INTEGER) return std::to_string(h5::get<std::int64_t>(file, object, name));
  if (kind == H5T_FLOAT) return std::to_string(h5::get<double>(file, object, name));
  if (kind != H5T_STRING) return type_name(file, type);
  std::string text = h5::get_text(file, object, name);
  const std::size_t size = text.size();
  text = text.substr(0, std::min(kShownText, text.find('\n')));
  return '"' + text + '"' + (text.size() < size ? " ... " + std::to_string(size) + " bytes" : "");
}

void describe_object(const h5::File& file, const std::string& path, hid_t object,
                     std::vector<std::string>& lines) {
  if (H5Iget_type(object) == H5I_DATASET) {
    const h5::Handle type = file.own(H5Dget_type(object), H5Tclose, path);
    if (h5::in_other_files(file, object)) {
      lines.push_back(path + "  [in other files, not read] " + type_name(file, type));
      return;
    }
    const h5::Handle space = file.own(H5Dget_space(object), H5Sclose, path);
    std::vector<hsize_t> shape(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
    file.check(H5Sget_simple_extent_dims(space, shape.data(), nullptr), path);
    std::string extents;
    for (const hsize_t extent : shape)
      extents += (extents.empty() ? "" : ", ") + std::to_string(extent);
    lines.push_back(path + "  [" + extents + "] " + type_name(file, type));
  } else {
    lines.push_back(path);
  }
  for (const std::string& name : h5::attributes(file, object))
    lines.push_back(path + " @" + name + " = " + attribute_value(file, object, name));
}

struct Visit {
  const h5::File& file;
  std::vector<std::string> names;
};

extern "C" herr_t collect_object(hid_t, const char* name, const H5O_info_t*, void* data) {
  static_cast<Visit*>(data)->names.emplace_back(name);
  return 0;
}

}  // namespace

std::vector<std::string> describe_hdf5(const std::string& path) {
  const h5::Guard guard;
  const h5::File file = h5::File::open(path);
  Visit visit{file, {}};
  file.check(H5Ovisit(file.id(), H5_INDEX_NAME, H5_ITER_INC, collect_object, &visit),
             "cannot list");
  std::vector<std::string> lines;
  for (const std::string& name : visit.names) {
    const h5::Handle object =
        file.own(H5Oopen(file.id(), name.c_str(), H5P_DEFAULT), H5Oclose, "cannot open " + name);
    describe_object(file, name == "." ? "/" : "/" + name, object, lines);
  }
  return lines;
}

}  // namespace sentinel
