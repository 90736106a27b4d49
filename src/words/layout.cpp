#include "sentinel/words/layout.hpp"

#include <algorithm>
#include <array>

#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"
#include "words/bch.hpp"

namespace sentinel {
namespace {

using FormatKind = NumberFormat::Kind;
using CodeKind = Code::Kind;

constexpr std::array<int, 12> kIntegers = {2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 21, 26};
constexpr const char* kFormats =
    "formats are fp32, fp16, bf16, fp8:e4m3, fp8:e5m2, int2 to int8, int11, int12, int16, int21, "
    "int26 and fixed:I.F[,trunc]";
constexpr const char* kCodes =
    "codes are repeat:R, mset, cep:d3, cep:d7, cep:d15, parity, tmr:BIT,..., tmr:sign-exponent, "
    "secded:64, secded:128, spw, zero-space and bch:N,K";

/// Reads a layout; its messages name it.
class Reader {
 public:
  explicit Reader(const std::string& layout) : layout_(layout) {}

  [[noreturn]] void fail(const std::string& why) const {
    throw UserError("layout '" + layout_ + "': " + why);
  }
  Layout read() const;

 private:
  NumberFormat format(const std::string& text) const;
  NumberFormat fixed(const std::string& text, const std::string& numbers) const;
  Code code(const std::string& text) const;
  Code bch(const std::string& numbers) const;
  void check_fit(const NumberFormat& format, const Code& code) const;
  void check_copies(const NumberFormat& format, const Code& code) const;

  std::string layout_;
};

/// A number of up to three digits without leading zeros.
std::optional<int> number(const std::string& text) {
  const bool digits = !text.empty() && text.size() <= 3 &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  return std::stoi(text);
}

/// The rest of a text that has this beginning.
std::optional<std::string> after(const std::string& text, const std::string& begin) {
  if (!begins_with(text, begin)) return std::nullopt;
  return text.substr(begin.size());
}

std::optional<NumberFormat> float_format(const std::string& text) {
  for (const auto kind : {FormatKind::kFp32, FormatKind::kFp16, FormatKind::kBf16,
                          FormatKind::kE4M3, FormatKind::kE5M2}) {
    NumberFormat format;
    format.kind = kind;
    if (format_name(format) == text) return format;
  }
  return std::nullopt;
}

NumberFormat Reader::fixed(const std::string& text, const std::string& numbers) const {
  NumberFormat format;
  format.kind = FormatKind::kFixed;
  format.truncate = ends_with(numbers, ",trunc");
  const auto parts = split(
      format.truncate ? numbers.substr(0, numbers.size() - std::string(",trunc").size()) : numbers,
      '.');
  const auto integer = number(parts[0]), fraction = number(parts.back());
  if (parts.size() != 2 || !integer || !fraction)
    fail("'" + text +
         "' must read fixed:I.F or fixed:I.F,trunc with bits before and behind the "
         "point, as fixed:15.16");
  format.integer = *integer;
  format.fraction = *fraction;
  const int bits = word_bits(format);
  if (bits < 2 || bits > 64)
    fail(text + " has " + std::to_string(bits) + " bits with its sign; words have 2 to 64");
  return format;
}

NumberFormat Reader::format(const std::string& text) const {
  if (const auto format = float_format(text)) return *format;
  if (const auto numbers = after(text, "fixed:")) return fixed(text, *numbers);
  if (const auto bits = after(text, "int")) {
    NumberFormat format;
    format.kind = FormatKind::kInteger;
    format.integer = number(*bits).value_or(0);
    if (std::count(kIntegers.begin(), kIntegers.end(), format.integer) != 0) return format;
  }
  fail("there is no format '" + text + "'; " + kFormats);
}

Code Reader::bch(const std::string& numbers) const {
  for (const BchParameters& known : kBchCodes) {
    if (numbers != std::to_string(known.n) + "," + std::to_string(known.k)) continue;
    Code code;
    code.kind = CodeKind::kBch;
    code.n = known.n;
    code.k = known.k;
    return code;
  }
  std::string names;
  for (const BchParameters& known : kBchCodes)
    names += " " + std::to_string(known.n) + "," + std::to_string(known.k);
  fail("there is no code bch:" + numbers + "; N,K is one of" + names);
}

Code make_code(CodeKind kind, int n = 0) {
  Code code;
  code.kind = kind;
  code.n = n;
  return code;
}

std::optional<Code> named_code(const std::string& text) {
  if (text == "mset") return make_code(CodeKind::kMset);
  if (text == "parity") return make_code(CodeKind::kParity);
  if (text == "spw") return make_code(CodeKind::kSpw);
  if (text == "zero-space") return make_code(CodeKind::kZeroSpace);
  for (const int size : {3, 7, 15})
    if (text == "cep:d" + std::to_string(size)) return make_code(CodeKind::kCep, size);
  for (const int bits : {64, 128}) {
    Code code = make_code(CodeKind::kSecded, bits);
    const std::string name = "secded:" + std::to_string(bits);
    code.zero = text == name + ",zero";
    if (text == name || code.zero) return code;
  }
  return std::nullopt;
}

Code Reader::code(const std::string& text) const {
  if (const auto code = named_code(text)) return *code;
  if (const auto numbers = after(text, "bch:")) return bch(*numbers);
  if (const auto copies = after(text, "repeat:")) {
    const int n = number(*copies).value_or(0);
    if (n < 3 || n > 31 || n % 2 == 0)
      fail("repeat:" + *copies + " must have an odd number of copies from 3 to 31");
    return make_code(CodeKind::kRepeat, n);
  }
  if (const auto bits = after(text, "tmr:")) {
    Code code = make_code(CodeKind::kTmr);
    code.sign_exponent = *bits == "sign-exponent";
    if (code.sign_exponent) return code;
    for (const std::string& bit : split(*bits, ',')) {
      const auto value = number(bit);
      if (!value) fail("'" + text + "' must name the numbers of bits, as tmr:31,30");
      code.bits.push_back(*value);
    }
    return code;
  }
  fail("there is no code '" + text + "'; " + kCodes);
}

/// Whether a code may change the lowest bits. The fp32 value must show them, so that the word is
/// stored the same again; and no number may become NaN by them.
bool low_bits_are_free(const NumberFormat& format) {
  if (format.kind == FormatKind::kE4M3) return false;
  const bool is_float = format.kind != FormatKind::kInteger && format.kind != FormatKind::kFixed;
  return is_float || word_bits(format) <= 24;
}

std::string unfit_low_bits(const NumberFormat& format) {
  if (format.kind == FormatKind::kE4M3)
    return "it changes low bits, and numbers of fp8:e4m3 would become NaN; take an integer format";
  return "it changes low bits, which fp32 cannot hold of a word of more than 24 bits; take fp32 "
         "or a narrower format";
}

void Reader::check_copies(const NumberFormat& format, const Code& code) const {
  const int copies = 2 * static_cast<int>(code.bits.size());
  for (std::size_t i = 0; i < code.bits.size(); ++i) {
    const int bit = code.bits[i];
    if (bit >= word_bits(format))
      fail("bit " + std::to_string(bit) + " is not in " + format_name(format) +
           ", whose highest is " + std::to_string(word_bits(format) - 1));
    if (bit < copies)
      fail("bit " + std::to_string(bit) + " would be overwritten by copies, which take bits 0 to " +
           std::to_string(copies - 1) + "; name fewer or higher bits");
    if (std::count(code.bits.begin(), code.bits.end(), bit) != 1)
      fail("bit " + std::to_string(bit) + " is named twice");
  }
  if (role_of(format, copies - 1) != BitRole::kMantissa)
    fail("copies would take bits 0 to " + std::to_string(copies - 1) +
         ", more than the mantissa of " + format_name(format) + "; name fewer bits");
}

void Reader::check_fit(const NumberFormat& format, const Code& code) const {
  const int width = word_bits(format);
  const auto need = [&](bool fits, const std::string& what) {
    if (!fits) fail("the code does not fit " + format_name(format) + ": " + what);
  };
  const bool ieee = format.kind == FormatKind::kFp32 || format.kind == FormatKind::kFp16;
  switch (code.kind) {
    case CodeKind::kRepeat:
      return;
    case CodeKind::kMset:
    case CodeKind::kCep:
      return need(ieee, "it needs fp32 or fp16");
    case CodeKind::kParity:
      return need(low_bits_are_free(format), unfit_low_bits(format));
    case CodeKind::kTmr:
      if (code.sign_exponent) return need(format.kind == FormatKind::kFp32, "it needs fp32");
      need(low_bits_are_free(format), unfit_low_bits(format));
      return check_copies(format, code);
    case CodeKind::kSecded:
      return need(code.n % width == 0, "its words have " + std::to_string(width) +
                                           " bits, which do not divide " + std::to_string(code.n) +
                                           "; take a format of 2, 4, 8, 16 or 32 bits");
    case CodeKind::kSpw:
      return need(width == 32 || width == 16 || width == 8, "it needs words of 32, 16 or 8 bits");
    case CodeKind::kZeroSpace:
      return need(format_name(format) == "int7", "it needs int7, which it stores in bytes");
    case CodeKind::kBch:
      return need(width == code.k, "it codes words of " + std::to_string(code.k) +
                                       " bits, these have " + std::to_string(width) + "; take int" +
                                       std::to_string(code.k));
  }
}

Layout Reader::read() const {
  const auto parts = split(layout_, '+');
  if (parts.size() > 2) fail("it has more than one code; name one");
  std::string name = parts[0];
  const bool tensor = ends_with(name, ":tensor"), channel = ends_with(name, ":channel");
  if (tensor || channel) name.resize(name.rfind(':'));
  Layout layout;
  layout.format = format(name);
  layout.scale_per_row = !tensor;
  if ((tensor || channel) && !has_scale(layout.format))
    fail(name + " has no scale; leave out '" + (tensor ? ":tensor" : ":channel") + "'");
  if (parts.size() == 2) {
    layout.code = code(parts[1]);
    check_fit(layout.format, *layout.code);
  }
  return layout;
}

std::string tmr_name(const Code& code) {
  if (code.sign_exponent) return "tmr:sign-exponent";
  std::string name;
  for (const int bit : code.bits) name += (name.empty() ? "tmr:" : ",") + std::to_string(bit);
  return name;
}

std::string code_name(const Code& code) {
  const std::string n = std::to_string(code.n);
  switch (code.kind) {
    case CodeKind::kRepeat:
      return "repeat:" + n;
    case CodeKind::kMset:
      return "mset";
    case CodeKind::kCep:
      return "cep:d" + n;
    case CodeKind::kParity:
      return "parity";
    case CodeKind::kTmr:
      return tmr_name(code);
    case CodeKind::kSecded:
      return "secded:" + n + (code.zero ? ",zero" : "");
    case CodeKind::kSpw:
      return "spw";
    case CodeKind::kZeroSpace:
      return "zero-space";
    case CodeKind::kBch:
      return "bch:" + n + "," + std::to_string(code.k);
  }
  return "";
}

}  // namespace

Layout parse_layout(const std::string& text) {
  return Reader(text).read();
}

std::string layout_name(const Layout& layout) {
  std::string name = format_name(layout.format);
  if (has_scale(layout.format)) name += layout.scale_per_row ? ":channel" : ":tensor";
  if (layout.code) name += "+" + code_name(*layout.code);
  return name;
}

bool is_plain(const Layout& layout) {
  return layout.format.kind == FormatKind::kFp32 && !layout.code;
}

}  // namespace sentinel
