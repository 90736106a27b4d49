#pragma once
#include <cstdint>

namespace sentinel {

/// Whether so many right answers are those of a network that guesses among its classes. Two exact
/// binomial tails decide: the answers are not significantly (5 %) more than guessing gives; and a
/// network that is right for a third of the images beyond chance would have more (99 %). So a
/// handful of images says nothing. False for fewer than two classes.
bool looks_like_guessing(std::int64_t correct, std::int64_t images, std::int64_t classes);

}  // namespace sentinel
