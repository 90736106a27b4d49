#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/io/dataset.hpp"

// Ten classes: five shapes, each with stripes along or across. All are symmetric enough that flips
// and shifts of a few pixels, as in training, keep the class. Only + - * / and comparisons of
// doubles are used, which IEEE 754 fixes to the bit, so the set is the same everywhere.

namespace sentinel {
namespace {

constexpr int kSide = 32, kChannels = 3, kShapes = 5;
constexpr std::size_t kImageBytes = kSide * kSide * kChannels;
constexpr std::uint64_t kTestOffset = std::uint64_t{1} << 40;  // keeps the splits' streams apart

// What makes it hard. Few faint images rather than noise in all: so a small network learns the rest
// in a few epochs and still errs now and then. Measured with PyTorch (ResNet-20, 5000 images, crops
// and flips, SGD 0.1, cosine): 90.0 and 92.3 % of 1000 right after 6 epochs, 90.4 % after 8.
constexpr double kNoise = 8, kStripeContrast = 30, kShapeContrast = 60, kClutterContrast = 30;
constexpr int kClutter = 5, kOccluders = 2;
constexpr std::uint64_t kFaintOneIn = 12;

using Colour = std::array<double, kChannels>;
using Canvas = std::vector<Colour>;  // row by row, 0 … 255

double between(Rng& rng, double low, double high) {
  return low + (high - low) * rng.uniform();
}

Colour random_colour(Rng& rng, double low, double high) {
  Colour colour;
  for (double& value : colour) value = between(rng, low, high);
  return colour;
}

/// A colour brighter or darker than another by about `contrast`.
Colour away_from(Rng& rng, const Colour& from, double contrast) {
  const double step = rng.bits32() & 1 ? contrast : -contrast;
  Colour colour;
  for (std::size_t c = 0; c < kChannels; ++c) colour[c] = from[c] + step * between(rng, 0.5, 1.5);
  return colour;
}

/// Is the point (u right, v down, the shape's radius is 1) inside?
bool inside(int shape, double u, double v) {
  const double along = std::abs(u), down = std::abs(v), square = u * u + v * v;
  switch (shape) {
    case 0:
      return square <= 1.0;
    case 1:
      return along <= 0.86 && down <= 0.86;
    case 2:
      return v <= 0.85 && along <= 0.62 * (v + 1.0);
    case 3:
      return square <= 1.1 && square >= 0.25;
    case 4:
      return (along <= 0.36 && down <= 1.1) || (down <= 0.36 && along <= 1.1);
  }
  throw Bug("a synthetic shape that is not drawn");
}

/// Position, size and rotation of the object of an image.
struct Pose {
  double x, y, radius, cosine, sine, period, phase;
};

Pose random_pose(Rng& rng) {
  Pose pose{};
  pose.x = between(rng, 11.5, 19.5);
  pose.y = between(rng, 11.5, 19.5);
  pose.radius = between(rng, 7.0, 11.0);
  const double half_tangent = between(rng, -0.12, 0.12);  // ± 14 degrees
  const double norm = 1.0 + half_tangent * half_tangent;
  pose.cosine = (1.0 - half_tangent * half_tangent) / norm;
  pose.sine = 2.0 * half_tangent / norm;
  pose.period = between(rng, 3.5, 5.0);
  pose.phase = between(rng, 0.0, 1.0);
  return pose;
}

void draw_patch(Rng& rng, Canvas& canvas, double smallest, double largest, double contrast) {
  const double x = between(rng, 0, kSide), y = between(rng, 0, kSide);
  const double width = between(rng, smallest, largest), height = between(rng, smallest, largest);
  const bool round = rng.bits32() & 1;
  const Colour step = away_from(rng, Colour{}, contrast);
  for (int row = 0; row < kSide; ++row)
    for (int column = 0; column < kSide; ++column)
      if (inside(round ? 0 : 1, (column - x) / width, (row - y) / height))
        for (std::size_t c = 0; c < kChannels; ++c)
          canvas[static_cast<std::size_t>(row * kSide + column)][c] += step[c];
}

void draw_object(Rng& rng, Canvas& canvas, int shape, bool across, const Colour& background) {
  const Pose pose = random_pose(rng);
  const double faintness =
      rng.below(kFaintOneIn) == 0 ? between(rng, 0.1, 0.35) : between(rng, 0.8, 1.2);
  const Colour middle = away_from(rng, background, kShapeContrast * faintness);
  const Colour stripe = away_from(rng, Colour{}, kStripeContrast * faintness);
  for (int row = 0; row < kSide; ++row)
    for (int column = 0; column < kSide; ++column) {
      const double dx = column - pose.x, dy = row - pose.y;
      const double u = pose.cosine * dx + pose.sine * dy, v = pose.cosine * dy - pose.sine * dx;
      if (!inside(shape, u / pose.radius, v / pose.radius)) continue;
      const double wave = (across ? u : v) / pose.period + pose.phase;
      const double sign = wave - std::floor(wave) < 0.5 ? 1.0 : -1.0;
      for (std::size_t c = 0; c < kChannels; ++c)
        canvas[static_cast<std::size_t>(row * kSide + column)][c] = middle[c] + sign * stripe[c];
    }
}

/// About normal with standard deviation 1: the sum of eight random bytes (Irwin-Hall).
double rough_normal(Rng& rng) {
  std::uint32_t sum = 0;
  for (std::uint64_t bits = rng.bits64(); bits != 0; bits >>= 8) sum += bits & 0xff;
  constexpr double kMean = 8 * 127.5, kDeviation = 209.02;  // sqrt(8 (256^2 - 1) / 12)
  return (sum - kMean) / kDeviation;
}

void render(Rng& rng, std::int64_t label, std::uint8_t* pixels) {
  const Colour background = random_colour(rng, 70, 185);
  Canvas canvas(kSide * kSide, background);
  for (int i = 0; i < kClutter; ++i) draw_patch(rng, canvas, 1.5, 5.0, kClutterContrast);
  draw_object(rng, canvas, static_cast<int>(label % kShapes), label >= kShapes, background);
  for (int i = 0; i < kOccluders; ++i) draw_patch(rng, canvas, 1.5, 3.0, kClutterContrast);
  for (std::size_t c = 0; c < kChannels; ++c)
    for (const Colour& colour : canvas) {
      const double value = std::clamp(colour[c] + kNoise * rough_normal(rng), 0.0, 255.0);
      *pixels++ = static_cast<std::uint8_t>(value + 0.5);
    }
}

}  // namespace

Dataset synthetic_dataset(Split split, std::int64_t count, std::uint64_t seed) {
  if (count < 1) throw UserError("a synthetic data set needs at least one image");
  const DatasetInfo& info = dataset_info("synthetic");
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(count) * kImageBytes);
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t offset = split == Split::kTest ? kTestOffset : 0;
    Rng rng({seed, 0, offset + static_cast<std::uint64_t>(i), Purpose::kSynthetic});
    labels.push_back(i % info.classes);
    render(rng, labels.back(), pixels.data() + static_cast<std::size_t>(i) * kImageBytes);
  }
  return Dataset(info, std::move(pixels), std::move(labels));
}

}  // namespace sentinel
