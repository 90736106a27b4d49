// Images as torchvision's transforms make them of Pillow's.
#include <cmath>
#include <filesystem>
#include <iostream>

#include "parity/support.hpp"

namespace sentinel::parity {
namespace {

bool have_torchvision() {
  return std::system("/usr/bin/python3 -c 'import PIL, torchvision' >/dev/null 2>&1") == 0;
}

TEST(Images, AreThoseOfPillowAndTorchvision) {
  if (!have_torchvision()) GTEST_SKIP() << "/usr/bin/python3 has no PIL and torchvision";
  const TemporaryFolder folder;
  const std::string made = run_script(folder, "make_images.py", {folder.path()});
  ASSERT_EQ(made.rfind("Pillow ", 0), 0u) << made;

  const Dataset dataset = read_dataset("imagenet", folder.path(), Split::kTest, {-1, 2});
  ASSERT_GT(dataset.size(), 100);
  for (std::size_t i = 0; i < dataset.labels().size(); ++i)
    ASSERT_EQ(dataset.labels()[i], static_cast<std::int64_t>(i));  // the same order

  const at::Tensor ours = dataset.batch(0, dataset.size(), {}).images;
  const at::Tensor theirs = read_floats(folder / "expected.f32", ours.sizes());
  const at::Tensor std = at::tensor({0.229, 0.224, 0.225}, at::kDouble).view({1, 3, 1, 1});
  const at::Tensor steps = ((ours.to(at::kDouble) - theirs.to(at::kDouble)) * std * 255).abs();
  const double largest = steps.max().item<double>();
  std::cout << "[ parity   ] " << made << "[ parity   ] " << dataset.size()
            << " images: pixels differ by at most " << largest << " / 255, "
            << (steps > 0.5).sum().item<std::int64_t>() << " of them by a step or more; "
            << (same_bits(ours, theirs) ? "normalised values are bitwise the same"
                                        : "normalised values differ in their last bits")
            << "\n";
  EXPECT_LE(largest, 1.001);  // a step of 8 bits (and float's last bits), in another libjpeg
}

}  // namespace
}  // namespace sentinel::parity
