#include "sentinel/campaign/trial_images.hpp"

#include <fmt/format.h>

#include "sentinel/core/error.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

Dataset part_of(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                ImagesOf of) {
  const auto all = [&](Split split) { return load_dataset(comm, selection, fallback, split, -1); };
  switch (of) {
    case ImagesOf::kTest:
      return all(Split::kTest);
    case ImagesOf::kHeldOut:
      return hold_out(all(Split::kTrain)).held_out;
    case ImagesOf::kFirstHalf:
    case ImagesOf::kSecondHalf: {
      const Dataset test = all(Split::kTest);
      const std::int64_t half = test.size() / 2;
      return of == ImagesOf::kFirstHalf ? test.part(0, half) : test.part(half, test.size());
    }
  }
  throw Bug("images of an unknown part");
}

}  // namespace

std::string in_words(ImagesOf images) {
  switch (images) {
    case ImagesOf::kTest:
      return "the test images";
    case ImagesOf::kHeldOut:
      return "the last tenth of the training images";
    case ImagesOf::kFirstHalf:
      return "the first half of the test images";
    case ImagesOf::kSecondHalf:
      return "the second half of the test images";
  }
  throw Bug("images of an unknown part");
}

Dataset trial_images(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                     ImagesOf of, std::int64_t images) {
  if (of == ImagesOf::kTest)  // no more of them than are wanted
    return load_dataset(comm, selection, fallback, Split::kTest, images);
  const Dataset part = part_of(comm, selection, fallback, of);
  comm.agree([&] {
    if (images > part.size())
      throw UserError(fmt::format("{} images are asked for, but {} of {} has {}", images,
                                  in_words(of), part.info().name, part.size()));
  });
  return part.first(images);
}

}  // namespace sentinel
