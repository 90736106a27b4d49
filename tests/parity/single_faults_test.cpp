// Single flips on 64 real images against an independent PyTorch program: where the fault is, what
// it does to the stored word, which class is predicted, which logits are not finite.
#include <cstring>

#include "parity/support.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "unit/tolerances.hpp"

namespace sentinel::parity {
namespace {

constexpr double kTolerance = test::kFaultyFloats;  // of max|z| of the image

std::uint32_t word(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// The reference passed values through a C double, which makes signalling NaNs quiet.
std::uint32_t quiet(std::uint32_t bits) {
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return nan ? bits | 0x00400000u : bits;
}

struct SingleFault {
  std::string layer;
  FaultSite site;
  std::uint32_t before = 0, after = 0;
  std::int64_t due = 0, sdc = 0;

  std::string name() const {
    return layer + "[" + std::to_string(site.element) + "] bit " + std::to_string(site.bit);
  }
};

FaultSite site_of(const FaultSpace& space, const std::string& layer, std::int64_t element,
                  std::int64_t bit) {
  const auto& tensors = space.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].name == layer + ".weight")
      return {static_cast<std::uint32_t>(i), static_cast<std::uint64_t>(element),
              static_cast<std::uint8_t>(bit)};
  throw Bug("no weight of " + layer);
}

std::vector<SingleFault> read_faults(const ReferenceFile& file, const FaultSpace& space) {
  const std::string group = "single_faults/";
  const auto layers = file.texts(group + "layer");
  const at::Tensor index = file.tensor(group + "index"), bit = file.tensor(group + "bit");
  const at::Tensor before = file.tensor(group + "before"), after = file.tensor(group + "after");
  const at::Tensor due = file.tensor(group + "due_images"), sdc = file.tensor(group + "sdc_images");
  std::vector<SingleFault> faults;
  for (std::size_t k = 0; k < layers.size(); ++k) {
    const auto i = static_cast<std::int64_t>(k);
    const auto integer = [i](const at::Tensor& list) { return list[i].item<std::int64_t>(); };
    faults.push_back({layers[k], site_of(space, layers[k], integer(index), integer(bit)),
                      word(before.data_ptr<float>()[k]), word(after.data_ptr<float>()[k]),
                      integer(due), integer(sdc)});
  }
  return faults;
}

class SingleFaults : public RealData {
 protected:
  using Logits = TrialLogits (TrialEngine::*)(const Faults&, std::int32_t);

  TrialEngine engine(const ReferenceFile& file, bool reference_only) {
    const Batch batch =
        images(Split::kTest).batch(0, file.number("single_faults", "test_images"), {});
    EngineOptions options;
    options.reference_only = reference_only;
    return TrialEngine(load(GetParam()), batch, options);
  }

  void hold_against_the_reference(TrialEngine& engine, Logits logits, const std::string& path) {
    const ReferenceFile file = reference(GetParam());
    const at::Tensor theirs = file.tensor("single_faults/logits");
    const auto faults = read_faults(file, engine.space());
    ASSERT_TRUE(at::equal(predictions_of(theirs.flatten(0, 1)).view({theirs.size(0), -1}),
                          file.tensor("single_faults/predictions")));
    ASSERT_EQ(static_cast<std::int64_t>(faults.size()), theirs.size(0));

    Comparison comparison;
    for (std::size_t k = 0; k < faults.size(); ++k) {
      const TrialLogits ours = (engine.*logits)({faults[k].site}, kNoGroup);
      EXPECT_TRUE(at::equal(ours.predictions, predictions_of(ours.logits)));
      const std::int64_t ties = comparison.near_ties;
      comparison.add(faults[k].name(), ours.logits, theirs[static_cast<std::int64_t>(k)]);
      if (comparison.near_ties == ties) expect_counts(engine, ours.logits, faults[k]);
    }
    comparison.print(GetParam() + " single faults, " + path);
    const auto sum = [&](const char* name) {
      return file.tensor(std::string("single_faults/") + name).sum().item<std::int64_t>();
    };
    EXPECT_EQ(comparison.due, sum("due_images"));
    EXPECT_GT(comparison.due + sum("sdc_images"), 0) << "faults without effect show nothing";
    EXPECT_LE(comparison.relative, kTolerance);
    EXPECT_EQ(comparison.wrong, 0);
  }

 private:
  static void expect_counts(const TrialEngine& engine, const at::Tensor& logits,
                            const SingleFault& fault) {
    const at::Tensor& golden = engine.golden().logits;
    const TrialResult result = classify(logits, golden, at::zeros({golden.size(0)}, at::kLong));
    EXPECT_EQ(result.due, fault.due) << fault.name();
    EXPECT_EQ(result.sdc_critical, fault.sdc) << fault.name();
  }
};

TEST_P(SingleFaults, StoredWordsBeforeAndAfter) {
  const Graph graph = load(GetParam());
  const FaultSpace space(graph);
  const Memory memory(graph);
  std::int64_t nans = 0;
  for (const SingleFault& fault : read_faults(reference(GetParam()), space)) {
    const Reading reading = memory.read(space, {fault.site});
    ASSERT_EQ(reading.records.size(), 1u);
    const FaultRecord& record = reading.records[0];
    const auto after = static_cast<std::uint32_t>(record.after);
    EXPECT_EQ(record.before, fault.before) << fault.name();
    EXPECT_EQ(quiet(after), fault.after) << fault.name();
    EXPECT_EQ(record.after, record.before ^ (Word{1} << fault.site.bit)) << fault.name();
    nans += quiet(after) != after;
  }
  std::cout << "[ parity   ] " << GetParam() << ": " << nans
            << " signalling NaNs among the words\n";
}

TEST_P(SingleFaults, ReferencePath) {
  TrialEngine trials = engine(reference(GetParam()), true);
  hold_against_the_reference(trials, &TrialEngine::logits_reference, "reference path");
}

TEST_P(SingleFaults, FastPath) {
  TrialEngine trials = engine(reference(GetParam()), false);
  hold_against_the_reference(trials, &TrialEngine::logits, "fast path");
}

INSTANTIATE_TEST_SUITE_P(Models, SingleFaults, models(), model_name);

}  // namespace
}  // namespace sentinel::parity
