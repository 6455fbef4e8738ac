#include "runtime/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#if defined(LEAKYRELU_X86)
#include <immintrin.h>
#endif

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#include "runtime/cpus.h"

namespace leakyrelu {
namespace {

inline void pause() {
#if defined(LEAKYRELU_X86)
  _mm_pause();
#elif defined(LEAKYRELU_ARM64)
  asm volatile("yield");
#endif
}

// Tests the condition repeatedly for about ten microseconds, and returns whether it became true. Waking a sleeping
// thread takes about as long, and networks call in bursts.
template <class Condition>
bool spin_until(const Condition& condition) {
  constexpr int spins = 4000;
  for (int i = 0; i < spins; ++i) {
    if (condition()) return true;
    pause();
  }
  return condition();
}

constexpr int most_threads = 256;

// A run in progress. Every thread owns a part, the same at each run of the same length, so that it finds in its cache
// what it wrote there the last time. (Handing out pieces in turn took 100 us instead of 57: 2^20 floats into the
// caller's output, two cores of an AMD EPYC 25/17.) The owner takes pieces from the front; a thread that has finished
// its own part steals from the back of the others, so that stolen pieces are about the same each time, too.
struct Job {
  struct alignas(64) Part {
    struct Rest {
      std::uint32_t front, back;  // pieces
    };
    std::atomic<Rest> rest;

    bool take(bool own, std::uint32_t& piece) {
      Rest now = rest.load(std::memory_order_relaxed);
      for (;;) {
        if (now.front >= now.back) return false;
        const Rest then = own ? Rest{now.front + 1, now.back} : Rest{now.front, now.back - 1};
        piece = own ? now.front : then.back;
        if (rest.compare_exchange_weak(now, then, std::memory_order_relaxed)) return true;
      }
    }
  };

  Task task;
  const void* context;
  std::ptrdiff_t n, length;  // of a piece
  int parts;
  std::fenv_t environment;
  std::atomic<int> raised{0};
  Part part[most_threads];

  Job(Task task, const void* context, std::ptrdiff_t n, std::ptrdiff_t length, int parts)
      : task(task), context(context), n(n), length(length), parts(parts) {
    std::fegetenv(&environment);
    const std::ptrdiff_t pieces = (n + length - 1) / length;
    const auto border = [&](int i) { return static_cast<std::uint32_t>(pieces * i / parts); };
    for (int i = 0; i < parts; ++i) part[i].rest.store({border(i), border(i + 1)}, std::memory_order_relaxed);
  }

  // For a helper thread, whose own floating-point environment is restored afterwards.
  void help(int thread) {
    std::fenv_t own;
    std::fegetenv(&own);
    std::fesetenv(&environment);
    std::feclearexcept(FE_ALL_EXCEPT);
    work(thread);
    raised.fetch_or(std::fetestexcept(FE_ALL_EXCEPT));
    std::fesetenv(&own);
  }

  void work(int thread) {
    for (int i = 0; i < parts; ++i) {
      std::uint32_t piece;
      while (part[(thread + i) % parts].take(i == 0, piece)) {
        const std::ptrdiff_t begin = piece * length, end = begin + length;
        task(context, begin, end < n ? end : n);
      }
    }
  }
};

// The helper threads, used by one caller at a time. They live as long as the process, and are detached, so that exit
// does not wait for them.
class Pool {
 public:
  // Sleeping helpers are woken only if `wake` is true; those still awake from the last job join in any case.
  void run(Job& job, int helpers, bool wake) {
    if (started_ < helpers) wake = true;
    while (started_ < helpers && start_one()) {
    }
    job_ = &job;
    const State open = {state_.load().generation + 1, static_cast<std::uint16_t>(helpers), 0};
    state_.store(open);
    if (wake && sleeping_.load() > 0) {
      keep_off_this_cpu();
      {
        std::lock_guard<std::mutex> lock(mutex_);
      }
      wake_.notify_all();
    }
    job.work(0);
    // All pieces are taken, so helpers that have not joined by now are no longer admitted.
    State now = state_.load();
    while (!state_.compare_exchange_weak(now, {now.generation, 0, now.running})) {
    }
    const auto finished = [this] { return state_.load().running == 0; };
    if (spin_until(finished)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, finished);
  }

 private:
  struct State {
    std::uint32_t generation;
    std::uint16_t places;   // for helpers that have not joined yet
    std::uint16_t running;  // helpers at work; the job must outlive them
  };

  // A thread that wakes is often put on the CPU of the one that woke it, above all in a virtual machine, where an idle
  // CPU looks unavailable; there it waits for the end of the run that it should share, until the load balancer moves it
  // milliseconds later (2^20 floats: 130 us a call instead of 57). So before they are woken, helpers are bound to the
  // other CPUs of the caller's mask.
  void keep_off_this_cpu() {
#if defined(__linux__)
    cpu_set_t others;
    const int here = sched_getcpu();
    if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof others, &others) != 0) return;
    CPU_CLR(here, &others);
    if (CPU_COUNT(&others) == 0 || (bound_ == started_ && CPU_EQUAL(&others, &bound_to_))) return;
    for (int i = 0; i < started_; ++i) pthread_setaffinity_np(threads_[i], sizeof others, &others);
    bound_to_ = others;
    bound_ = started_;
#endif
  }

  bool start_one() {
    // Helpers block all signals: a signal that the threads of the program block must not be delivered to a helper
    // instead.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = start_with_this_mask();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  }

  bool start_with_this_mask() {
    try {
      std::thread thread([this, number = started_ + 1, seen = state_.load().generation] { help(number, seen); });
      threads_[started_] = thread.native_handle();
      thread.detach();
    } catch (const std::exception&) {
      return false;  // no more threads or memory available: the caller does the work
    }
    ++started_;
    return true;
  }

  void help(int thread, std::uint32_t seen) {
    for (;;) {
      const auto called = [&] { return state_.load().generation != seen; };
      if (!spin_until(called)) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++sleeping_;  // before the last test: the caller opens the job before it reads this counter
        wake_.wait(lock, called);
        --sleeping_;
      }
      State now = state_.load();
      seen = now.generation;
      bool joined = false;
      while (now.generation == seen && now.places > 0 && !joined)
        joined = state_.compare_exchange_weak(now, {now.generation, static_cast<std::uint16_t>(now.places - 1),
                                                    static_cast<std::uint16_t>(now.running + 1)});
      if (!joined) continue;
      job_->help(thread);
      now = state_.load();
      while (!state_.compare_exchange_weak(now,
                                           {now.generation, now.places, static_cast<std::uint16_t>(now.running - 1)})) {
      }
      if (now.running == 1) {
        {
          std::lock_guard<std::mutex> lock(mutex_);
        }
        done_.notify_one();
      }
    }
  }

  std::atomic<State> state_{State{0, 0, 0}};
  Job* job_ = nullptr;
  int started_ = 0;
  pthread_t threads_[most_threads];
#if defined(__linux__)
  int bound_ = 0;  // how many helpers are bound to bound_to_
  cpu_set_t bound_to_;
#endif
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
};

std::atomic<Pool*> pool{nullptr};
std::atomic<bool> pool_taken{false};
std::atomic<int> callers{0};
std::atomic<int> requested{0};  // 0: as many as allowed
thread_local int limit = 0;     // 0: none

// GOMP_parallel(function, data, threads, flags), which starts a parallel region in GCC's OpenMP library; null: our own
// helpers.
using OpenMP = void (*)(void (*)(void*), void*, unsigned, unsigned);
std::atomic<OpenMP> openmp{nullptr};
// The thread that called share_openmp(). OpenMP keeps a team of threads for every thread that ever started a region, so
// a pool of callers would end up with as many teams; all other threads share our own helpers.
std::atomic<std::thread::id> openmp_caller{};

void run_on_openmp(OpenMP region, Job& job) {
  struct Region {
    Job& job;
    std::thread::id caller;
    std::atomic<int> joined{0};
  } shared{job, std::this_thread::get_id()};
  region(
      [](void* data) {
        auto& [job, caller, joined] = *static_cast<Region*>(data);
        if (std::this_thread::get_id() == caller)
          job.work(0);
        else
          job.help(++joined);
      },
      &shared, static_cast<unsigned>(job.parts), 0);
}

// The child of a fork has one thread. The parent's pool, which may be locked, is never used again.
void forget_pool() {
  openmp = nullptr;
  pool = nullptr;
  pool_taken = false;
  callers = 0;
}

// Raises on this thread the flags that helpers raised.
void raise_flags(int raised) {
#if defined(LEAKYRELU_X86)
  // In the SSE unit. feraiseexcept() would set some of them in the x87 unit, where short runs do not look
  // (operands.cpp).
  _mm_setcsr(_mm_getcsr() | static_cast<unsigned>(raised & FE_ALL_EXCEPT));
#else
  std::feraiseexcept(raised & FE_ALL_EXCEPT);
#endif
}

int at_most(int allowed) {
  const int wanted = requested;
  return wanted > 0 && wanted < allowed ? wanted : allowed;
}

// The affinity mask is read at each run that is long enough to wake helpers, and at every 64th shorter one, for which
// the system call would be noticeable.
int allowed_now(bool fresh) {
  static std::atomic<int> last{0};
  static std::atomic<unsigned> uses{0};
  if (fresh || last == 0 || uses++ % 64 == 0) last = usable_cpus();
  return at_most(last);
}

int positive_number(const char* text) {
  if (text == nullptr) return 0;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || (*end != '\0' && *end != ',') || value < 1) return -1;
  return static_cast<int>(value < 1 << 20 ? value : 1 << 20);
}

}  // namespace

int get_num_threads() { return at_most(usable_cpus()); }

void set_num_threads(int count) { requested = count; }

ThreadLimit::ThreadLimit(int threads) { limit = threads; }
ThreadLimit::~ThreadLimit() { limit = 0; }

std::string read_thread_environment() {
  static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  static_cast<void>(registered);
  const char* ours = std::getenv("LEAKYRELU_NUM_THREADS");
  const int wanted = positive_number(ours);
  if (ours != nullptr && *ours != '\0' && wanted <= 0)
    return std::string("LEAKYRELU_NUM_THREADS=") + ours +
           " is not a number of threads; set it to 1 or more, or unset it to " +
           "use every CPU that this process may use.";
  const int conventional = positive_number(std::getenv("OMP_NUM_THREADS"));
  requested = wanted > 0 ? wanted : conventional > 0 ? conventional : 0;
  usable_cpus();  // reads the quota, which needs memory, here and not in the first long run
  return {};
}

void share_openmp(void* parallel_region) {
  openmp_caller = std::this_thread::get_id();
  openmp = reinterpret_cast<OpenMP>(parallel_region);
}

void parallel(std::ptrdiff_t n, std::ptrdiff_t piece, bool wake, Task task, const void* context) {
  const std::ptrdiff_t pieces = (n + piece - 1) / piece;
  if (pieces <= 1) {
    task(context, 0, n);
    return;
  }
  const int others = callers.fetch_add(1);
  const int threads = allowed_now(wake);
  int helpers = (limit > 0 && limit < threads ? limit : threads) - 1 - others;
  if (helpers > pieces - 1) helpers = static_cast<int>(pieces - 1);
  if (helpers > most_threads - 1) helpers = most_threads - 1;
  if (helpers < 1 || pool_taken.exchange(true)) {
    task(context, 0, n);
  } else {
    Job job(task, context, n, piece, helpers + 1);
    if (const OpenMP region = openmp.load(); region != nullptr && openmp_caller.load() == std::this_thread::get_id()) {
      run_on_openmp(region, job);
    } else {
      if (pool.load() == nullptr) pool = new (std::nothrow) Pool;
      if (Pool* ready = pool.load())
        ready->run(job, helpers, wake);
      else
        task(context, 0, n);
    }
    if (const int raised = job.raised.load()) raise_flags(raised);
    pool_taken = false;
  }
  --callers;
}

}  // namespace leakyrelu
