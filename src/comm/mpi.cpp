#include "comm/mpi.hpp"

#include <string>

#include "sentinel/core/error.hpp"

namespace sentinel {

void check_mpi(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw EnvironmentError(std::string("MPI failed in ") + what + ": " + text);
}

}  // namespace sentinel
