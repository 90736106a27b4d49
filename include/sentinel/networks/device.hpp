#pragma once
#include <ATen/ATen.h>

#include <string>

#include "sentinel/comm/comm.hpp"

namespace sentinel {

enum class DeviceChoice {
  kAuto,  // a GPU where there are any
  kCpu,
  kCuda,
};
/// "auto", "cpu", "cuda". UserError.
DeviceChoice parse_device(const std::string& word);
std::string device_name(DeviceChoice device);

/// Where and how to compute on this rank.
struct Compute {
  DeviceChoice device = DeviceChoice::kAuto;
  int threads = 1;  // CPU threads per rank: one rank per core beats one rank with many threads
  bool share_gpu = false;  // several ranks on one GPU
};

/// The device of this rank: one GPU per local rank where there are GPUs and they are wanted.
/// EnvironmentError where the device cuda cannot be had or ranks outnumber GPUs (unless shared).
/// Also sets the CPU threads of the caller.
at::Device choose_device(const Comm& comm, const Compute& compute);

/// This rank's share of the memory of its device [bytes]: of the node's, or of what is free on its
/// GPU. EnvironmentError where that cannot be known.
std::uint64_t memory_of_rank(const Comm& comm, at::Device device);

}  // namespace sentinel
