#include "models/script_walk.hpp"

#include <algorithm>
#include <unordered_map>

#include "sentinel/core/failure.hpp"

namespace sentinel {
namespace {

using c10::IValue;
using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;
namespace prim = c10::prim;

/// What a module's code is called in errors and for the names of nodes.
struct Scope {
  std::string path;
  bool leaf = false;
};

bool is_of_torch_nn(const c10::ClassType& type) {
  const auto name = type.name();
  return name && name->qualifiedName().rfind("__torch__.torch.nn.modules.", 0) == 0 &&
         name->qualifiedName().find(".container.") == std::string::npos;
}

bool holds_tensor(const IValue& value) {
  if (value.isTensor()) return value.toTensor().defined();
  const auto any = [](const auto& items) {
    return std::any_of(items.begin(), items.end(), holds_tensor);
  };
  if (value.isList()) return any(value.toListRef());
  return value.isTuple() && any(value.toTupleRef().elements());
}

class Walk {
 public:
  Walk(OperatorSink& sink, const std::string& source) : sink_(sink), source_(source) {}

  IValue method(const IValue& object, const std::string& name, std::vector<IValue> inputs,
                const Scope& scope) {
    inputs.insert(inputs.begin(), object);
    return function(object.toObjectRef().type()->getMethod(name), inputs, scope);
  }

 private:
  using Frame = std::unordered_map<const Value*, IValue>;

  [[noreturn]] void refuse(const Node& node, const Scope& scope, const std::string& why) const {
    throw DataError(source_, place_of(node.kind().toQualString(), scope.path) + " " + why);
  }

  IValue function(torch::jit::Function& function, const std::vector<IValue>& inputs,
                  const Scope& scope) {
    const auto graph = torch::jit::toGraphFunction(function).graph();
    std::vector<IValue> all = inputs;
    const auto& arguments = function.getSchema().arguments();
    for (std::size_t i = all.size(); i < arguments.size(); ++i) {
      if (!arguments[i].default_value())
        throw DataError(source_, "its " + function.name() + " wants '" + arguments[i].name() +
                                     "' beside the images; a network of one input is wanted");
      all.push_back(*arguments[i].default_value());
    }
    Frame frame;
    const auto results = run(*graph->block(), all, frame, scope);
    return results.at(0);
  }

  std::vector<IValue> run(const Block& block, const std::vector<IValue>& inputs, Frame& frame,
                          const Scope& scope) {
    for (std::size_t i = 0; i < inputs.size(); ++i) frame[block.inputs().at(i)] = inputs[i];
    for (const Node* node : block.nodes()) execute(*node, frame, scope);
    return values(block.outputs(), frame);
  }

  std::vector<IValue> values(c10::ArrayRef<const Value*> names, const Frame& frame) const {
    std::vector<IValue> found;
    for (const Value* name : names) found.push_back(frame.at(name));
    return found;
  }

  void execute(const Node& node, Frame& frame, const Scope& scope) {
    const auto inputs = node.kind() == prim::CallFunction ? values(node.inputs().slice(1), frame)
                                                          : values(node.inputs(), frame);
    std::vector<IValue> outputs;
    if (node.kind() == prim::If) {
      outputs = run(*node.blocks().at(inputs.at(0).toBool() ? 0 : 1), {}, frame, scope);
    } else if (node.kind() == prim::Loop) {
      outputs = loop(node, inputs, frame, scope);
    } else if (!structural(node, inputs, scope, outputs)) {
      outputs = call(node, inputs, scope);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) frame[node.outputs().at(i)] = outputs[i];
  }

  std::vector<IValue> loop(const Node& node, const std::vector<IValue>& inputs, Frame& frame,
                           const Scope& scope) {
    const std::int64_t most = inputs.at(0).toInt();
    bool going_on = inputs.at(1).toBool();
    std::vector<IValue> carried(inputs.begin() + 2, inputs.end());
    for (std::int64_t i = 0; going_on && i < most; ++i) {
      carried.insert(carried.begin(), i);
      carried = run(*node.blocks().at(0), carried, frame, scope);
      going_on = carried.at(0).toBool();
      carried.erase(carried.begin());
    }
    return carried;
  }

  /// What is not an operator on tensors but moves values about; false where it is one.
  bool structural(const Node& node, const std::vector<IValue>& in, const Scope& scope,
                  std::vector<IValue>& out) {
    switch (node.kind()) {
      case prim::Constant:
        out = {constant(node)};
        return true;
      case prim::GetAttr:
        out = {attribute(in.at(0), node.s(c10::attr::name), scope)};
        return true;
      case prim::SetAttr:
        in.at(0).toObject()->setAttr(node.s(c10::attr::name), in.at(1));
        return true;
      case prim::CallMethod:
        out = {method(in.at(0), node.s(c10::attr::name), {in.begin() + 1, in.end()},
                      scope_of(in.at(0), scope))};
        return true;
      case prim::CallFunction:
        out = {
            function(*node.input(0)->type()->expectRef<c10::FunctionType>().function(), in, scope)};
        return true;
      case prim::ListConstruct:
        out = {list(node, in)};
        return true;
      case prim::TupleConstruct:
        out = {c10::ivalue::Tuple::create(in)};
        return true;
      case prim::TupleUnpack:
        out = in.at(0).toTupleRef().elements().vec();
        return true;
      case prim::TupleIndex:
        out = {in.at(0).toTupleRef().elements().at(
            static_cast<std::size_t>(tuple_index(in.at(1).toInt(), in.at(0))))};
        return true;
      case prim::ListUnpack:
        out = in.at(0).toListRef().vec();
        return true;
      case prim::isinstance:
        out = {is_instance(in.at(0), node.tys(c10::attr::types))};
        return true;
      case prim::unchecked_cast:
        out = in;
        return true;
      case prim::Uninitialized:
        out = {IValue()};
        return true;
      case prim::RaiseException:
        refuse(node, scope, "was reached: the network refuses these images");
      case c10::aten::warn:
        return true;
      default:
        return false;
    }
  }

  static IValue constant(const Node& node) {
    if (node.output()->type()->kind() == c10::TypeKind::FunctionType) return {};  // only called
    const auto value = torch::jit::toIValue(node.output());
    return value ? *value : IValue();
  }

  IValue attribute(const IValue& object, const std::string& name, const Scope& scope) {
    IValue value = object.toObjectRef().getAttr(name);
    if (value.isModule()) {
      const Scope parent = scope_of(object, scope);
      paths_.emplace(value.toObject().get(), parent.path.empty() ? name : parent.path + "." + name);
    }
    return value;
  }

  Scope scope_of(const IValue& object, const Scope& caller) const {
    if (!object.isModule()) return caller;
    const auto path = paths_.find(object.toObject().get());
    return {path == paths_.end() ? "" : path->second, is_of_torch_nn(*object.toObjectRef().type())};
  }

  static IValue list(const Node& node, const std::vector<IValue>& items) {
    c10::impl::GenericList made(node.output()->type()->expectRef<c10::ListType>().getElementType());
    for (const IValue& item : items) made.push_back(item);
    return made;
  }

  static std::int64_t tuple_index(std::int64_t index, const IValue& tuple) {
    const auto size = static_cast<std::int64_t>(tuple.toTupleRef().elements().size());
    return index < 0 ? index + size : index;
  }

  static bool is_instance(const IValue& value, const std::vector<c10::TypePtr>& types) {
    return std::any_of(types.begin(), types.end(),
                       [&](const auto& type) { return value.type()->isSubtypeOf(*type); });
  }

  std::vector<IValue> call(const Node& node, const std::vector<IValue>& inputs,
                           const Scope& scope) {
    if (!node.maybeOperator() || node.schema().is_vararg()) refuse(node, scope, "is not supported");
    torch::jit::Stack stack = inputs;
    try {
      node.getOperation()(stack);
    } catch (const std::exception& error) {
      if (failure_of(error).code == ExitCode::kEnvironment) throw;
      refuse(node, scope,
             "fails on a batch of these images (traced with another size, or with the number of "
             "images as a constant?): " +
                 first_line(error));
    }
    const auto any = [](const std::vector<IValue>& list) {
      return std::any_of(list.begin(), list.end(), holds_tensor);
    };
    if (any(inputs) || any(stack)) {
      OperatorCall done{node.kind().toQualString(), {}, inputs, stack, scope.path, scope.leaf};
      for (const c10::Argument& argument : node.schema().arguments())
        done.argument_names.push_back(argument.name());
      sink_.called(done);
    }
    return stack;
  }

  OperatorSink& sink_;
  const std::string& source_;
  std::unordered_map<const void*, std::string> paths_;  // of submodules, as they are met
};

}  // namespace

const IValue* OperatorCall::find(const std::string& argument) const {
  const auto at = std::find(argument_names.begin(), argument_names.end(), argument);
  return at == argument_names.end() ? nullptr : &inputs.at(at - argument_names.begin());
}

IValue walk_script(const torch::jit::Module& network, const at::Tensor& images, OperatorSink& sink,
                   const std::string& source) {
  Walk walk(sink, source);
  return walk.method(network._ivalue(), "forward", {images}, {});
}

std::string place_of(const std::string& name, const std::string& scope) {
  return "operator " + name + " in " + (scope.empty() ? "the network itself" : scope);
}

std::string first_line(const std::exception& error) {
  const auto* c10_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = c10_error ? c10_error->what_without_backtrace() : error.what();
  const std::size_t begin = text.find_first_not_of(" \n");
  return begin == std::string::npos ? text : text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace sentinel
