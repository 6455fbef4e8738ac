// The thread pool: splits long runs over threads.
//
// The rules: never more threads than the caller asked for, than the affinity mask holds (read again at each long run)
// or than the container's CPU quota allows (read once); callers that arrive while others compute count as threads
// already in use, so a pool of callers (Dask, joblib, plain Python threads) never adds up to more than one caller a
// core and idle helpers; and a child made by fork starts with no helpers and makes its own when it first needs them.
#pragma once

#include <cstddef>
#include <string>

namespace leakyrelu {

// The number of threads that the next long run may use.
int get_num_threads();

// At least 1; more than the machine allows counts as what it allows.
void set_num_threads(int count);

// Reads LEAKYRELU_NUM_THREADS and OMP_NUM_THREADS. Returns an empty string, or the text of an error in the first.
std::string read_thread_environment();

// Computes on the threads of an OpenMP library that the process runs anyway, in place of helpers of our own: two pools
// would fight over the cores, since OpenMP's threads go on spinning for a while after each region. Takes the address of
// the library's GOMP_parallel, which is used on the calling thread alone; null returns to our own helpers. The child of
// a fork returns to them too, since it has no OpenMP threads.
void share_openmp(void* parallel_region);

// During its lifetime, runs of this thread use at most that many threads, even where set_num_threads() allows more; 0:
// no limit.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;
};

using Task = void (*)(const void* context, std::ptrdiff_t begin, std::ptrdiff_t end);

// Runs task over [0, n) in pieces whose borders are multiples of `piece`, on this thread and, if there are several
// pieces, on helper threads. `wake` says that the run is long enough for waking sleeping helpers to pay. Floating-point
// control (rounding) is that of the caller, and flags raised by helpers are raised here too.
void parallel(std::ptrdiff_t n, std::ptrdiff_t piece, bool wake, Task task, const void* context);

struct Split {
  std::ptrdiff_t piece;
  bool wake;
};

template <class Function>
void parallel_for(std::ptrdiff_t n, Split split, const Function& function) {
  parallel(
      n, split.piece, split.wake,
      [](const void* context, std::ptrdiff_t begin, std::ptrdiff_t end) {
        (*static_cast<const Function*>(context))(begin, end);
      },
      &function);
}

}  // namespace leakyrelu
