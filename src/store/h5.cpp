#include "store/h5.hpp"

#include <algorithm>
#include <cstring>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"

namespace sentinel::h5 {
namespace {

struct Library {
  // A file that could not be closed (disk full) stays half closed in HDF5 1.10, whose exit handler
  // then crashes. Nothing is lost without the handler: what is written is closed, and checked.
  // A link is never followed out of the file, and no code is loaded to read it.
  Library() {
    H5dont_atexit();
    H5Lunregister(H5L_TYPE_EXTERNAL);
    H5PLset_loading_state(0);
  }
  std::mutex mutex;
};

std::mutex& library_mutex() {
  static Library library;  // one per process, like HDF5 itself
  return library.mutex;
}

extern "C" herr_t collect_error(unsigned depth, const H5E_error2_t* error, void* data) {
  auto& text = *static_cast<std::string*>(data);
  // The first entries are the causes; the rest repeats them layer by layer.
  if (depth < 3 && error->desc && *error->desc)
    text += (text.empty() ? "" : "; ") + std::string(error->desc);
  return 0;
}

std::string library_message() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect_error, &text);
  H5Eclear2(H5E_DEFAULT);
  return text.empty() ? "unexpected content" : "HDF5: " + text;
}

extern "C" herr_t collect_link(hid_t, const char* name, const H5L_info_t*, void* data) {
  static_cast<std::vector<std::string>*>(data)->emplace_back(name);
  return 0;
}

extern "C" herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* data) {
  static_cast<std::vector<std::string>*>(data)->emplace_back(name);
  return 0;
}

Handle access_properties() {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
#if H5_VERSION_GE(1, 10, 7)
  // Published files never change in place: no lock is needed, and some cluster file systems refuse.
  H5Pset_file_locking(access, false, true);
#endif
  return access;
}

Handle variable_text(const File& file) {
  Handle type = file.own(H5Tcopy(H5T_C_S1), H5Tclose, "string type");
  file.check(H5Tset_size(type, H5T_VARIABLE), "string type");
  file.check(H5Tset_cset(type, H5T_CSET_UTF8), "string type");
  return type;
}

std::vector<hsize_t> shape_of(const File& file, hid_t dataset) {
  if (in_other_files(file, dataset)) file.fail("keeps data in other files, which are not read");
  const Handle space = file.own(H5Dget_space(dataset), H5Sclose, "cannot read a shape");
  const int rank = H5Sget_simple_extent_ndims(space);
  file.check(rank, "cannot read a shape");
  std::vector<hsize_t> shape(static_cast<std::size_t>(rank));
  file.check(H5Sget_simple_extent_dims(space, shape.data(), nullptr), "cannot read a shape");
  return shape;
}

}  // namespace

bool in_other_files(const File& file, hid_t dataset) {
  const Handle list = file.own(H5Dget_create_plist(dataset), H5Pclose, "cannot read a layout");
  return H5Pget_layout(list) == H5D_VIRTUAL || H5Pget_external_count(list) > 0;
}

Guard::Guard() : lock_(library_mutex()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

File File::create(const std::string& path) {
  std::remove(path.c_str());
  const Handle access = access_properties();
  File file(path, true, H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access));
  if (file.id() < 0) file.fail("cannot create");
  return file;
}

File File::open(const std::string& path) {
  require_readable(path);
  const Handle access = access_properties();
  File file(path, false, H5Fopen(path.c_str(), H5F_ACC_RDONLY, access));
  if (file.id() < 0) file.fail("cannot be opened as HDF5");
  return file;
}

void File::fail(const std::string& what) const {
  const std::string cause = library_message();
  if (!writing_) throw DataError(path_, what + " (" + cause + ")");
  const bool full = cause.find("No space left") != std::string::npos ||
                    cause.find("quota exceeded") != std::string::npos;
  const bool large = cause.find("File too large") != std::string::npos;
  // What was being written, and HDF5's account of it, do not matter then.
  throw EnvironmentError(
      "cannot write " + path_ + ": " +
      (full    ? "the disk is full; free space and run the same command again"
       : large ? "the limit of file sizes is reached (ulimit -f): raise it and run the same "
                 "command again"
               : what + " (" + cause + ")"));
}

Handle File::own(hid_t id, Handle::Closer closer, const std::string& what) const {
  if (id < 0) fail(what);
  return Handle(id, closer);
}

void File::close() {
  if (writing_) check(H5Fflush(handle_, H5F_SCOPE_GLOBAL), "cannot flush");
  check(handle_.close(), "cannot close");
}

Handle text_type(const File& file, std::size_t size) {
  Handle type = file.own(H5Tcopy(H5T_C_S1), H5Tclose, "string type");
  file.check(H5Tset_size(type, std::max<std::size_t>(size, 1)), "string type");
  file.check(H5Tset_strpad(type, H5T_STR_NULLPAD), "string type");
  file.check(H5Tset_cset(type, H5T_CSET_UTF8), "string type");
  return type;
}

Handle create_group(const File& file, hid_t parent, const std::string& name) {
  return file.own(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose,
                  "group " + name);
}

Handle open_group(const File& file, hid_t parent, const std::string& name) {
  return file.own(H5Gopen2(parent, name.c_str(), H5P_DEFAULT), H5Gclose, "lacks group " + name);
}

bool exists(const File& file, hid_t parent, const std::string& name) {
  const htri_t found = H5Lexists(parent, name.c_str(), H5P_DEFAULT);
  file.check(found, "cannot look up " + name);
  return found > 0;
}

std::vector<std::string> links(const File& file, hid_t group) {
  std::vector<std::string> names;
  file.check(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_link, &names),
             "cannot list a group");
  return names;
}

std::vector<std::string> attributes(const File& file, hid_t object) {
  std::vector<std::string> names;
  file.check(H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_attribute, &names),
             "cannot list attributes");
  return names;
}

void put_text(const File& file, hid_t object, const std::string& name, const std::string& text) {
  const Handle type = variable_text(file);
  const char* pointer = text.c_str();
  put_raw(file, object, name, type, &pointer);
}

std::string get_text(const File& file, hid_t object, const std::string& name) {
  const std::string what = "cannot read attribute " + name;
  const Handle attribute =
      file.own(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, "lacks attribute " + name);
  const Handle type = file.own(H5Aget_type(attribute), H5Tclose, what);
  if (H5Tget_class(type) != H5T_STRING) file.fail("attribute " + name + " is no text");
  const Handle space = file.own(H5Aget_space(attribute), H5Sclose, what);
  if (H5Sget_simple_extent_npoints(space) != 1) file.fail("attribute " + name + " is no text");
  if (H5Tis_variable_str(type) > 0) {
    char* raw = nullptr;
    file.check(H5Aread(attribute, type, &raw), what);
    std::string text = raw ? raw : "";
    file.check(H5free_memory(raw), what);
    return text;
  }
  std::string text(H5Tget_size(type), '\0');
  file.check(H5Aread(attribute, type, text.data()), what);
  text.resize(::strnlen(text.data(), text.size()));
  return text;
}

bool has_attribute(const File& file, hid_t object, const std::string& name) {
  const htri_t found = H5Aexists(object, name.c_str());
  file.check(found, "cannot look up attribute " + name);
  return found > 0;
}

void put_raw(const File& file, hid_t object, const std::string& name, hid_t type,
             const void* value) {
  const std::string what = "attribute " + name;
  const Handle space = file.own(H5Screate(H5S_SCALAR), H5Sclose, what);
  Handle attribute = file.own(
      H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, what);
  file.check(H5Awrite(attribute, type, value), what);
  file.check(attribute.close(), what);
}

void get_raw(const File& file, hid_t object, const std::string& name, hid_t type, void* value) {
  const std::string what = "cannot read attribute " + name;
  const Handle attribute =
      file.own(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, "lacks attribute " + name);
  const Handle space = file.own(H5Aget_space(attribute), H5Sclose, what);
  if (H5Sget_simple_extent_npoints(space) != 1) file.fail("attribute " + name + " is no number");
  const Handle stored = file.own(H5Aget_type(attribute), H5Tclose, what);
  require_same_numbers(file, stored, type, "attribute " + name);
  file.check(H5Aread(attribute, type, value), what);
}

void require_same_numbers(const File& file, hid_t stored, hid_t memory, const std::string& what) {
  bool same = H5Tget_class(stored) == H5Tget_class(memory);
  if (same && H5Tget_class(stored) == H5T_INTEGER) {
    const bool stored_sign = H5Tget_sign(stored) != H5T_SGN_NONE;
    const bool memory_sign = H5Tget_sign(memory) != H5T_SGN_NONE;
    const std::size_t size = H5Tget_size(stored), room = H5Tget_size(memory);
    same = stored_sign == memory_sign ? size <= room : memory_sign && size < room;
  }
  if (!same) file.fail(what + " has a type of another kind");
}

Appender::Appender(const File& file, hid_t parent, const std::string& name, hid_t type,
                   std::size_t row_bytes, hsize_t columns)
    : file_(file),
      name_(name),
      row_bytes_(row_bytes),
      columns_(columns),
      // A chunk must fit HDF5's default cache of 1 MiB, or readers unpack it once per row.
      chunk_rows_(std::clamp<hsize_t>((std::size_t{1} << 20) / row_bytes, 1, kChunkRows)),
      type_(file.own(H5Tcopy(type), H5Tclose, name)),
      dataset_(create(parent, type)) {}

Handle Appender::create(hid_t parent, hid_t type) const {
  const int rank = columns_ == 0 ? 1 : 2;
  const hsize_t none[2] = {0, columns_}, most[2] = {H5S_UNLIMITED, columns_};
  const hsize_t chunk[2] = {chunk_rows_, columns_};
  const Handle space = file_.own(H5Screate_simple(rank, none, most), H5Sclose, name_);
  const Handle properties = file_.own(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, name_);
  file_.check(H5Pset_chunk(properties, rank, chunk), name_);
  file_.check(H5Pset_shuffle(properties), name_);
  file_.check(H5Pset_deflate(properties, 1), name_);
  return file_.own(
      H5Dcreate2(parent, name_.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT),
      H5Dclose, name_);
}

void Appender::push(const void* rows, std::size_t count) {
  const char* from = static_cast<const char*>(rows);
  const std::size_t full = chunk_rows_ * row_bytes_;
  std::size_t left = count * row_bytes_;
  while (left > 0) {
    const std::size_t part = std::min(left, full - buffer_.size());
    buffer_.insert(buffer_.end(), from, from + part);
    from += part;
    left -= part;
    if (buffer_.size() == full) flush();
  }
}

void Appender::flush() {
  if (buffer_.empty()) return;
  const int rank = columns_ == 0 ? 1 : 2;
  const hsize_t count[2] = {buffer_.size() / row_bytes_, columns_};
  const hsize_t first[2] = {rows_, 0}, extent[2] = {rows_ + count[0], columns_};
  file_.check(H5Dset_extent(dataset_, extent), name_);
  const Handle memory = file_.own(H5Screate_simple(rank, count, nullptr), H5Sclose, name_);
  const Handle space = file_.own(H5Dget_space(dataset_), H5Sclose, name_);
  file_.check(H5Sselect_hyperslab(space, H5S_SELECT_SET, first, nullptr, count, nullptr), name_);
  file_.check(H5Dwrite(dataset_, type_, memory, space, H5P_DEFAULT, buffer_.data()), name_);
  rows_ += count[0];
  buffer_.clear();
}

void Appender::finish() {
  flush();
  file_.check(dataset_.close(), name_);
}

namespace {

/// HDF5 1.10 converts values by what the file says of their type, and reads and writes beyond them
/// where that is damaged.
bool is_sound(hid_t type) {
  const std::size_t size = H5Tget_size(type);
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_INTEGER || kind == H5T_FLOAT) {
    const int offset = H5Tget_offset(type);
    return offset >= 0 && static_cast<std::size_t>(offset) + H5Tget_precision(type) <= 8 * size;
  }
  if (kind != H5T_COMPOUND) return size > 0;
  std::size_t end = 0;  // of the members so far, which we write in their order
  for (int i = 0; i < H5Tget_nmembers(type); ++i) {
    const auto number = static_cast<unsigned>(i);
    const std::size_t offset = H5Tget_member_offset(type, number);
    const hid_t member = H5Tget_member_type(type, number);
    if (member < 0) return false;
    const bool sound =
        is_sound(member) && offset >= end && offset <= size && H5Tget_size(member) <= size - offset;
    end = offset + H5Tget_size(member);
    H5Tclose(member);
    if (!sound) return false;
  }
  return true;
}

}  // namespace

Dataset::Dataset(const File& file, hid_t parent, const std::string& name)
    : file_(file),
      name_(name),
      id_(file.own(H5Dopen2(parent, name.c_str(), H5P_DEFAULT), H5Dclose, "lacks " + name)),
      shape_(shape_of(file, id_)) {
  // A damaged or hostile shape must not ask for more memory than the data could be: deflate shrinks
  // to no less than a thousandth.
  const Handle type = file.own(H5Dget_type(id_), H5Tclose, name);
  if (!is_sound(type)) file.fail("has a damaged type of " + name);
  double bytes = static_cast<double>(H5Tget_size(type));
  for (const hsize_t extent : shape_) bytes *= static_cast<double>(extent);
  constexpr double kHarmless = 64 << 20, kMostCompression = 2000;
  if (bytes > kHarmless && bytes > kMostCompression * static_cast<double>(H5Dget_storage_size(id_)))
    file.fail(name + " claims more rows than it stores");
}

void check_memory(const File& file, const std::string& name, double bytes) {
  constexpr double kMost = 4.0 * (1 << 30);
  if (bytes > kMost) file.fail(name + " holds more than 4 GiB, which no result does");
}

void Dataset::read(hid_t memory_type, hsize_t first, hsize_t count, void* to) const {
  if (count == 0) return;
  std::vector<hsize_t> start(shape_.size(), 0), size = shape_;
  if (shape_.empty() || first + count > rows()) file_.fail("lacks rows of " + name_);
  start[0] = first;
  size[0] = count;
  const std::string what = "cannot read " + name_;
  if (H5Tget_class(memory_type) != H5T_COMPOUND) {  // the members of a row are looked at before
    const Handle stored = file_.own(H5Dget_type(id_), H5Tclose, what);
    require_same_numbers(file_, stored, memory_type, name_);
  }
  const Handle space = file_.own(H5Dget_space(id_), H5Sclose, what);
  file_.check(
      H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr),
      what);
  const Handle memory = file_.own(
      H5Screate_simple(static_cast<int>(size.size()), size.data(), nullptr), H5Sclose, what);
  file_.check(H5Dread(id_, memory_type, memory, space, H5P_DEFAULT, to), what);
}

}  // namespace sentinel::h5
