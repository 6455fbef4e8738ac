// Tests of the thread pool under several callers, and of quotas in files made for the purpose.
#include "pool.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/cpus.h"
#include "runtime/thread_pool.h"

// Replaces the function of the C library, so that the battery pretends to have more CPUs than a small machine has, and
// several helpers steal from one another. The system ignores the CPUs in a mask that it does not have.
extern "C" int sched_getaffinity(pid_t, std::size_t size, cpu_set_t* set) noexcept {
  constexpr std::size_t pretended = 6;
  CPU_ZERO_S(size, set);
  for (std::size_t cpu = 0; cpu < pretended; ++cpu) CPU_SET_S(cpu, size, set);
  return 0;
}

namespace battery {
namespace {

using namespace leakyrelu;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::printf("pool: %s\n", what);
  std::_Exit(1);
}

// Runs of every length, one after the other or with a pause in which helpers fall asleep. Each element must be visited
// once, under the caller's rounding, and flags that the last element raises must be raised on the caller's thread.
void call_repeatedly(unsigned seed) {
  std::mt19937 random(seed);
  const int rounding = seed % 2 ? FE_UPWARD : FE_TONEAREST;
  std::fesetround(rounding);
  for (int round = 0; round < 400; ++round) {
    const auto n = static_cast<std::ptrdiff_t>(random() % 300);
    const bool raises = random() % 2;
    std::vector<int> met(static_cast<std::size_t>(n), 0);
    std::feclearexcept(FE_ALL_EXCEPT);
    parallel_for(n, {static_cast<std::ptrdiff_t>(1 + random() % 9), random() % 2 == 0},
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   expect(std::fegetround() == rounding, "a helper rounds in its own way");
                   for (std::ptrdiff_t i = begin; i < end; ++i) {
                     ++met[static_cast<std::size_t>(i)];
                     if (raises && i == n - 1) std::feraiseexcept(FE_DIVBYZERO);
                   }
                 });
    for (const int times : met) expect(times == 1, "an element was left out or met twice");
    expect((std::fetestexcept(FE_DIVBYZERO) != 0) == (raises && n > 0), "a flag was lost or made up");
    if (random() % 20 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
  }
  std::fesetround(FE_TONEAREST);
}

}  // namespace

void check_pool() {
  expect(usable_cpus() > 2, "there are no CPUs for several helpers");
  std::atomic<bool> stop{false};
  std::thread changes([&stop] {
    for (int count = 1; !stop.load(); count = count % 8 + 1) {
      set_num_threads(count);
      expect(get_num_threads() >= 1, "no thread is left");
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  std::vector<std::thread> callers;
  for (unsigned seed = 1; seed < 4; ++seed) callers.emplace_back(call_repeatedly, seed);
  call_repeatedly(4);
  for (std::thread& caller : callers) caller.join();
  stop = true;
  changes.join();
  set_num_threads(256);
  call_repeatedly(5);  // alone, with all helpers
}

void check_quota() {
  namespace fs = std::filesystem;
  const fs::path home = fs::temp_directory_path() / ("leakyrelu-quota-" + std::to_string(getpid()));
  const auto write = [&home](const std::string& path, const std::string& text) {
    fs::create_directories((home / path).parent_path());
    std::ofstream(home / path) << text;
  };
  const auto quota = [&](const std::string& groups) {
    write("groups", groups);
    return cpu_quota((home / "groups").string(), home.string());
  };
  write("a/cpu.max", "250000 100000\n");
  write("a/b/cpu.max", "max 100000\n");
  write("a/b/c/cpu.max", "900000 100000\n");
  write("half/cpu.max", "50000 100000\n");
  write("broken/cpu.max", "nonsense\n");
  write("cpu,cpuacct/x/cpu.cfs_quota_us", "350000\n");
  write("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  write("cpu,cpuacct/free/cpu.cfs_quota_us", "-1\n");
  write("cpu,cpuacct/free/cpu.cfs_period_us", "100000\n");
  expect(quota("0::/a\n") == 2, "2.5 CPUs are two");
  expect(quota("0::/a/b/c\n") == 2, "a group above binds as well");
  expect(quota("0::/half\n") == 1, "half a CPU is one");
  expect(quota("0::/broken\n") == 0, "nonsense is no quota");
  expect(quota("0::/elsewhere\n") == 0, "a group without files has no quota");
  expect(quota("4:cpu,cpuacct:/x\n") == 3, "control groups of version 1");
  expect(quota("4:cpu,cpuacct:/free\n") == 0, "no limit in version 1");
  expect(quota("4:cpu,cpuacct:/x\n0::/a\n") == 2, "the tightest binds");
  expect(quota("") == 0 && quota("no colons\n") == 0, "no groups, no quota");
  expect(cpu_quota((home / "missing").string(), home.string()) == 0, "no file, no quota");
  write("cpu.max", "100000 100000\n");
  expect(quota("0::/../elsewhere\n") == 1, "the group of the container itself");
  fs::remove_all(home);
}

}  // namespace battery
