// Images per second that one thread reads, decodes and resizes as `--dataset imagenet` does.
//   bench_images FILE...
#include <chrono>
#include <cstdio>

#include "io/image.hpp"
#include "sentinel/core/file.hpp"

int main(int count, char** names) {
  const auto start = std::chrono::steady_clock::now();
  std::size_t bytes = 0;  // used, so that nothing is left out
  for (int i = 1; i < count; ++i) {
    const auto file = sentinel::read_file(names[i]);
    bytes += sentinel::evaluation_view(sentinel::decode_image(file, names[i])).pixels.size();
  }
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  if (bytes == 0) return 1;
  std::printf("%.1f\n", (count - 1) / time.count());
}
