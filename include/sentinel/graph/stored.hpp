#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// The purpose of a stored tensor. Values are part of the file format.
enum class TensorClass : std::uint8_t {
  kWeight = 0,  // of Conv2d and Linear, copies of duplicated channels included
  kBias = 1,
  kBn = 2,     // batch normalisation: weight, bias, running mean and variance
  kBound = 3,  // of activations and weights, ranges of corrections
  kScale = 4,  // of a number format
  kCheck = 5,  // check words that a code keeps apart
  // Not stored: outputs of nodes while the network runs, for one image.
  kActivation = 6,  // of Conv2d and Linear, copies of duplicated channels included
  kPost = 7,        // those that a Conv2d or Linear reads
  kOutput = 8,      // of any node, as fault lists name them
};
/// "weight", "bias", "bn", "bound", "scale", "check", "activation", "post", "output".
const char* class_name(TensorClass kind);

/// A tensor of the network's memory.
struct StoredTensor {
  NodeId node = 0;
  std::string name;  // its entry in a state_dict: "layer1.0.conv1.weight"; of check words
                     // "layer1.0.conv1.weight.check"
  TensorClass kind = TensorClass::kWeight;
  Layout layout;  // of check words: that of the tensor they protect
  // Numbers of values (of a kCheck tensor: of check words), row-major over [out + copies, ...]: all
  // originals, then the copies of duplicated channels.
  std::uint64_t values = 0, originals = 0;
  std::uint64_t row = 0;  // values of one output channel; 0: not by channel
};

/// Why tensors of a class cannot be stored so; empty where they can. Only weights may have codes
/// that read words as 0; bounds and scales have no scales of their own.
std::string misfit(TensorClass kind, const Layout& layout);

/// All of a network, in execution order; a tensor's scales and check words follow it. Counters of
/// batches are not among them.
std::vector<StoredTensor> stored_tensors(const Graph& graph);

/// Tensors of a class that are stored alike.
struct StoredPart {
  TensorClass kind = TensorClass::kWeight;
  Layout layout;
  std::int64_t tensors = 0, words = 0;  // stored words
  std::int64_t bits = 0;                // of all words
};
/// Sums over stored_tensors(graph), by class, then in the order of their first tensors.
std::vector<StoredPart> stored_parts(const Graph& graph);
/// "weight int8:channel, bias fp32, bn fp32, scale fp32": the classes that the network has.
std::string layouts_in_words(const Graph& graph);

/// From now on the tensor of this entry is stored so, its scales as `scales`: its values become
/// what is read of their words. Scales are the largest magnitudes', of each row or of the tensor;
/// where it is stored in this format already, it keeps its scales and so its words.
void store_as(Graph& graph, const std::string& entry, const Layout& layout,
              const Layout& scales = {});

/// The values that store_as would make of these of a plain tensor.
at::Tensor read_as(const StoredTensor& tensor, const at::Tensor& values, const Layout& layout,
                   const Layout& scales = {});

/// From now on the tensor of this entry is plain fp32; its values stay.
void store_plain(Graph& graph, const std::string& entry);

/// Gives a tensor that is stored as integers other scales, stored as `layout`: its words stay, its
/// values become what is read of them. `scales`: as many as it has, of any sign. A scale below
/// 2^-126 becomes 0, and so do the words that it is for.
void rescale(Graph& graph, const std::string& entry, const at::Tensor& scales,
             const Layout& layout = {});

/// Whether the values of an entry of Graph::storage are what is read of their words.
bool is_stored_exactly(const Graph& graph, const std::string& entry);

/// The values, not of kCheck.
const at::Tensor& values_of(const Graph& graph, const StoredTensor& tensor);

}  // namespace sentinel
