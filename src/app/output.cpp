#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/networks/normalisation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace sentinel {
namespace {

/// Characters a terminal shows: UTF-8 continuation bytes take no column.
std::size_t columns(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

void print_table(std::vector<std::vector<std::string>> rows) {
  std::vector<std::size_t> widths;
  for (auto& row : rows)
    for (std::string& cell : row) cell = printable(std::move(cell));
  for (const auto& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (c == widths.size()) widths.push_back(0);
      widths[c] = std::max(widths[c], columns(row[c]));
    }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string space(widths[c] - columns(row[c]), ' ');
      line += (c == 0 ? row[c] + space : "  " + space + row[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    print_raw(line + "\n");
  }
}

std::string with_spaces(std::int64_t n) {
  std::string digits = std::to_string(n);
  const int start = digits[0] == '-' ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > start; at -= 3)
    digits.insert(static_cast<std::size_t>(at), " ");
  return digits;
}

std::string percent(double share) {
  return fmt::format("{:.2f}", 100 * share);
}

void print_overhead(const NamedCost& before, const NamedCost& after) {
  const auto row = [&](const std::string& what, std::int64_t ModelCost::*member) {
    const std::int64_t a = before.cost.*member, b = after.cost.*member;
    return std::vector<std::string>{
        what, with_spaces(a), with_spaces(b),
        fmt::format("{:.4f}", static_cast<double>(b) / static_cast<double>(a))};
  };
  print_table({{"", before.name, after.name, "ratio"},
               row("parameters", &ModelCost::parameters),
               row("MACs per image", &ModelCost::macs),
               row("memory [bytes]", &ModelCost::memory_bytes),
               row("stored bits", &ModelCost::stored_bits),
               {"bits per weight", fmt::format("{:.2f}", before.cost.bits_per_weight),
                fmt::format("{:.2f}", after.cost.bits_per_weight), ""}});
}

void print_epoch(const EpochReport& report, std::int64_t epochs, BestOn best_on) {
  say("epoch {}/{}: loss {:.4f}, {:.2f} % of the {} images right{}\n", report.epoch, epochs,
      report.loss, 100 * report.accuracy, best_on_name(best_on),
      report.stored ? " (done before the stop)" : "");
  flush_output();
}

std::string in_words(const Accuracy& accuracy) {
  return fmt::format(
      "{} of {} test images right ({} %)", accuracy.correct, accuracy.images,
      percent(static_cast<double>(accuracy.correct) / static_cast<double>(accuracy.images)));
}

void warn_of_fault_free(const std::string& source, const Graph& graph, const Accuracy& accuracy,
                        const Dataset& images) {
  const std::vector<BrokenTensor> broken = broken_tensors(graph);
  if (!broken.empty()) spdlog::warn("{}: {}", source, in_words(broken));
  const FaultFreeLogits& logits = accuracy.logits;
  if (logits.not_finite() == 0) {
    warn_if_guessing(source, graph, images, accuracy);
    return;
  }
  const std::int64_t first = logits.first_not_finite();
  spdlog::warn(
      "{}: NaN or Inf logits: {} of {} images (first: image {}, from layer {} on)", source,
      logits.not_finite(), logits.images(), first,
      first_not_finite_node(graph, images.batch(first, first + 1, graph.normalisation).images));
}

}  // namespace sentinel
