#pragma once
#include <string>
#include <vector>

#include "models/families.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

/// Names of all entries that an architecture's layers want (not the counters of batch
/// normalisation, which a file need not have).
std::vector<std::string> wanted_names(const Family& family);

/// A dictionary of tensors of a file as an architecture's layers want to see it.
struct WeightsView {
  std::string key;        // of the dictionary
  std::string prefix;     // of the names in it, "module." say; dropped here
  std::string name;       // to choose it by: the key, with the prefix where others fit as well
  std::size_t found = 0;  // of the wanted names
  StateDict tensors;      // names without the prefix
  std::vector<std::string> left_out;            // entries that belong to no layer's weights
  std::vector<std::string> masked, normalised;  // see WholeWeights
};

/// The views of a dictionary with the prefix that leads to most of the wanted names; several where
/// several lead to as many, averages last, then the shortest first. At least one. No prefix where
/// none leads to half of the wanted names.
///
/// Left out are entries outside of the prefix or behind another of these, and counters: entries of
/// one element that no layer wants and whose type no weight here has, such as total_ops. Whatever
/// else no layer wants stays in, so that it is an error: it may belong to a layer that this
/// architecture does not have.
std::vector<WeightsView> views_of(const TensorDict& dict, const std::vector<std::string>& wanted);

/// Whether an architecture can be built around a view. `classes` < 0: any number will do.
bool fits(const WeightsView& view, const Family& family, std::int64_t classes, std::size_t wanted);

/// The weights of a file for an architecture.
struct WeightsChoice {
  WeightsView view;
  std::vector<std::string> fitting;  // names of all views that fit, this one first
};

/// Those of `key` (a dictionary's, or a view's name; empty: any), of these the first that fit;
/// where none does, those with most of the wanted names. UserError where nothing in the file has
/// this key.
WeightsChoice choose_weights(const WeightsFile& file, const std::string& source,
                             const Family& family, std::int64_t classes, const std::string& key);

/// Tells the user what is not plain about a choice.
void log_choice(const WeightsChoice& choice, const std::string& source, const std::string& family);

}  // namespace sentinel
