#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#if defined(LEAKYRELU_X86)
#include <immintrin.h>
#endif

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

namespace leakyrelu {
namespace {

// CPU quota -----------------------------------------------------------------------------------------------------------

// "max 100000" or "150000 100000" (control groups v2): how many whole CPUs, 0 where there is no limit.
int quota_v2(const std::string& path) {
  std::ifstream file(path + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  const int cpus = static_cast<int>(std::atof(quota.c_str()) / period);
  return cpus < 1 ? 1 : cpus;
}

int quota_v1(const std::string& path) {
  std::ifstream quota_file(path + "/cpu.cfs_quota_us"), period_file(path + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return 0;
  const int cpus = static_cast<int>(quota / period);
  return cpus < 1 ? 1 : cpus;
}

// The tightest quota among the control groups that this process is in. Read once: a quota rarely changes while a
// process lives, and files are too slow to read at each run.
int cpu_quota() {
  int tightest = 0;
  const auto consider = [&tightest](int cpus) {
    if (cpus > 0 && (tightest == 0 || cpus < tightest)) tightest = cpus;
  };
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    for (;;) {  // a limit of any ancestor binds as well
      if (controllers.empty()) consider(quota_v2("/sys/fs/cgroup" + path));
      if (controllers.find("cpu") != std::string::npos) consider(quota_v1("/sys/fs/cgroup/" + controllers + path));
      const auto slash = path.rfind('/');
      if (path.empty() || slash == std::string::npos) break;
      path = path.substr(0, slash);
    }
  }
  return tightest;
}

int affinity() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  // More CPUs than a cpu_set_t holds, or another system.
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : static_cast<int>(online);
}

// Helpers -------------------------------------------------------------------------------------------------------------

struct Job {
  Task task;
  const void* context;
  std::ptrdiff_t n, piece;
  std::fenv_t environment;
  std::atomic<std::ptrdiff_t> next{0};
  std::atomic<int> raised{0};

  void work() {
    for (;;) {
      const std::ptrdiff_t begin = next.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= n) return;
      task(context, begin, begin + piece < n ? begin + piece : n);
    }
  }
};

// Owned by one caller at a time. Its threads live as long as the process, and are detached: nobody waits for them at
// exit.
class Pool {
 public:
  void run(Job& job, int helpers) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (started_ < helpers && start_one()) {
      }
      job_ = &job;
      wanted_ = helpers < started_ ? helpers : started_;
      running_ = 0;
      ++generation_;
    }
    wake_.notify_all();
    job.work();
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // who has not started by now need not
    done_.wait(lock, [this] { return running_ == 0; });
    job_ = nullptr;
  }

 private:
  bool start_one() {
    try {
      std::thread([this] { help(); }).detach();
    } catch (const std::system_error&) {
      return false;  // no more threads to be had: the caller does the work
    }
    ++started_;
    return true;
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    unsigned long seen = 0;
    for (;;) {
      wake_.wait(lock, [&] { return generation_ != seen && wanted_ > 0; });
      seen = generation_;
      --wanted_;
      ++running_;
      Job& job = *job_;
      lock.unlock();
      std::fesetenv(&job.environment);
      std::feclearexcept(FE_ALL_EXCEPT);
      job.work();
      job.raised.fetch_or(std::fetestexcept(FE_ALL_EXCEPT));
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  int started_ = 0, wanted_ = 0, running_ = 0;
  unsigned long generation_ = 0;
};

std::atomic<Pool*> pool{nullptr};
std::atomic<bool> pool_taken{false};
std::atomic<int> callers{0};
std::atomic<int> requested{0};  // 0: as many as allowed

// The child of a fork has one thread. The parent's pool, perhaps locked, is left alone for good.
void forget_pool() {
  pool = nullptr;
  pool_taken = false;
  callers = 0;
}

// Flags that helpers raised, raised on this thread.
void raise_flags(int raised) {
#if defined(LEAKYRELU_X86)
  // In the SSE unit. feraiseexcept() would set some of them in the x87 unit, where short runs do not look
  // (operands.cpp).
  _mm_setcsr(_mm_getcsr() | static_cast<unsigned>(raised & FE_ALL_EXCEPT));
#else
  std::feraiseexcept(raised & FE_ALL_EXCEPT);
#endif
}

int positive_number(const char* text) {
  if (text == nullptr) return 0;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && (*end == '\0' || *end == ',') && value > 0 && value < 1 << 20 ? static_cast<int>(value) : -1;
}

}  // namespace

int usable_cpus() {
  static const int quota = cpu_quota();
  const int cpus = affinity();
  return quota > 0 && quota < cpus ? quota : cpus;
}

int get_num_threads() {
  const int allowed = usable_cpus(), wanted = requested;
  return wanted > 0 && wanted < allowed ? wanted : allowed;
}

void set_num_threads(int count) { requested = count; }

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
  return {};
}

void parallel(std::ptrdiff_t n, std::ptrdiff_t piece, Task task, const void* context) {
  if (n <= piece) {
    task(context, 0, n);
    return;
  }
  const int others = callers.fetch_add(1);
  int helpers = get_num_threads() - 1 - others;
  const std::ptrdiff_t pieces = (n + piece - 1) / piece;
  if (helpers > pieces - 1) helpers = static_cast<int>(pieces - 1);
  if (helpers < 1 || pool_taken.exchange(true)) {
    task(context, 0, n);
  } else {
    if (pool.load() == nullptr) pool = new Pool;
    Job job{task, context, n, piece, {}};
    std::fegetenv(&job.environment);
    pool.load()->run(job, helpers);
    if (const int raised = job.raised.load()) raise_flags(raised);
    pool_taken = false;
  }
  --callers;
}

}  // namespace leakyrelu
