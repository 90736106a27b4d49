#include "sentinel/networks/device.hpp"

#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <dlfcn.h>
#include <torch/cuda.h>

#include <cstdlib>

#include "sentinel/core/error.hpp"
#include "sentinel/core/memory.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"

namespace sentinel {
namespace {

constexpr NamedValue<DeviceChoice> kDevices[] = {
    {"auto", DeviceChoice::kAuto}, {"cpu", DeviceChoice::kCpu}, {"cuda", DeviceChoice::kCuda}};

/// Under --gpus-per-task each rank sees its own GPU alone.
bool has_own_gpu(int gpus) {
  return gpus == 1 && std::getenv("SLURM_GPUS_PER_TASK") != nullptr;
}

/// [bytes]. By the CUDA that LibTorch brings: its headers are part of the toolkit, which is not
/// needed to build.
std::uint64_t free_memory_of(at::Device gpu) {
  using MemGetInfo = int (*)(std::size_t * free, std::size_t * total);
  const auto ask = reinterpret_cast<MemGetInfo>(::dlsym(RTLD_DEFAULT, "cudaMemGetInfo"));
  const c10::DeviceGuard guard(gpu);
  std::size_t free = 0, total = 0;
  if (ask == nullptr || ask(&free, &total) != 0)
    throw EnvironmentError(
        "the GPU does not say how much memory it has; " + spelled(Setting::kCacheBudget) +
        " says how much to use");
  return free;
}

}  // namespace

DeviceChoice parse_device(const std::string& word) {
  return parse_word(kDevices, Setting::kDevice, word);
}

std::string device_name(DeviceChoice device) {
  return word_for(kDevices, device);
}

at::Device choose_device(const Comm& comm, const Compute& compute) {
  at::set_num_threads(compute.threads);
  const auto gpus = static_cast<int>(torch::cuda::device_count());
  if (compute.device == DeviceChoice::kCpu) return at::kCPU;
  if (compute.device == DeviceChoice::kAuto && gpus == 0) return at::kCPU;
  if (gpus == 0)
    throw EnvironmentError(
        spelled(Setting::kDevice) +
        " cuda: no GPU can be used here (LibTorch without CUDA, or none is visible)");
  if (comm.local_size() > gpus && !has_own_gpu(gpus) && !compute.share_gpu)
    throw EnvironmentError(std::to_string(comm.local_size()) + " ranks on this host but " +
                           std::to_string(gpus) + " GPUs; start fewer ranks or say " +
                           spelled(Setting::kShareGpu));
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(comm.local_rank() % gpus));
}

std::uint64_t memory_of_rank(const Comm& comm, at::Device device) {
  const auto ranks = static_cast<std::uint64_t>(comm.local_size());
  if (device.is_cpu()) return memory_of_node() / ranks;
  const auto gpus = static_cast<int>(torch::cuda::device_count());
  const std::uint64_t sharing =
      has_own_gpu(gpus) ? 1 : (ranks - 1) / static_cast<std::uint64_t>(gpus) + 1;
  return free_memory_of(device) / sharing;
}

}  // namespace sentinel
