#include "sentinel/networks/device.hpp"

#include <ATen/Parallel.h>
#include <torch/cuda.h>

#include <cstdlib>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"

namespace sentinel {
namespace {

constexpr NamedValue<DeviceChoice> kDevices[] = {
    {"auto", DeviceChoice::kAuto}, {"cpu", DeviceChoice::kCpu}, {"cuda", DeviceChoice::kCuda}};

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
  // Under --gpus-per-task each rank sees its own GPU alone.
  const bool bound = gpus == 1 && std::getenv("SLURM_GPUS_PER_TASK") != nullptr;
  if (comm.local_size() > gpus && !bound && !compute.share_gpu)
    throw EnvironmentError(std::to_string(comm.local_size()) + " ranks on this host but " +
                           std::to_string(gpus) + " GPUs; start fewer ranks or say " +
                           spelled(Setting::kShareGpu));
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(comm.local_rank() % gpus));
}

}  // namespace sentinel
