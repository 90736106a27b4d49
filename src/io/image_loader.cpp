#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <future>

#include "image.hpp"
#include "imagenet.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/memory.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kPlane = kViewSide * kViewSide, kViewBytes = 3 * kPlane;
constexpr std::uint64_t kFileBytes = std::uint64_t{512} << 20;  // more is no photograph
constexpr double kGiB = 1 << 30;

/// For the images, and once more while the ranks get them.
void check_memory(std::size_t images) {
  const std::uint64_t needed = 2 * images * kViewBytes, there = memory_of_node();
  if (needed <= there) return;
  throw UserError(
      fmt::format("{} images take {:.1f} GiB of memory until every rank has them, but there are "
                  "{:.1f}; ask for fewer ({}, {}, {})",
                  images, static_cast<double>(needed) / kGiB, static_cast<double>(there) / kGiB,
                  spelled(Setting::kImages), spelled(Setting::kRankingImages),
                  spelled(Setting::kCalibrationImages)));
}

/// One file as [3, 224, 224].
void read_view(const std::string& path, std::uint8_t* planes) {
  const Image view = evaluation_view(decode_image(read_file(path, kFileBytes), path));
  for (std::size_t i = 0; i < kPlane; ++i)
    for (std::size_t c = 0; c < 3; ++c) planes[c * kPlane + i] = view.pixels[3 * i + c];
}

class Loader {
 public:
  Loader(const ImageFiles& files, const ImageRequest& request)
      : files_(files),
        request_(request),
        wanted_(request.images < 0
                    ? files.paths.size()
                    : std::min(files.paths.size(), static_cast<std::size_t>(request.images))) {
    check_memory(wanted_);
    pixels_.resize(wanted_ * kViewBytes);
  }

  /// Rounds: what was broken in one is made up for in the next.
  Dataset load(const DatasetInfo& info) {
    std::size_t next = 0;
    while (labels_.size() < wanted_ && next < files_.paths.size()) {
      const std::size_t count = std::min(wanted_ - labels_.size(), files_.paths.size() - next);
      keep_good(next, decode(next, count));
      next += count;
    }
    const std::size_t broken = next - labels_.size();
    if (broken == files_.paths.size())
      throw DataError(files_.paths[0], "cannot be read, and neither can any other image");
    if (broken > 0) spdlog::warn("{} of {} images cannot be read and are left out", broken, next);
    pixels_.resize(labels_.size() * kViewBytes);
    return Dataset(info, std::move(pixels_), std::move(labels_));
  }

 private:
  std::uint8_t* slot(std::size_t image) { return pixels_.data() + image * kViewBytes; }

  /// Files first … first+count-1 into the slots after those filled; what each of them threw.
  std::vector<std::exception_ptr> decode(std::size_t first, std::size_t count) {
    std::vector<std::exception_ptr> errors(count);
    std::atomic<std::size_t> taken{0};
    std::atomic<bool> failed{false};
    const auto work = [&](Progress* progress) {
      // Whoever has taken an image reads it. So when one fails, all before it are read too, and the
      // first of those that fail is the same whatever the threads do.
      while (!failed && stop_signal() == 0) {
        const std::size_t i = taken++;
        if (i >= count) return;
        try {
          read_view(files_.paths[first + i], slot(labels_.size() + i));
        } catch (...) {
          errors[i] = std::current_exception();
          failed = !request_.skip_broken;
        }
        if (progress) progress->update(labels_.size() + i + 1);
      }
    };
    std::vector<std::future<void>> helpers;
    for (int i = 1; i < request_.threads; ++i)
      helpers.push_back(std::async(std::launch::async, work, nullptr));
    Progress progress("reading", "images", wanted_, labels_.size());
    work(&progress);
    for (std::future<void>& helper : helpers) helper.get();
    if (stop_signal() != 0)
      throw Error(stop_code(), fmt::format("stopped by signal {} while images were read; run the "
                                           "same command again",
                                           stop_signal()));
    return errors;
  }

  /// Closes the gaps that broken images leave.
  void keep_good(std::size_t first, const std::vector<std::exception_ptr>& errors) {
    const std::size_t filled = labels_.size();
    for (std::size_t i = 0; i < errors.size(); ++i) {
      if (errors[i]) {
        leave_out(errors[i]);
        continue;
      }
      std::memmove(slot(labels_.size()), slot(filled + i), kViewBytes);
      labels_.push_back(files_.labels[first + i]);
    }
  }

  /// Throws what is no broken image, or must not be left out.
  void leave_out(const std::exception_ptr& error) const {
    try {
      std::rethrow_exception(error);
    } catch (const DataError& broken) {
      if (!request_.skip_broken) throw;
      spdlog::warn("left out: {}", broken.what());
    }
  }

  const ImageFiles& files_;
  const ImageRequest& request_;
  std::size_t wanted_;
  std::vector<std::uint8_t> pixels_;  // [wanted, 3, 224, 224]
  std::vector<std::int64_t> labels_;  // of the slots filled
};

}  // namespace

Dataset load_images(const DatasetInfo& info, const ImageFiles& files, const ImageRequest& request) {
  return Loader(files, request).load(info);
}

}  // namespace sentinel
