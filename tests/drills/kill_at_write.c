// A library to preload: ends the process, or fills its disk, at the k-th call that changes a file
// and matches a pattern. Under mpirun only rank 0 is concerned.
//   SENTINELNN_SHIM_CALLS  extended regular expression of lines `<call> <path>`; without it nothing
//                          happens
//   SENTINELNN_SHIM_AT     k, from 1; 0 or absent: never
//   SENTINELNN_SHIM_HOW    before: SIGKILL right before the call
//                          torn: SIGKILL halfway, after half the bytes of a write or after another
//                          call has done its work
//                          full: half the bytes of a write, then no space, for this call and all
//                          further ones that need some
//                          fail: an input/output error for this call and all further ones
//                          stop: SIGSTOP right before the call, which is made after SIGCONT
//   SENTINELNN_SHIM_LOG    a file that gets the line of each matching call
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <regex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum effect { WRITES, NEEDS_SPACE, FREES };
enum verdict { PASS, BEFORE, TORN, HALF, NO_SPACE, IO_ERROR };

static regex_t pattern;
static int armed;
static atomic_long calls;
static long at;  // 0: never
static const char* how = "before";
static const char* log_path;

__attribute__((constructor)) static void read_environment(void) {
  const char* rank = getenv("OMPI_COMM_WORLD_RANK");
  const char* wanted = getenv("SENTINELNN_SHIM_CALLS");
  if (!wanted || (rank && strcmp(rank, "0") != 0)) return;
  if (regcomp(&pattern, wanted, REG_EXTENDED | REG_NOSUB) != 0) abort();
  if (getenv("SENTINELNN_SHIM_AT")) at = atol(getenv("SENTINELNN_SHIM_AT"));
  if (getenv("SENTINELNN_SHIM_HOW")) how = getenv("SENTINELNN_SHIM_HOW");
  log_path = getenv("SENTINELNN_SHIM_LOG");
  armed = 1;
}

// By system calls: the functions below are our own.
static void log_line(const char* line) {
  if (!log_path) return;
  const int fd = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
  const size_t size = strlen(line);
  if (fd < 0 || syscall(SYS_write, fd, line, size) != (long)size) abort();
  if (syscall(SYS_write, fd, "\n", 1) != 1) abort();
  syscall(SYS_close, fd);
}

static void die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

static int is(const char* name) {
  return strcmp(how, name) == 0;
}

/// What is to become of a call on `path`. A rename may make its directory grow.
static enum verdict judge(enum effect effect, const char* call, const char* path) {
  if (!armed) return PASS;
  char line[PATH_MAX + 16];
  snprintf(line, sizeof(line), "%s %s", call, path);
  if (regexec(&pattern, line, 0, NULL, 0) != 0) return PASS;
  const int saved = errno;
  log_line(line);
  errno = saved;
  const long number = atomic_fetch_add(&calls, 1) + 1;
  if (at == 0 || number < at) return PASS;
  if (is("fail")) return IO_ERROR;
  if (is("full"))
    return effect == FREES ? PASS : effect == WRITES && number == at ? HALF : NO_SPACE;
  if (number > at) return PASS;  // another thread, while the process is dying
  if (is("stop")) {
    syscall(SYS_kill, getpid(), SIGSTOP);
    return PASS;
  }
  return is("torn") ? TORN : BEFORE;
}

static enum verdict judge_fd(enum effect effect, const char* call, int fd) {
  if (!armed) return PASS;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const int saved = errno;
  const ssize_t size = readlink(link, path, sizeof(path) - 1);
  errno = saved;
  if (size < 0) return PASS;
  path[size] = 0;
  return judge(effect, call, path);
}

/// Before the call: whether it must not be made, errno saying why.
static int refused(enum verdict verdict) {
  if (verdict == BEFORE) die();
  if (verdict != NO_SPACE && verdict != IO_ERROR) return 0;
  errno = verdict == IO_ERROR ? EIO : ENOSPC;
  return 1;
}

/// How much of `size` the call is to write.
static size_t part(enum verdict verdict, size_t size) {
  return verdict == PASS ? size : (size + 1) / 2;
}

/// After the call.
static ssize_t done(enum verdict verdict, ssize_t result) {
  if (verdict == TORN) die();
  return result;
}

typedef ssize_t (*write_function)(int, const void*, size_t);
typedef ssize_t (*pwrite_function)(int, const void*, size_t, off_t);
typedef int (*truncate_function)(int, off_t);
typedef int (*sync_function)(int);
typedef int (*rename_function)(const char*, const char*);
typedef int (*remove_function)(const char*);

ssize_t write(int fd, const void* data, size_t size) {
  const write_function next = (write_function)dlsym(RTLD_NEXT, "write");
  const enum verdict verdict = judge_fd(WRITES, "write", fd);
  return refused(verdict) ? -1 : done(verdict, next(fd, data, part(verdict, size)));
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  const pwrite_function next = (pwrite_function)dlsym(RTLD_NEXT, "pwrite");
  const enum verdict verdict = judge_fd(WRITES, "pwrite", fd);
  return refused(verdict) ? -1 : done(verdict, next(fd, data, part(verdict, size), offset));
}

ssize_t pwrite64(int fd, const void* data, size_t size, off_t offset) {
  return pwrite(fd, data, size, offset);
}

int ftruncate(int fd, off_t size) {
  const truncate_function next = (truncate_function)dlsym(RTLD_NEXT, "ftruncate");
  const enum verdict verdict = judge_fd(FREES, "ftruncate", fd);
  return refused(verdict) ? -1 : (int)done(verdict, next(fd, size));
}

int ftruncate64(int fd, off_t size) {
  return ftruncate(fd, size);
}

static int sync_by(const char* call, int fd) {
  const sync_function next = (sync_function)dlsym(RTLD_NEXT, call);
  const enum verdict verdict = judge_fd(NEEDS_SPACE, call, fd);
  return refused(verdict) ? -1 : (int)done(verdict, next(fd));
}

int fsync(int fd) {
  return sync_by("fsync", fd);
}

int fdatasync(int fd) {
  return sync_by("fdatasync", fd);
}

int rename(const char* from, const char* to) {
  const rename_function next = (rename_function)dlsym(RTLD_NEXT, "rename");
  const enum verdict verdict = judge(NEEDS_SPACE, "rename", from);
  return refused(verdict) ? -1 : (int)done(verdict, next(from, to));
}

static int remove_by(const char* call, const char* path) {
  const remove_function next = (remove_function)dlsym(RTLD_NEXT, call);
  const enum verdict verdict = judge(FREES, call, path);
  return refused(verdict) ? -1 : (int)done(verdict, next(path));
}

int unlink(const char* path) {
  return remove_by("unlink", path);
}

int remove(const char* path) {
  return remove_by("remove", path);
}
