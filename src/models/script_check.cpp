#include "models/script_check.hpp"

#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/io/script_file.hpp"

namespace sentinel {
namespace {

using torch::jit::Block;
using torch::jit::Node;

/// Nodes that move values about, call what the file defines, or asks a tensor about itself.
bool is_structural(const std::string& primitive) {
  static const std::set<std::string> names{"Constant",
                                           "GetAttr",
                                           "SetAttr",
                                           "CallMethod",
                                           "CallFunction",
                                           "If",
                                           "Loop",
                                           "ListConstruct",
                                           "ListUnpack",
                                           "DictConstruct",
                                           "TupleConstruct",
                                           "TupleUnpack",
                                           "TupleIndex",
                                           "TupleSlice",
                                           "isinstance",
                                           "unchecked_cast",
                                           "unchecked_unwrap_optional",
                                           "Uninitialized",
                                           "RaiseException",
                                           "NumToTensor",
                                           "dtype",
                                           "device",
                                           "layout",
                                           "is_cuda",
                                           "requires_grad",
                                           "data",
                                           "shape",
                                           "min",
                                           "max",
                                           "abs",
                                           "tolist"};
  return names.count(primitive) > 0;
}

class Check {
 public:
  Check(const std::string& source, const std::string& function)
      : source_(source), function_(function) {}

  void block(const Block& block) const {
    for (const Node* node : block.nodes()) {
      check(*node);
      for (const Block* inner : node->blocks()) this->block(*inner);
    }
  }

 private:
  void check(const Node& node) const {
    const std::string space = node.kind().ns().toUnqualString();
    const std::string name = node.kind().toUnqualString();
    if (space == "prim" && is_structural(name)) return;
    if (space == "aten" && is_script_operator(name)) return;
    throw DataError(source_, "operator " + std::string(node.kind().toQualString()) + " in " +
                                 function_ +
                                 " is none of those that a CNN needs; nothing of the "
                                 "file was run. docs/torchscript.md lists what is read");
  }

  const std::string &source_, &function_;
};

}  // namespace

void check_script(const torch::jit::Module& network, const std::string& source) {
  for (torch::jit::Function* function : network._ivalue()->compilation_unit()->get_functions()) {
    const std::string name = function->qualname().qualifiedName();
    Check(source, name).block(*torch::jit::toGraphFunction(*function).graph()->block());
  }
}

}  // namespace sentinel
