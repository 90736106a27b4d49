#include "models/script_recorder.hpp"

#include <algorithm>

#include "models/script_values.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"

namespace sentinel {
namespace {

using c10::IValue;

std::string owner_of(const std::string& parameter) {
  const std::size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? "" : parameter.substr(0, dot);
}

void collect_state(const torch::jit::Module& module, const std::string& prefix,
                   std::vector<std::pair<std::string, at::Tensor>>& state) {
  for (const auto& parameter : module.named_parameters(false))
    state.emplace_back(prefix + parameter.name, parameter.value);
  for (const auto& buffer : module.named_buffers(false))
    state.emplace_back(prefix + buffer.name, buffer.value);
  for (const auto& child : module.named_children())
    collect_state(child.value, prefix + child.name + ".", state);
}

/// Operators on lists and dictionaries that give what is in them.
bool moves_only(const std::string& name) {
  return is_one_of(name,
                   {"append", "__getitem__", "list", "add", "extend", "insert", "pop", "slice",
                    "_set_item", "get", "keys", "values", "items", "dict", "copy", "__contains__"});
}

/// Operators that ask a tensor about itself.
bool asks_only(const std::string& name) {
  return is_one_of(name, {"size", "dim", "numel", "len", "shape", "dtype", "device", "layout",
                          "is_floating_point", "is_contiguous", "is_cuda", "__is__", "__isnot__",
                          "requires_grad"});
}

}  // namespace

std::string plain_name(const std::string& name) {
  const std::size_t colons = name.rfind(':');
  std::string plain = colons == std::string::npos ? name : name.substr(colons + 1);
  const bool special = plain.size() > 1 && plain[plain.size() - 2] == '_';  // __getitem__
  if (!plain.empty() && plain.back() == '_' && !special) plain.pop_back();
  return plain;
}

std::string shape_text(const at::Tensor& tensor) {
  std::string text;
  for (const std::int64_t size : tensor.sizes())
    text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

std::vector<at::Tensor> tensors_of(c10::ArrayRef<IValue> values) {
  std::vector<at::Tensor> tensors;
  for (const IValue& value : values)
    for (const at::Tensor& tensor : tensors_in(value)) tensors.push_back(tensor);
  return tensors;
}

std::vector<at::Tensor> tensors_in(const IValue& value) {
  std::vector<at::Tensor> tensors;
  visit_all(value, [&](const IValue& one) {
    if (one.isTensor() && one.toTensor().defined()) tensors.push_back(one.toTensor());
  });
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> script_state(const torch::jit::Module& network) {
  std::vector<std::pair<std::string, at::Tensor>> state;
  collect_state(network, "", state);
  return state;
}

ScriptRecorder::ScriptRecorder(const torch::jit::Module& network, const at::Tensor& images,
                               const std::string& source)
    : source_(source),
      images_(images.size(0)),
      ours_(network.type()->name()->qualifiedName().rfind("__torch__.sentinelnn.", 0) == 0) {
  for (const auto& [name, tensor] : script_state(network)) {
    parameters_.emplace(script_key(tensor), name);
    owners_.insert(owner_of(name));
    state_.emplace(name, tensor);
    // They act on weights before the first operator that is recorded.
    if (ours_ && ends_with(name, ".weight_low"))
      throw DataError(source_,
                      "sentinelnn exported this file, with weight bounds: give the .pth it "
                      "was exported from");
  }
  for (const auto& parameter : network.named_parameters())
    trained_.insert(script_key(parameter.value));
  names_.insert("x");
  graph_.add("x", Input{images.size(1), {images.size(2), images.size(3)}}, {});
  remember(images, {0});
}

const std::map<std::string, ScriptRecorder::Operator>& ScriptRecorder::operators() {
  using R = ScriptRecorder;
  static const std::map<std::string, Operator> table{
      {"conv2d", &R::convolution},
      {"_convolution", &R::convolution},
      {"convolution", &R::convolution},
      {"_convolution_mode", &R::convolution},
      {"pad", &R::pad},
      {"constant_pad_nd", &R::pad},
      {"batch_norm", &R::batch_norm},
      {"linear", &R::linear},
      {"addmm", &R::matrix_product},
      {"matmul", &R::matrix_product},
      {"mm", &R::matrix_product},
      {"t", &R::transposed},
      {"relu", &R::activation},
      {"relu6", &R::activation},
      {"silu", &R::activation},
      {"sigmoid", &R::activation},
      {"hardswish", &R::activation},
      {"hardsigmoid", &R::activation},
      {"hardtanh", &R::clamp},
      {"clamp", &R::clamp},
      {"clamp_min", &R::clamp},
      {"max_pool2d", &R::max_pool},
      {"avg_pool2d", &R::avg_pool},
      {"adaptive_avg_pool2d", &R::adaptive_avg_pool},
      {"mean", &R::mean},
      {"add", &R::sum},
      {"sub", &R::sum},
      {"mul", &R::product},
      {"div", &R::product},
      {"cat", &R::concat},
      {"concat", &R::concat},
      {"chunk", &R::pieces},
      {"split", &R::pieces},
      {"split_with_sizes", &R::pieces},
      {"unsafe_chunk", &R::pieces},
      {"unsafe_split", &R::pieces},
      {"slice", &R::piece},
      {"narrow", &R::piece},
      {"select", &R::channel},
      {"view", &R::reshape},
      {"reshape", &R::reshape},
      {"flatten", &R::reshape},
      {"squeeze", &R::reshape},
      {"unsqueeze", &R::reshape},
      {"transpose", &R::swap},
      {"permute", &R::swap},
      {"channel_shuffle", &R::shuffle},
      {"native_channel_shuffle", &R::shuffle},
      {"dropout", &R::dropout},
      {"feature_dropout", &R::dropout},
      {"contiguous", &R::same},
      {"clone", &R::same},
      {"detach", &R::same},
      {"alias", &R::same},
      {"to", &R::same},
      {"type_as", &R::same},
  };
  return table;
}

/// An operator without a place in a Graph is not executed.
void ScriptRecorder::calling(const OperatorCall& call) {
  const auto inputs = tensors_of(call.inputs);
  const bool reads = std::any_of(inputs.begin(), inputs.end(), [&](const at::Tensor& tensor) {
    return tracked_.count(script_key(tensor)) > 0;
  });
  const std::string name = plain_name(call.name);
  const bool on_list = !call.inputs.empty() && !call.inputs[0].isTensor();
  if (reads && !asks_only(name) && !(on_list && moves_only(name)) && operators().count(name) == 0)
    refuse(call, "is not supported");
}

void ScriptRecorder::called(const OperatorCall& call) {
  const auto known = [&](const at::Tensor& t) { return tracked_.count(script_key(t)) > 0; };
  const auto inputs = tensors_of(call.inputs), outputs = tensors_of(call.outputs);
  const bool reads = std::any_of(inputs.begin(), inputs.end(), known);
  const std::string name = plain_name(call.name);
  for (const at::Tensor& tensor : outputs) kept_.push_back(tensor);
  if (!reads) return constant(call, name, inputs, outputs);
  const bool on_list = !call.inputs.empty() && !call.inputs[0].isTensor();
  if (on_list && moves_only(name) && std::all_of(outputs.begin(), outputs.end(), known)) return;
  if (asks_only(name) && outputs.empty()) return;
  const auto found = operators().find(name);
  if (found == operators().end()) refuse(call, "is not supported");
  (this->*found->second)(call);
}

void ScriptRecorder::constant(const OperatorCall& call, const std::string& name,
                              const std::vector<at::Tensor>& inputs,
                              const std::vector<at::Tensor>& outputs) {
  const bool trained = std::any_of(inputs.begin(), inputs.end(), [&](const at::Tensor& tensor) {
    return trained_.count(script_key(tensor)) > 0;
  });
  if (trained)
    for (const at::Tensor& tensor : outputs) trained_.insert(script_key(tensor));
  if (const std::string owner = common_owner(inputs); !owner.empty())
    for (const at::Tensor& tensor : outputs) owned_.emplace(script_key(tensor), owner);
  const auto found = operators().find(name);
  if (found == operators().end()) return;
  if (found->second == &ScriptRecorder::same || found->second == &ScriptRecorder::transposed)
    (this->*found->second)(call);
}

std::string ScriptRecorder::common_owner(const std::vector<at::Tensor>& tensors) const {
  std::set<std::string> owners;
  for (const at::Tensor& tensor : tensors) {
    const auto parameter = parameters_.find(script_key(tensor));
    const auto owned = owned_.find(script_key(tensor));
    if (parameter != parameters_.end())
      owners.insert(owner_of(parameter->second));
    else if (owned != owned_.end())
      owners.insert(owned->second);
  }
  if (owners.size() != 1) return "";
  const std::string& owner = *owners.begin();
  return owner.substr(0, owner.find(".parametrizations."));
}

// ---- what the operators share ----

void ScriptRecorder::refuse(const OperatorCall& call, const std::string& why) const {
  throw DataError(source_, place_of(call.name, call.scope) + " " + why +
                               (ours_ ? "; sentinelnn exported this file: give the .pth it was "
                                        "exported from"
                                      : ""));
}

const ScriptRecorder::Tracked* ScriptRecorder::tracked(const IValue& value) const {
  if (!value.isTensor()) return nullptr;
  const auto found = tracked_.find(script_key(value.toTensor()));
  return found == tracked_.end() ? nullptr : &found->second;
}

const IValue& ScriptRecorder::argument(const OperatorCall& call, const std::string& name) const {
  const IValue* value = call.find(name);
  if (value == nullptr) refuse(call, "has no argument '" + name + "': an unknown variant");
  return *value;
}

NodeId ScriptRecorder::input(const OperatorCall& call, const std::string& name) const {
  const Tracked* found = tracked(argument(call, name));
  if (found == nullptr) refuse(call, "computes '" + name + "' from constants alone");
  if (found->form == Form::kPadded)
    refuse(call, "reads an activation with zeros around it; only a convolution may");
  if (found->form != Form::kPlain)
    refuse(call, "reads channels that were reshaped for something else than a channel shuffle");
  return found->node;
}

NodeId ScriptRecorder::image(const OperatorCall& call, const std::string& name) const {
  const NodeId node = input(call, name);
  if (argument(call, name).toTensor().dim() != 4)
    refuse(call, "is supported for activations [N, C, H, W] only");
  return node;
}

Pair ScriptRecorder::pair(const OperatorCall& call, const std::string& name) const {
  const auto list = argument(call, name).toIntVector();
  if (list.size() == 1) return {list[0], list[0]};
  if (list.size() != 2) refuse(call, "has another '" + name + "' than one of two dimensions");
  return {list[0], list[1]};
}

bool ScriptRecorder::is_parameter(const IValue& value) const {
  return value.isTensor() && parameters_.count(script_key(value.toTensor())) > 0;
}

std::string ScriptRecorder::free_name(const OperatorCall& call, const std::string& kind) const {
  std::string name = call.scope;
  if (!call.leaf || name.empty()) name += (name.empty() ? "" : ".") + kind;
  const auto taken = [&](const std::string& n) { return names_.count(n) + owners_.count(n) > 0; };
  if (!taken(name)) return name;
  for (int i = 1;; ++i) {
    const std::string next = name + "_" + std::to_string(i);
    if (!taken(next)) return next;
  }
}

std::string ScriptRecorder::layer_name(const OperatorCall& call, const at::Tensor& weight,
                                       const std::string& kind) {
  const auto parameter = parameters_.find(script_key(weight));
  if (parameter == parameters_.end()) {
    const auto owned = owned_.find(script_key(weight));
    const bool free = owned != owned_.end() && names_.count(owned->second) == 0;
    return free ? owned->second : free_name(call, kind);
  }
  const std::string& full = parameter->second;
  if (!used_.insert(full).second)
    refuse(call, "uses " + full +
                     " again: a layer that is called twice has no place of its own for a fault");
  const std::string owner = owner_of(full);
  const bool usual = !owner.empty() && full == owner + ".weight";
  return usual && names_.count(owner) == 0 ? owner : free_name(call, kind);
}

void ScriptRecorder::remember(const at::Tensor& tensor, const Tracked& what) {
  tracked_[script_key(tensor)] = what;
  kept_.push_back(tensor);
}

NodeId ScriptRecorder::append(const OperatorCall& call, const std::string& name, Op op,
                              std::vector<NodeId> inputs) {
  names_.insert(name);
  const NodeId id = graph_.add(name, std::move(op), std::move(inputs));
  if (call.outputs.size() == 1 && call.outputs[0].isTensor())
    remember(call.outputs[0].toTensor(), {id});
  return id;
}

void ScriptRecorder::plain(const OperatorCall& call, const std::string& kind, Op op,
                           std::vector<NodeId> inputs) {
  append(call, free_name(call, kind), std::move(op), std::move(inputs));
}

void ScriptRecorder::slice(const OperatorCall& call, const at::Tensor& output, NodeId whole,
                           std::int64_t begin) {
  const Slice op{begin, begin + output.size(1)};
  remember(output, {append(call, free_name(call, "slice"), op, {whole})});
}

bool ScriptRecorder::is_trained(const IValue& value) const {
  return value.isTensor() && trained_.count(script_key(value.toTensor())) > 0;
}

Graph ScriptRecorder::finish(const IValue& result) {
  std::vector<Tracked> results;
  at::Tensor logits;
  for (const at::Tensor& tensor : tensors_in(result)) {
    const auto found = tracked_.find(script_key(tensor));
    if (found == tracked_.end()) continue;
    results.push_back(found->second);
    logits = tensor;
  }
  const auto refuse = [&](const std::string& why) {
    throw DataError(source_, why + "; logits [images, classes] alone are wanted");
  };
  if (results.empty()) refuse("the network returns nothing that depends on its images");
  if (results.size() > 1)
    refuse("the network returns " + std::to_string(results.size()) +
           " tensors that depend on its images");
  if (results[0].form != Form::kPlain) refuse("the network returns a part of an activation");
  if (logits.dim() != 2)
    refuse("the network returns a tensor " + shape_text(logits) + " for " +
           std::to_string(images_) +
           " images: end its forward with .flatten(1) where the last sizes are 1");
  std::vector<bool> needed(static_cast<std::size_t>(graph_.size()), false);
  needed[static_cast<std::size_t>(results[0].node)] = true;
  for (NodeId id = results[0].node; id > 0; --id)
    if (needed[static_cast<std::size_t>(id)])
      for (const NodeId in : graph_[id].inputs) needed[static_cast<std::size_t>(in)] = true;
  Graph kept;
  std::vector<NodeId> moved(needed.size(), 0);
  for (NodeId id = 0; id <= results[0].node; ++id) {
    if (!needed[static_cast<std::size_t>(id)]) continue;
    std::vector<NodeId> inputs;
    for (const NodeId in : graph_[id].inputs) inputs.push_back(moved[static_cast<std::size_t>(in)]);
    moved[static_cast<std::size_t>(id)] =
        kept.add(graph_[id].name, std::move(graph_[id].op), std::move(inputs));
  }
  return kept;
}

}  // namespace sentinel
