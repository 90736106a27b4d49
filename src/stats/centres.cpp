#include "sentinel/stats/centres.hpp"

#include "sentinel/stats/design.hpp"

namespace sentinel {

void Centres::add(double weight, const OutcomeShares& shares) {
  if (length_ == 0) length_ = Design::round_after(0);
  current_.weight += weight;
  for (std::size_t k = 0; k < shares.size(); ++k) current_.shares[k] += weight * shares[k];
  if (++trials_ == length_) end_round();
}

void Centres::end_round() {
  past_.weight += last_.weight;
  for (std::size_t k = 0; k < now_.size(); ++k) {
    past_.shares[k] += last_.shares[k];
    if (past_.weight > 0) now_[k] = past_.shares[k] / past_.weight;
  }
  last_ = current_;
  current_ = {};
  trials_ = 0;
  length_ = Design::round_after(length_);
  ++round_;
}

}  // namespace sentinel
