#include "transform/step_search.hpp"

#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"

namespace sentinel {

StepSearch::StepSearch(ToleranceOrder order, std::vector<int> steps, int guess)
    : order_(order),
      steps_(std::move(steps)),
      asked_(steps_.size(), false),
      quiet_(steps_.size(), false),
      changed_(steps_.size()) {
  if (order_ == ToleranceOrder::kProportional) at_ = open_up_to(guess);
  if (at_ == kNowhere) at_ = next(0);
}

bool StepSearch::is_open(std::size_t place) const {
  return place >= open_from_ && place < changed_ && !asked_[place];
}

std::size_t StepSearch::lowest_open() const {
  for (std::size_t place = open_from_; place < changed_; ++place)
    if (is_open(place)) return place;
  return kNowhere;
}

/// The highest open place whose step is not above this one.
std::size_t StepSearch::open_up_to(int step) const {
  for (std::size_t place = changed_; place-- > open_from_;)
    if (is_open(place) && steps_[place] <= step) return place;
  return kNowhere;
}

bool StepSearch::is_quiet_pair(std::size_t place) const {
  return quiet_[place] && (place == 0 || quiet_[place - 1]);
}

void StepSearch::answer(bool changed, double disturbance) {
  asked_[at_] = true;
  quiet_[at_] = !changed && disturbance <= 1;
  if (changed)
    changed_ = at_;
  else if (order_ != ToleranceOrder::kProportional)
    open_from_ = at_ + 1;
  else
    for (std::size_t place = at_; place < std::min(at_ + 2, changed_); ++place)
      if (is_quiet_pair(place)) open_from_ = place + 1;
  at_ = next(disturbance);
}

std::size_t StepSearch::next(double disturbance) const {
  if (lowest_open() == kNowhere) return kNowhere;
  switch (order_) {
    case ToleranceOrder::kExhaustive:
      return open_from_;
    case ToleranceOrder::kBisect:
      return (open_from_ + changed_) / 2;
    case ToleranceOrder::kProportional:
      return at_ == kNowhere ? lowest_open() : next_in_proportion(disturbance);
  }
  throw Bug("an order of steps without a next one");
}

std::size_t StepSearch::next_in_proportion(double disturbance) const {
  if (quiet_[at_] && !is_quiet_pair(at_) && is_open(at_ - 1)) return at_ - 1;
  // A disturbance grows about as the shift does.
  const double doublings = std::floor(std::log2(1 / disturbance));
  const double wanted = std::clamp<double>(steps_[at_] + doublings, steps_.front(), steps_.back());
  const std::size_t near = open_up_to(steps_[at_]);
  const std::size_t far = std::isinf(disturbance) ? near : open_up_to(static_cast<int>(wanted));
  if (far != kNowhere) return far;
  return near != kNowhere ? near : lowest_open();
}

std::optional<int> StepSearch::first_change() const {
  if (changed_ == steps_.size()) return std::nullopt;
  return steps_[changed_];
}

}  // namespace sentinel
