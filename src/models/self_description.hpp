#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "models/checkpoint_source.hpp"
#include "models/storage.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {

/// The record sentinelnn.json of a checkpoint: what the tensors alone do not tell.
struct Record {
  struct Layer {
    std::int64_t out_channels = 0, duplicated = 0;
  };
  std::string architecture, dataset;
  std::int64_t classes = 0;
  std::optional<Normalisation> normalisation;  // where it is not the data set's
  std::map<std::string, Layer> layers;         // convolutions and linear layers
  Protection protection;
  std::map<std::string, ChannelOrigin> origin;
  LayoutNames storage;       // of what is not plain fp32
  nlohmann::json structure;  // of an imported or folded network; null: the family's
};

/// JSON with sorted keys, so that the same network and provenance give the same bytes.
std::string write_record(const Graph& graph, const Provenance& provenance);
/// DataError naming `source` where the text is no such record.
Record read_record(const std::string& text, const std::string& source);

}  // namespace sentinel
