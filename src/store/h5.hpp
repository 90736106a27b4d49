#pragma once
#include <hdf5.h>

#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

/// HDF5 with owned handles and checked return codes. Every entry into HDF5 happens under a Guard:
/// Debian's library is not thread-safe. The only place that includes <hdf5.h>.
namespace sentinel::h5 {

/// Lets one thread at a time use HDF5 and silences its own printing. Outlives every handle.
class Guard {
 public:
  Guard();

 private:
  std::unique_lock<std::mutex> lock_;
};

class Handle {
 public:
  using Closer = herr_t (*)(hid_t);
  Handle(hid_t id, Closer closer) : id_(id), close_(closer) {}
  Handle(Handle&& other) noexcept : id_(other.id_), close_(other.close_) { other.id_ = -1; }
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }
  /// Closes now; negative where HDF5 failed.
  herr_t close() {
    const hid_t id = id_;
    id_ = -1;
    return id < 0 ? 0 : close_(id);
  }

 private:
  hid_t id_;
  Closer close_;
};

/// An open HDF5 file; failures name it and HDF5's own reasons: DataError for a file being read,
/// EnvironmentError for one being written.
class File {
 public:
  static File create(const std::string& path);
  static File open(const std::string& path);
  File(File&&) noexcept = default;

  hid_t id() const { return handle_; }
  const std::string& path() const { return path_; }
  [[noreturn]] void fail(const std::string& what) const;
  /// Takes ownership of a new id, or fails.
  Handle own(hid_t id, Handle::Closer closer, const std::string& what) const;
  void check(long long status, const std::string& what) const {
    if (status < 0) fail(what);
  }
  /// Flushes and closes, checked; needed after writing.
  void close();

 private:
  File(std::string path, bool writing, hid_t id)
      : path_(std::move(path)), writing_(writing), handle_(id, H5Fclose) {}

  std::string path_;
  bool writing_;
  Handle handle_;
};

/// File and memory type of a number: little-endian, like every machine we run on.
template <class T>
hid_t number_type() {
  static_assert(std::is_arithmetic_v<T>);
  if constexpr (std::is_same_v<T, float>)
    return H5T_IEEE_F32LE;
  else if constexpr (std::is_same_v<T, double>)
    return H5T_IEEE_F64LE;
  else if constexpr (std::is_signed_v<T>)
    return sizeof(T) == 8 ? H5T_STD_I64LE : sizeof(T) == 4 ? H5T_STD_I32LE : H5T_STD_I8LE;
  else
    return sizeof(T) == 8 ? H5T_STD_U64LE : sizeof(T) == 4 ? H5T_STD_U32LE : H5T_STD_U8LE;
}

/// A fixed-length UTF-8 string type padded with zeros.
Handle text_type(const File& file, std::size_t size);

Handle create_group(const File& file, hid_t parent, const std::string& name);
Handle open_group(const File& file, hid_t parent, const std::string& name);
bool exists(const File& file, hid_t parent, const std::string& name);
/// Names of the links of a group, alphabetically.
std::vector<std::string> links(const File& file, hid_t group);
std::vector<std::string> attributes(const File& file, hid_t object);

void put_text(const File& file, hid_t object, const std::string& name, const std::string& text);
std::string get_text(const File& file, hid_t object, const std::string& name);
bool has_attribute(const File& file, hid_t object, const std::string& name);

void put_raw(const File& file, hid_t object, const std::string& name, hid_t type,
             const void* value);
void get_raw(const File& file, hid_t object, const std::string& name, hid_t type, void* value);
template <class T>
void put(const File& file, hid_t object, const std::string& name, T value) {
  put_raw(file, object, name, number_type<T>(), &value);
}
template <class T>
T get(const File& file, hid_t object, const std::string& name) {
  T value{};
  get_raw(file, object, name, number_type<T>(), &value);
  return value;
}

/// Fails where reading would change numbers: one type is of integers and the other of fractions, or
/// the integers in memory cannot hold all of those in the file.
void require_same_numbers(const File& file, hid_t stored, hid_t memory, const std::string& what);

/// Whether a dataset is virtual or stored outside its file. Such data are not read.
bool in_other_files(const File& file, hid_t dataset);
/// Refuses what nobody can mean to hold in memory at once.
void check_memory(const File& file, const std::string& name, double bytes);

/// A growing compressed dataset of rows, written chunk by chunk.
class Appender {
 public:
  static constexpr hsize_t kChunkRows = 16384;
  /// `columns` > 0 makes a matrix of that many columns, rows being `row_bytes` wide in all.
  Appender(const File& file, hid_t parent, const std::string& name, hid_t type,
           std::size_t row_bytes, hsize_t columns = 0);
  void push(const void* rows, std::size_t count);
  /// Writes what is left and closes, checked.
  void finish();
  hid_t id() const { return dataset_; }

 private:
  void flush();
  Handle create(hid_t parent, hid_t type) const;

  const File& file_;
  std::string name_;
  std::size_t row_bytes_;
  hsize_t columns_, chunk_rows_, rows_ = 0;
  Handle type_, dataset_;
  std::vector<char> buffer_;
};

/// A dataset of rows being read. Throws DataError for sizes its storage cannot hold.
class Dataset {
 public:
  Dataset(const File& file, hid_t parent, const std::string& name);
  hid_t id() const { return id_; }
  const std::string& name() const { return name_; }
  const std::vector<hsize_t>& shape() const { return shape_; }
  hsize_t rows() const { return shape_.empty() ? 1 : shape_[0]; }
  /// Rows [first, first + count) with all their columns.
  void read(hid_t memory_type, hsize_t first, hsize_t count, void* to) const;

 private:
  const File& file_;
  std::string name_;
  Handle id_;
  std::vector<hsize_t> shape_;
};

template <class T>
void write_numbers(const File& file, hid_t parent, const std::string& name,
                   const std::vector<T>& values, std::size_t columns = 0) {
  const std::size_t width = columns == 0 ? 1 : columns;
  Appender data(file, parent, name, number_type<T>(), width * sizeof(T), columns);
  data.push(values.data(), values.size() / width);
  data.finish();
}

template <class T>
std::vector<T> read_numbers(const File& file, hid_t parent, const std::string& name) {
  const Dataset data(file, parent, name);
  if (data.shape().size() != 1) file.fail(name + " is not a list");
  check_memory(file, name, static_cast<double>(data.rows()) * sizeof(T));
  std::vector<T> values(data.rows());
  data.read(number_type<T>(), 0, data.rows(), values.data());
  return values;
}

}  // namespace sentinel::h5
