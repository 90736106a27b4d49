#include "script_lexer.hpp"

#include <algorithm>
#include <cctype>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

// The largest in torchvision 0.14's 74 classifiers, traced and scripted, stands beside each limit.
constexpr std::size_t kMaxIndent = 64;         // levels; 16, of a ViT
constexpr std::size_t kMaxDepth = 300;         // open brackets and what stands in them; 18
constexpr std::size_t kMaxTextLength = 65536;  // 111
constexpr std::size_t kMaxTokens = 4'000'000;  // of a file; 5465

bool is_letter(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

bool is_exponent(char c) {
  return c == 'e' || c == 'E';
}

class Lexer {
 public:
  Lexer(std::string_view text, const ScriptPlace& place) : text_(text), place_(place) {}

  std::vector<ScriptStatement> run() {
    while (at_ < text_.size()) read_line();
    if (!open_.empty()) fail("a bracket is never closed");
    return std::move(statements_);
  }

 private:
  /// An open bracket and the tokens since its last comma. Each may be one level of nesting.
  struct Open {
    char bracket;
    std::size_t tokens;
  };

  [[noreturn]] void fail(const std::string& why) const { place_.fail(line_, why); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\n';
  }

  void read_line() {
    std::size_t spaces = 0;
    for (; peek() == ' '; ++at_) ++spaces;
    if (peek() != '\n' && open_.empty()) {
      if (spaces % 2 != 0 || spaces / 2 > kMaxIndent)
        fail("it is indented by " + std::to_string(spaces) + " spaces, which PyTorch never writes");
      statements_.push_back({spaces / 2, {}});
      clear_here();
    }
    while (peek() != '\n') read_token();
    ++at_;
    ++line_;
  }

  void read_token() {
    const char c = peek();
    if (c == ' ')
      ++at_;
    else if (is_letter(c))
      take(ScriptTokenKind::kName, length_of_name());
    else if (is_digit(c))
      take(ScriptTokenKind::kNumber, length_of_number());
    else if (c == '"' || c == '\'')
      read_text(c);
    else
      read_sign();
  }

  std::size_t length_of_name() const {
    std::size_t length = 0;
    while (is_letter(peek(length)) || is_digit(peek(length))) ++length;
    return length;
  }
  std::size_t length_of_number() const {
    std::size_t length = 0;
    for (;; ++length) {
      const char c = peek(length), before = length > 0 ? peek(length - 1) : ' ';
      const bool exponent = is_exponent(c) || ((c == '-' || c == '+') && is_exponent(before));
      if (is_digit(c) || c == '.' || exponent) continue;
      if (c == 'j') return length + 1;
      if (is_letter(c)) fail("a number that goes on as a name");
      return length;
    }
  }

  /// LibTorch ends a text at the first quote without a backslash before it: a backslash before a
  /// backslash, and three quotes, would be read otherwise.
  void read_text(char quote) {
    std::size_t length = 1;
    for (; peek(length) != quote; ++length) {
      if (peek(length) == '\n') fail("a text is never closed");
      if (peek(length) != '\\') continue;
      ++length;
      if (peek(length) == '\\' || peek(length) == '\n')
        fail("a text with two backslashes in a row");
    }
    if (length > kMaxTextLength) fail("a text is too long");
    if (length == 1 && peek(2) == quote) fail("a text in three quotes");
    const std::string_view text = text_.substr(at_ + 1, length - 1);
    take(ScriptTokenKind::kText, length + 1);
    statements_.back().tokens.back().text = text;
  }

  void read_sign() {
    const char c = peek();
    if (c == '-' && peek(1) == '>') return take(ScriptTokenKind::kSign, 2);
    if (std::string_view("()[]{},:.=-").find(c) == std::string_view::npos)
      fail("the character " + quoted_name(std::string_view(&c, 1)) +
           " is none that PyTorch writes");
    take(ScriptTokenKind::kSign, 1);
  }

  void take(ScriptTokenKind kind, std::size_t length) {
    const ScriptToken token{kind, line_, text_.substr(at_, length)};
    at_ += length;
    if (++count_ > kMaxTokens) fail("the file is longer than the code of any network");
    nest(token);
    statements_.back().tokens.push_back(token);
  }

  std::size_t& tokens_here() { return open_.empty() ? last_ : open_.back().tokens; }
  void clear_here() {
    depth_ -= tokens_here();
    tokens_here() = 0;
  }

  void nest(const ScriptToken& token) {
    const char c = token.kind == ScriptTokenKind::kSign ? token.text[0] : ' ';
    if (c == '(' || c == '[' || c == '{') {
      open_.push_back({c, 0});
    } else if (c == ')' || c == ']' || c == '}') {
      const char wanted = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open_.empty() || open_.back().bracket != wanted) fail("a bracket closes none");
      clear_here();
      open_.pop_back();
    } else if (c == ',') {
      clear_here();
      return;
    }
    ++tokens_here();
    ++depth_;
    if (depth_ > kMaxDepth)
      fail("it is nested deeper than the code of any network, and LibTorch would crash on it");
  }

  std::string_view text_;
  const ScriptPlace& place_;
  std::size_t at_ = 0, count_ = 0;
  std::uint32_t line_ = 1;
  std::vector<Open> open_;
  std::size_t last_ = 0;   // tokens of the statement outside all brackets
  std::size_t depth_ = 0;  // tokens since the last comma at every open level
  std::vector<ScriptStatement> statements_;
};

}  // namespace

void ScriptPlace::fail(std::uint32_t line, const std::string& why) const {
  throw DataError(source_, record_ + ", line " + std::to_string(line) + ": " + why);
}

std::vector<ScriptStatement> split_script(const ScriptText& file, const ScriptPlace& place) {
  return Lexer(file.text, place).run();
}

std::string quoted_name(std::string_view name) {
  constexpr std::size_t kMost = 80;
  std::string text(name.substr(0, kMost));
  for (char& c : text)
    if (c < ' ' || c > '~') c = '?';
  return "'" + text + (name.size() > kMost ? "…" : "") + "'";
}

}  // namespace sentinel
