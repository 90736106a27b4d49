#include "models/script_walk.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "models/script_limits.hpp"
#include "models/script_values.hpp"
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

class Walk {
 public:
  Walk(const at::Tensor& images, OperatorSink* sink, const std::string& source)
      : sink_(sink), batch_(images), source_(source), limits_(source) {}

  IValue forward(const torch::jit::Module& network, const at::Tensor& images) {
    WalkValue result = method({network._ivalue()}, "forward", {{images}}, {});
    if (const std::string fault = WalkLimits::fault_of_result({result.value}); !fault.empty())
      throw DataError(source_, "it " + fault);
    if (batch_.is_stale({result}))
      throw DataError(source_, "it returns a tensor that was changed in place by another name");
    return result.value;
  }

 private:
  WalkValue method(const WalkValue& object, const std::string& name, WalkValues inputs,
                   const Scope& scope) {
    inputs.insert(inputs.begin(), object);
    return function(object.value.toObjectRef().type()->getMethod(name), std::move(inputs), scope);
  }

  using Frame = std::unordered_map<const Value*, WalkValue>;

  [[noreturn]] void refuse(const Node& node, const Scope& scope, const std::string& why) const {
    throw DataError(source_, place_of(node.kind().toQualString(), scope.path) + " " + why);
  }

  WalkValue function(torch::jit::Function& function, WalkValues inputs, const Scope& scope) {
    constexpr int kMaxDepth = 300;  // calls in each other
    if (++depth_ > kMaxDepth) throw DataError(source_, "its functions call each other too deeply");
    const auto graph = torch::jit::toGraphFunction(function).graph();
    const auto& arguments = function.getSchema().arguments();
    for (std::size_t i = inputs.size(); i < arguments.size(); ++i) {
      if (!arguments[i].default_value())
        throw DataError(source_, "its " + function.name() + " wants '" + arguments[i].name() +
                                     "' beside the images; a network of one input is wanted");
      inputs.push_back(lasting(*arguments[i].default_value()));
    }
    Frame frame;
    WalkValue result = run(*graph->block(), std::move(inputs), frame, scope).at(0);
    --depth_;
    return result;
  }

  WalkValues run(const Block& block, WalkValues inputs, Frame& frame, const Scope& scope) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      frame[block.inputs().at(i)] = std::move(inputs[i]);
    for (const Node* node : block.nodes()) {
      limits_.step();
      execute(*node, frame, scope);
      forget(*node, frame);
    }
    return values(block.outputs(), frame);
  }

  WalkValues values(c10::ArrayRef<const Value*> names, const Frame& frame) const {
    WalkValues found;
    for (const Value* name : names) found.push_back(frame.at(name));
    return found;
  }

  /// Activations that nothing reads later take no more memory.
  static void forget(const Node& node, Frame& frame) {
    for (const Value* input : node.inputs()) {
      const bool large = input->type()->kind() == c10::TypeKind::TensorType ||
                         input->type()->kind() == c10::TypeKind::ListType;
      const auto at = large ? frame.find(input) : frame.end();
      if (at == frame.end() || input->node()->owningBlock() != node.owningBlock()) continue;
      const bool last =
          std::all_of(input->uses().begin(), input->uses().end(), [&](const torch::jit::Use& use) {
            return use.user == &node || use.user->isBefore(&node);
          });
      if (last) frame.erase(at);
    }
  }

  void execute(const Node& node, Frame& frame, const Scope& scope) {
    const WalkValues inputs = node.kind() == prim::CallFunction
                                  ? values(node.inputs().slice(1), frame)
                                  : values(node.inputs(), frame);
    require_small(node, plain(inputs), scope);  // others may have grown a list in it
    WalkValues outputs;
    if (node.kind() == prim::If) {
      outputs = branch(node, inputs.at(0), frame, scope);
    } else if (node.kind() == prim::Loop) {
      outputs = loop(node, inputs, frame, scope);
    } else if (!structural(node, inputs, scope, outputs)) {
      outputs = call(node, inputs, scope);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i)
      frame[node.outputs().at(i)] = std::move(outputs[i]);
  }

  static bool only_raises(const Block& block) {
    return std::any_of(block.nodes().begin(), block.nodes().end(),
                       [](const Node* node) { return node->kind() == prim::RaiseException; });
  }

  void require_free(const Node& node, const WalkValue& value, const Scope& scope) const {
    if (batch_.depends(value))
      refuse(node, scope,
             "depends on the number of images: the path is followed for one number alone; write it "
             "so that every number takes the same path");
  }

  WalkValues branch(const Node& node, const WalkValue& condition, Frame& frame,
                    const Scope& scope) {
    const bool taken = condition.value.toBool();
    if (!only_raises(*node.blocks().at(taken ? 1 : 0))) require_free(node, condition, scope);
    return run(*node.blocks().at(taken ? 0 : 1), {}, frame, scope);
  }

  WalkValues loop(const Node& node, const WalkValues& inputs, Frame& frame, const Scope& scope) {
    const std::int64_t most = inputs.at(0).value.toInt();
    WalkValue going_on = inputs.at(1);
    require_free(node, inputs[0], scope);
    WalkValues carried(inputs.begin() + 2, inputs.end());
    for (std::int64_t i = 0;; ++i) {
      require_free(node, going_on, scope);
      if (!going_on.value.toBool() || i >= most) return carried;
      limits_.step();
      carried.insert(carried.begin(), WalkValue{i});
      carried = run(*node.blocks().at(0), std::move(carried), frame, scope);
      going_on = carried.at(0);
      carried.erase(carried.begin());
    }
  }

  /// What is not an operator on tensors but moves values about; false where it is one.
  bool structural(const Node& node, const WalkValues& in, const Scope& scope, WalkValues& out) {
    switch (node.kind()) {
      case prim::Constant:
        out = {lasting(constant(node))};
        return true;
      case prim::GetAttr:
        out = {lasting(attribute(in.at(0).value, node.s(c10::attr::name), scope))};
        return true;
      case prim::SetAttr:
        refuse(node, scope,
               "sets the attribute '" + node.s(c10::attr::name) +
                   "' while it runs, so that a call may change the next; leave it out");
      case prim::CallMethod:
        out = {method(in.at(0), node.s(c10::attr::name), {in.begin() + 1, in.end()},
                      scope_of(in.at(0).value, scope))};
        return true;
      case prim::CallFunction:
        out = {
            function(*node.input(0)->type()->expectRef<c10::FunctionType>().function(), in, scope)};
        return true;
      case prim::ListConstruct:
        out = {batch_.joined(small(node, list(node, in), scope), in)};
        return true;
      case prim::DictConstruct:
        out = {batch_.joined(small(node, dictionary(node, in), scope), in)};
        return true;
      case prim::TupleConstruct:
        out = {batch_.joined(small(node, c10::ivalue::Tuple::create(plain(in)), scope), in)};
        return true;
      case prim::TupleUnpack:
        out = batch_.elements(in.at(0), in[0].value.toTupleRef().elements());
        return true;
      case prim::TupleIndex: {
        const std::size_t at = tuple_index(in.at(1).value.toInt(), in.at(0).value);
        out = {batch_.element(in[0], at, in[0].value.toTupleRef().elements().at(at))};
        return true;
      }
      case prim::ListUnpack:
        out = batch_.elements(in.at(0), in[0].value.toListRef());
        return true;
      case prim::isinstance:
        out = {{is_instance(in.at(0).value, node.tys(c10::attr::types)),
                batch_.depends(in[0]) ? Dependence::kOther : Dependence::kFree}};
        return true;
      case prim::unchecked_cast:
        out = in;
        return true;
      case prim::Uninitialized:
        out = {WalkValue{}};
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

  /// Tensors that outlive the walk: no operator may change them.
  WalkValue lasting(IValue value) {
    remember(value);
    return {std::move(value)};
  }

  void remember(const IValue& value) {
    const bool shared = value.isList() || value.isGenericDict();
    if (shared && !lasting_.insert(value.internalToPointer()).second) return;
    if (has_memory(value)) lasting_.insert(memory_key(value.toTensor()));
    if (value.isList())
      for (const IValue& item : value.toListRef()) remember(item);
    if (value.isTuple())
      for (const IValue& item : value.toTupleRef().elements()) remember(item);
    if (value.isGenericDict())
      for (const auto& entry : value.toGenericDict()) remember(entry.value());
  }

  bool lasts(const IValue& value) const {
    if (value.isList() || value.isGenericDict())
      return lasting_.count(value.internalToPointer()) > 0;
    return has_memory(value) && lasting_.count(memory_key(value.toTensor())) > 0;
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

  static std::vector<IValue> plain(const WalkValues& values) {
    std::vector<IValue> plain;
    for (const WalkValue& value : values) plain.push_back(value.value);
    return plain;
  }

  static IValue list(const Node& node, const WalkValues& items) {
    c10::impl::GenericList made(node.output()->type()->expectRef<c10::ListType>().getElementType());
    for (const WalkValue& item : items) made.push_back(item.value);
    return made;
  }

  static IValue dictionary(const Node& node, const WalkValues& items) {
    const auto& type = node.output()->type()->expectRef<c10::DictType>();
    c10::impl::GenericDict made(type.getKeyType(), type.getValueType());
    for (std::size_t i = 0; i + 1 < items.size(); i += 2)
      made.insert_or_assign(items[i].value, items[i + 1].value);
    return made;
  }

  IValue small(const Node& node, IValue made, const Scope& scope) const {
    const std::string fault = WalkLimits::fault_of_result({made});
    if (!fault.empty()) refuse(node, scope, fault);
    return made;
  }

  static std::size_t tuple_index(std::int64_t index, const IValue& tuple) {
    const auto size = static_cast<std::int64_t>(tuple.toTupleRef().elements().size());
    return static_cast<std::size_t>(index < 0 ? index + size : index);
  }

  static bool is_instance(const IValue& value, const std::vector<c10::TypePtr>& types) {
    return std::any_of(types.begin(), types.end(),
                       [&](const auto& type) { return value.type()->isSubtypeOf(*type); });
  }

  WalkValues call(const Node& node, const WalkValues& inputs, const Scope& scope) {
    if (!node.maybeOperator() || (node.schema().is_vararg() && !is_text(node)))
      refuse(node, scope, "is not supported");
    OperatorCall made{node.kind().toQualString(), {}, plain(inputs), {}, scope.path, scope.leaf};
    for (const c10::Argument& argument : node.schema().arguments())
      made.argument_names.push_back(argument.name());
    require_harmless(node, made, scope);
    if (batch_.is_stale(inputs))
      refuse(node, scope, "reads a tensor that was changed in place by another name");
    const bool reads = std::any_of(made.inputs.begin(), made.inputs.end(), holds_tensor);
    if (reads && sink_ != nullptr) sink_->calling(made);
    made.outputs = executed(node, made.inputs, scope);
    WalkValues outputs = followed(node, inputs, made.outputs, scope);
    const bool gives = std::any_of(made.outputs.begin(), made.outputs.end(), holds_tensor);
    if ((reads || gives) && sink_ != nullptr) sink_->called(made);
    return outputs;
  }

  WalkValues followed(const Node& node, const WalkValues& inputs,
                      const std::vector<IValue>& outputs, const Scope& scope) {
    WalkValues values;
    for (const IValue& output : outputs) values.push_back({output});
    const std::string fault = batch_.executed(node, inputs, values);
    if (!fault.empty()) refuse(node, scope, fault);
    return values;
  }

  /// "{} images".format(3)
  static bool is_text(const Node& node) {
    return node.kind() == c10::aten::format || node.kind() == c10::aten::percentFormat;
  }

  void require_harmless(const Node& node, const OperatorCall& made, const Scope& scope) const {
    const std::string name = node.kind().toUnqualString();
    const std::string fault = WalkLimits::fault_of_call(name, made.inputs);
    if (!fault.empty()) refuse(node, scope, fault);
    const auto& arguments = node.schema().arguments();
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const c10::AliasInfo* alias = arguments[i].alias_info();
      if (alias != nullptr && alias->isWrite() && lasts(made.inputs.at(i)))
        refuse(node, scope,
               "changes a parameter, buffer, attribute or constant while it runs, so that a call "
               "may change the next; compute with a copy of it, and call eval() before tracing");
    }
  }

  void require_small(const Node& node, const std::vector<IValue>& values,
                     const Scope& scope) const {
    const std::string fault = WalkLimits::fault_of_result(values);
    if (!fault.empty()) refuse(node, scope, fault + ", which no network for these images needs");
  }

  std::vector<IValue> executed(const Node& node, const std::vector<IValue>& inputs,
                               const Scope& scope) const {
    torch::jit::Stack stack = inputs;
    if (is_text(node)) stack.emplace_back(static_cast<std::int64_t>(inputs.size()));
    try {
      node.getOperation()(stack);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      if (failure_of(error).code == ExitCode::kEnvironment) throw;
      refuse(node, scope,
             "fails on a batch of these images (traced with another size, or with the number of "
             "images as a constant?): " +
                 first_line(error));
    }
    require_small(node, stack, scope);
    require_small(node, inputs, scope);  // lists may have grown
    return stack;
  }

  OperatorSink* sink_;
  BatchDependence batch_;
  const std::string& source_;
  WalkLimits limits_;
  int depth_ = 0;                                       // of calls
  std::unordered_map<const void*, std::string> paths_;  // of submodules, as they are met
  std::unordered_set<const void*> lasting_;  // storages of the file's tensors, lists, dictionaries
};

}  // namespace

const IValue* OperatorCall::find(const std::string& argument) const {
  const auto at = std::find(argument_names.begin(), argument_names.end(), argument);
  return at == argument_names.end() ? nullptr : &inputs.at(at - argument_names.begin());
}

IValue walk_script(const torch::jit::Module& network, const at::Tensor& images, OperatorSink* sink,
                   const std::string& source) {
  return Walk(images, sink, source).forward(network, images);
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
