#pragma once
// The C interface only: the deprecated C++ one would need another library.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include "sentinel/comm/comm.hpp"

namespace sentinel {

/// MPI_COMM_WORLD between MPI_Init_thread and MPI_Finalize.
class Comm::World {
 public:
  World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  bool active = false;
  int rank = 0, size = 1, local_rank = 0, local_size = 1;
  double cpus = 1;
};

/// Throws EnvironmentError unless the call succeeded.
void check_mpi(int status, const char* what);

}  // namespace sentinel
