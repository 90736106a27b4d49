#pragma once
// The C interface only: the deprecated C++ one would need another library.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

namespace sentinel {

/// Throws EnvironmentError unless the call succeeded.
void check_mpi(int status, const char* what);

}  // namespace sentinel
