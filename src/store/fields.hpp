#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "sentinel/store/schema.hpp"

/// The one list of the members of every row of the schema: journal and HDF5 layouts follow from it.
/// Rows are stored packed, members in this order, little-endian.
namespace sentinel::store {

template <class Row>
struct Describe;

template <>
struct Describe<TrialRow> {
  template <class R, class F>
  static constexpr void each(R& r, F&& f) {
    f("point", r.point), f("id", r.id), f("model", r.model), f("stage", r.stage);
    f("stratum", r.stratum), f("probability", r.probability), f("block", r.block);
    f("n_faults", r.n_faults), f("first_node", r.first_node), f("images", r.images);
    each_outcome(r, f);
    f("faults_masked", r.faults_masked);
    f("words_wrong", r.words_wrong), f("words_flagged", r.words_flagged);
    // What may differ between two runs of a trial comes last: the rest is compared as one block.
    f("faults_stored", r.faults_stored);
    f("session", r.session), f("audited", r.audited), f("path", r.path);
    f("wall_us", r.wall_us), f("rank", r.rank);
  }
};

template <>
struct Describe<FaultRow> {
  template <class R, class F>
  static constexpr void each(R& r, F&& f) {
    f("kind", r.kind), f("tensor", r.tensor), f("element", r.element);
    f("word_bits", r.word_bits), f("bit", r.bit), f("before", r.before), f("after", r.after);
    f("image", r.image), f("effect", r.effect), f("length", r.length);
    f("outcome", r.outcome);  // the last: earlier versions do not tell it
  }
};

template <>
struct Describe<AuditRow> {
  template <class R, class F>
  static constexpr void each(R& r, F&& f) {
    f("point", r.point), f("id", r.id), f("model", r.model), f("images", r.images);
    f("mismatches", r.mismatches), f("near_ties", r.near_ties);
    each_outcome(r, f);
    f("deviation", r.deviation);
  }
};

template <>
struct Describe<EstimateRow> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("model", r.model), f("against", r.against), f("quantity", r.quantity);
    f("estimate", r.estimate), f("lower", r.lower), f("upper", r.upper);
    f("confidence", r.confidence), f("method", r.method), f("trials", r.trials);
    f("stratum", r.stratum);
  }
};

template <>
struct Describe<SessionRow> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("number", r.number), f("started", r.started), f("ended", r.ended), f("ranks", r.ranks);
    f("host", r.host), f("new_trials", r.new_trials), f("info", r.info);
  }
};

template <>
struct Describe<PointInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("id", r.id), f("estimand", r.estimand), f("fault_model", r.fault_model), f("ber", r.ber);
    f("trials", r.trials), f("models", r.models), f("effect", r.effect), f("shape", r.shape);
    f("target", r.target), f("selection", r.selection), f("lifetime", r.lifetime);
  }
};

template <>
struct Describe<PlanInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("sampling", r.sampling), f("stop_rule", r.stop_rule);
    f("half_width", r.half_width), f("guaranteed", r.guaranteed), f("first", r.first);
    f("used", r.used), f("reached", r.reached);
  }
};

template <>
struct Describe<StratumInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("stratum", r.stratum), f("name", r.name), f("weight", r.weight);
    f("cost", r.cost), f("misread", r.misread);
  }
};

template <>
struct Describe<ShareInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("model", r.model), f("stratum", r.stratum), f("weight", r.weight);
  }
};

template <>
struct Describe<BoundInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("model", r.model), f("bound", r.bound);
  }
};

template <>
struct Describe<RoundInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("round", r.round), f("stage", r.stage), f("first", r.first);
    f("trials", r.trials), f("stratum", r.stratum), f("probability", r.probability);
    f("allocated", r.allocated);
  }
};

template <>
struct Describe<CentreInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("round", r.round), f("model", r.model), f("masked", r.masked);
    f("sdc_noncritical", r.sdc_noncritical), f("sdc_critical", r.sdc_critical), f("due", r.due);
  }
};

template <>
struct Describe<PairingInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("point", r.point), f("model", r.model), f("shared", r.shared);
  }
};

template <>
struct Describe<TensorInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("name", r.name), f("kind", r.kind), f("elements", r.elements);
    f("originals", r.originals), f("word_bits", r.word_bits), f("layout", r.layout);
  }
};

template <>
struct Describe<NodeInfo> {
  template <class R, class F>
  static void each(R& r, F&& f) {
    f("name", r.name), f("op", r.op), f("macs", r.macs), f("parameters", r.parameters);
  }
};

/// Members that rows of schema 1 lack.
template <class Row>
inline constexpr std::array<std::string_view, 0> kSince2{};
template <>
inline constexpr std::array<std::string_view, 4> kSince2<TrialRow>{
    "faults_masked", "words_wrong", "words_flagged", "faults_stored"};
template <>
inline constexpr std::array<std::string_view, 4> kSince2<FaultRow>{"image", "effect", "length",
                                                                   "outcome"};
template <>
inline constexpr std::array<std::string_view, 1> kSince2<TensorInfo>{"layout"};
template <>
inline constexpr std::array<std::string_view, 5> kSince2<PointInfo>{"effect", "shape", "target",
                                                                    "selection", "lifetime"};

/// Whether rows of a schema version have the member.
template <class Row>
bool has_member(int schema, std::string_view name) {
  const auto& since2 = kSince2<Row>;
  return schema >= 2 || std::find(since2.begin(), since2.end(), name) == since2.end();
}

/// Members that a table may lack: it has them only where one of its rows needs them.
template <class Row>
bool is_optional(std::string_view) {
  return false;
}
template <>
inline bool is_optional<EstimateRow>(std::string_view name) {
  return name == "stratum";
}
template <>
inline bool is_optional<FaultRow>(std::string_view name) {
  return name == "outcome";
}
template <>
inline bool is_optional<PointInfo>(std::string_view name) {
  return name == "lifetime";
}
template <>
inline bool is_optional<StratumInfo>(std::string_view name) {
  return name == "misread";
}
template <class Row>
bool needs_optional(const Row&) {
  return false;
}
inline bool needs_optional(const EstimateRow& row) {
  return row.stratum >= 0;
}
inline bool needs_optional(const FaultRow&) {
  return true;  // whoever writes faults now tells it
}
inline bool needs_optional(const PointInfo& row) {
  return !row.lifetime.empty();
}
inline bool needs_optional(const StratumInfo& row) {
  return row.misread >= 0;
}

/// The row that a reader fills in, with what a file of that schema version does not tell.
template <class Row>
Row untold_row(int schema) {
  Row row{};
  if constexpr (std::is_same_v<Row, TrialRow>)
    if (schema < 2) row.words_wrong = row.words_flagged = kNotKnown;
  return row;
}

/// Bytes of a packed row without text members.
template <class Row>
constexpr std::size_t packed_size() {
  Row row{};
  std::size_t size = 0;
  Describe<Row>::each(row, [&](const char*, auto& value) { size += sizeof(value); });
  return size;
}

/// Copies a row without text members to `to`, returns the end.
template <class Row>
std::byte* pack(const Row& row, std::byte* to) {
  Describe<Row>::each(row, [&](const char*, const auto& value) {
    std::memcpy(to, &value, sizeof(value));
    to += sizeof(value);
  });
  return to;
}

template <class Row>
Row unpack(const std::byte* from) {
  Row row;
  Describe<Row>::each(row, [&](const char*, auto& value) {
    std::memcpy(&value, from, sizeof(value));
    from += sizeof(value);
  });
  return row;
}

}  // namespace sentinel::store
