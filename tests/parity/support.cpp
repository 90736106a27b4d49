#include "parity/support.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstring>
#include <iostream>

#include "sentinel/fault/outcome.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/model.hpp"
#include "unit/tolerances.hpp"

namespace sentinel::parity {
namespace {

constexpr double kNearTie = test::kFloats;  // of max|z|
constexpr std::int64_t kPrinted = 20;       // wrong predictions; near ties are all printed

void print_difference(const std::string& name, std::int64_t image, const at::Tensor& ours,
                      const at::Tensor& theirs, double margin) {
  std::cout << name << " image " << image << ": predicted "
            << predictions_of(ours.unsqueeze(0)).item<std::int64_t>() << ", reference "
            << predictions_of(theirs.unsqueeze(0)).item<std::int64_t>() << ", margin " << margin
            << " of max|z|\n  ours   " << ours.view({1, -1}) << "\n  theirs "
            << theirs.view({1, -1}) << "\n";
}

}  // namespace

Graph load(const std::string& architecture, const std::string& file) {
  const std::string path = test_data("models/" + file);
  return parse_model(read_file(path), path, architecture, "cifar10");
}

ReferenceFile reference(const std::string& architecture) {
  return ReferenceFile(test_data("reference/" + architecture + ".h5"));
}

Dataset images(Split split) {
  return read_dataset("cifar10", test_data("cifar10"), split);
}

at::Tensor all_logits(const Graph& graph, const Dataset& dataset) {
  constexpr std::int64_t kBatch = 128;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < dataset.size(); begin += kBatch) {
    const Batch batch = dataset.batch(begin, std::min(begin + kBatch, dataset.size()), {});
    parts.push_back(logits(graph, batch.images));
  }
  return at::cat(parts);
}

void Comparison::add(const std::string& name, const at::Tensor& ours, const at::Tensor& theirs) {
  const at::Tensor a = ours.to(at::kDouble), b = theirs.to(at::kDouble);
  const at::Tensor mine = predictions_of(ours), other = predictions_of(theirs);
  const at::Tensor scale = b.abs().amax(1).clamp_min(1e-30);
  const at::Tensor difference = (a - b).abs().amax(1);
  const at::Tensor best = std::get<0>(b.topk(2, 1));
  const at::Tensor margin = (best.select(1, 0) - best.select(1, 1)) / scale;
  for (std::int64_t i = 0; i < ours.size(0); ++i) {
    const auto predicted = mine[i].item<std::int64_t>(), expected = other[i].item<std::int64_t>();
    ++images;
    due += expected < 0;
    if (predicted >= 0 && expected >= 0) {
      absolute = std::max(absolute, difference[i].item<double>());
      relative = std::max(relative, (difference[i] / scale[i]).item<double>());
    } else if (predicted == expected) {
      other_infinities += !at::equal(at::isfinite(a[i]), at::isfinite(b[i]));
    }
    if (predicted == expected) continue;
    const bool tie = predicted >= 0 && expected >= 0 && margin[i].item<double>() < kNearTie;
    ++(tie ? near_ties : wrong);
    if (tie || wrong <= kPrinted)
      print_difference(name, i, ours[i], theirs[i], margin[i].item<double>());
  }
}

void Comparison::print(const std::string& what) const {
  std::cout << "[ parity   ] " << what << ": " << images << " images, " << due << " DUE, "
            << near_ties << " near ties, " << wrong << " wrong; logits differ by at most "
            << relative << " of max|z| (" << absolute << " absolute); " << other_infinities
            << " DUE images with other non-finite logits\n";
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

at::Tensor read_floats(const std::string& path, at::IntArrayRef shape) {
  const Bytes bytes = read_file(path);
  at::Tensor values = at::empty(shape);
  if (bytes.size() != values.nbytes()) throw DataError(path, "has an unexpected size");
  std::memcpy(values.data_ptr(), bytes.data(), bytes.size());
  return values;
}

std::string run_script(const TemporaryFolder& folder, const std::string& script,
                       const std::vector<std::string>& arguments) {
  const std::string output = folder / "script.out";
  std::string command = "OMP_NUM_THREADS=1 /usr/bin/python3 '" SENTINEL_PARITY_FOLDER "/" + script;
  for (const std::string& argument : arguments) command += "' '" + argument;
  command += "' >'" + output + "' 2>&1";
  const int status = std::system(command.c_str());
  const Bytes bytes = read_file(output);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return status == 0 ? text : "exit " + std::to_string(status) + ": " + text;
}

}  // namespace sentinel::parity
