#include "runtime/cpus.h"

#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace leakyrelu {
namespace {

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

int affinity() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  // More CPUs than a cpu_set_t holds, or another system.
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : static_cast<int>(online);
}

}  // namespace

int cpu_quota(const std::string& groups, const std::string& mount) {
  int tightest = 0;
  const auto consider = [&tightest](int cpus) {
    if (cpus > 0 && (tightest == 0 || cpus < tightest)) tightest = cpus;
  };
  std::ifstream file(groups);
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    for (;;) {  // a limit of any ancestor binds as well
      if (controllers.empty()) consider(quota_v2(mount + path));
      if (controllers.find("cpu") != std::string::npos) consider(quota_v1(mount + "/" + controllers + path));
      const auto slash = path.rfind('/');
      if (path.empty() || slash == std::string::npos) break;
      path = path.substr(0, slash);
    }
  }
  return tightest;
}

int usable_cpus() {
  // Read once: a quota rarely changes while a process lives, and files are too slow to read at each run.
  static const int quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  const int cpus = affinity();
  return quota > 0 && quota < cpus ? quota : cpus;
}

}  // namespace leakyrelu
