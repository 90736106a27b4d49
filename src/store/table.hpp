#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "store/fields.hpp"
#include "store/h5.hpp"

/// Rows of the schema as HDF5 compound datasets, by their one list of members (fields.hpp).
namespace sentinel::h5 {

template <class T>
inline constexpr bool kIsText = std::is_same_v<std::remove_const_t<T>, std::string>;

/// Bytes of each member of a packed row; texts as long as the longest; 0 for what the schema
/// version does not have.
template <class Row>
std::vector<std::size_t> widths_for(const std::vector<Row>& rows, int schema = kSchemaVersion) {
  std::vector<std::size_t> widths;
  const Row empty{};
  const bool all = std::any_of(rows.begin(), rows.end(),
                               [](const Row& row) { return store::needs_optional(row); });
  store::Describe<Row>::each(empty, [&](const char* name, const auto& value) {
    constexpr bool text = kIsText<std::remove_reference_t<decltype(value)>>;
    const bool has =
        store::has_member<Row>(schema, name) && (all || !store::is_optional<Row>(name));
    widths.push_back(!has ? 0 : text ? 1 : sizeof(value));
  });
  for (const Row& row : rows) {
    std::size_t i = 0;
    store::Describe<Row>::each(row, [&](const char*, const auto& value) {
      if constexpr (kIsText<std::remove_reference_t<decltype(value)>>)
        if (widths[i] > 0) widths[i] = std::max(widths[i], value.size());
      ++i;
    });
  }
  return widths;
}

/// The packed compound type with these widths.
template <class Row>
Handle row_type(const File& file, const std::vector<std::size_t>& widths) {
  std::size_t size = 0, i = 0, offset = 0;
  for (const std::size_t width : widths) size += width;
  Handle type = file.own(H5Tcreate(H5T_COMPOUND, size), H5Tclose, "row type");
  const Row row{};
  store::Describe<Row>::each(row, [&](const char* name, const auto& value) {
    using T = std::remove_const_t<std::remove_reference_t<decltype(value)>>;
    if (widths[i] == 0) {
      ++i;
      return;
    }
    if constexpr (kIsText<T>) {
      const Handle text = text_type(file, widths[i]);
      file.check(H5Tinsert(type, name, offset, text), name);
    } else {
      file.check(H5Tinsert(type, name, offset, number_type<T>()), name);
    }
    offset += widths[i++];
  });
  return type;
}

template <class Row>
void pack_row(const Row& row, const std::vector<std::size_t>& widths, std::vector<char>& to) {
  std::size_t i = 0;
  store::Describe<Row>::each(row, [&](const char*, const auto& value) {
    const std::size_t begin = to.size();
    to.resize(begin + widths[i], '\0');
    if constexpr (kIsText<std::remove_reference_t<decltype(value)>>)
      value.copy(to.data() + begin, widths[i]);
    else
      std::memcpy(to.data() + begin, &value, widths[i]);
    ++i;
  });
}

/// `row`: with the values of members that are not stored.
template <class Row>
Row unpack_row(Row row, const std::vector<std::size_t>& widths, const char* from) {
  std::size_t i = 0;
  store::Describe<Row>::each(row, [&](const char*, auto& value) {
    const std::size_t width = widths[i++];
    if (width == 0) return;
    if constexpr (kIsText<std::remove_reference_t<decltype(value)>>)
      value.assign(from, ::strnlen(from, width));
    else
      std::memcpy(&value, from, sizeof(value));
    from += width;
  });
  return row;
}

/// Writes rows as the compound dataset `name`.
template <class Row>
void write_rows(const File& file, hid_t parent, const std::string& name,
                const std::vector<Row>& rows,
                const std::vector<std::pair<std::string, std::string>>& units = {},
                int schema = kSchemaVersion) {
  const auto widths = widths_for(rows, schema);
  const Handle type = row_type<Row>(file, widths);
  Appender data(file, parent, name, type, H5Tget_size(type));
  for (const auto& [member, unit] : units) put_text(file, data.id(), "unit_" + member, unit);
  std::vector<char> bytes;
  for (const Row& row : rows) {
    bytes.clear();
    pack_row(row, widths, bytes);
    data.push(bytes.data(), 1);
  }
  data.finish();
}

/// A compound dataset read by parts. Throws DataError where members that its schema version has are
/// missing or of another kind.
template <class Row>
class RowReader {
 public:
  RowReader(const File& file, hid_t parent, const std::string& name, int schema = kSchemaVersion)
      : file_(file),
        data_(file, parent, name),
        untold_(store::untold_row<Row>(schema)),
        widths_(file_widths(schema)),
        type_(row_type<Row>(file, widths_)),
        size_(H5Tget_size(type_)) {}

  hsize_t rows() const { return data_.rows(); }
  std::size_t row_bytes() const { return size_; }
  std::vector<Row> read(hsize_t first, hsize_t count) {
    check_memory(file_, data_.name(),
                 static_cast<double>(count) * static_cast<double>(size_ + sizeof(Row)));
    buffer_.resize(count * size_);
    data_.read(type_, first, count, buffer_.data());
    std::vector<Row> rows;
    rows.reserve(count);
    for (hsize_t i = 0; i < count; ++i)
      rows.push_back(unpack_row(untold_, widths_, buffer_.data() + i * size_));
    return rows;
  }

 private:
  std::vector<std::size_t> file_widths(int schema) const {
    const std::string& name = data_.name();
    const Handle type = file_.own(H5Dget_type(data_.id()), H5Tclose, name);
    if (H5Tget_class(type) != H5T_COMPOUND || data_.shape().size() != 1)
      file_.fail(name + " is not a table");
    std::vector<std::size_t> widths;
    const Row row{};
    store::Describe<Row>::each(row, [&](const char* member, const auto& value) {
      using T = std::remove_const_t<std::remove_reference_t<decltype(value)>>;
      if (!store::has_member<Row>(schema, member)) {
        widths.push_back(0);
        return;
      }
      const int index = H5Tget_member_index(type, member);
      if (index < 0 && store::is_optional<Row>(member)) {
        widths.push_back(0);
        return;
      }
      file_.check(index, name + " lacks the member " + member);
      const Handle kind =
          file_.own(H5Tget_member_type(type, static_cast<unsigned>(index)), H5Tclose, name);
      const bool text = H5Tget_class(kind) == H5T_STRING && H5Tis_variable_str(kind) == 0;
      const bool number = H5Tget_class(kind) == H5T_INTEGER || H5Tget_class(kind) == H5T_FLOAT;
      if (kIsText<T> ? !text : !number) file_.fail(name + ": unexpected type of " + member);
      if constexpr (!kIsText<T>)
        require_same_numbers(file_, kind, number_type<T>(), name + ": column " + member);
      widths.push_back(kIsText<T> ? H5Tget_size(kind) : sizeof(value));
    });
    return widths;
  }

  const File& file_;
  Dataset data_;
  Row untold_;
  std::vector<std::size_t> widths_;
  Handle type_;
  std::size_t size_;
  std::vector<char> buffer_;
};

template <class Row>
std::vector<Row> read_rows(const File& file, hid_t parent, const std::string& name,
                           int schema = kSchemaVersion) {
  RowReader<Row> reader(file, parent, name, schema);
  return reader.read(0, reader.rows());
}

}  // namespace sentinel::h5
