// Lists of faults, read for a network of which some tensors are coded.
#include "corrupt/small_network.hpp"
#include "corrupt/target.hpp"
#include "sentinel/fault/fault_list.hpp"
#include "sentinel/fault/memory.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel::test {
namespace {

class Lists {
 public:
  bool read(const Bytes& bytes) const {
    return accepted([&] {
      const FaultList list(to_text(bytes), "fuzz.csv", space_);
      for (const std::uint64_t trial : list.trials_with_faults())
        memory_.read(space_, list.of_trial(trial, 1));
      for (const FaultTensor& tensor : space_.tensors()) list.faults_in(tensor.name);
    });
  }

 private:
  static Selection parameters() {
    Selection all;
    all.targets = parse_targets({"parameters"});
    return all;
  }
  Graph graph_ =
      parse_model(serialize_pth(small_weights(Small::kStored), small_record(Small::kStored)),
                  "small.pth", ModelChoice{});
  FaultSpace space_{graph_, parameters()};
  Memory memory_{graph_};
};

}  // namespace

Target list_target() {
  const auto lists = std::make_shared<Lists>();
  std::vector<Bytes> seeds;
  for (const char* text :
       {"# sentinelnn-faults 1 trials=9\ntrial,tensor,element,bit,image,effect,length\n"
        "0,conv.weight,1,5,-1,flip,1\n0,conv.weight.check,0,6,,stuck-at-1,2\n"
        "8,fc.weight,19,,,value:1e3,1\n",
        "bit,element,tensor,trial\r\n3,2,fc.bias,1\r\n\r\n0,0,conv.weight_scale,0\r\n",
        "trial,tensor,element,bit,effect\n0,conv.weight,0,,random-word\n"
        "0,fc.weight,0,0,random-word:0x3f800000\n",
        "trial,tensor,element,bit,target\n2,fc.weight,3,7,weight\n2,fc.weight,3,8,parameter\n"})
    seeds.push_back(to_bytes(text));
  return {"list", seeds,
          words("# sentinelnn-faults 1 trials= trial, tensor, element, bit, image, effect, length "
                "target, conv.weight, conv.weight.check, conv.weight_scale, fc.weight, fc.bias, "
                "flip stuck-at-0 stuck-at-1 random-word random-word:0x value: nan inf 1e39 -1, 63 "
                "64 999999999999 18446744073709551615 parameter activation scale check bias"),
          [](Bytes&) {}, [lists](const Bytes& bytes) { return lists->read(bytes); }};
}

}  // namespace sentinel::test
