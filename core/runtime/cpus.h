// How many CPUs this process may use.
#pragma once

#include <string>

namespace leakyrelu {

// The number of CPUs that the affinity mask and the CPU quota allow.
int usable_cpus();

// The least CPU quota of the control groups that a file like /proc/self/cgroup names, and of those above them, in whole
// CPUs; 0 where there is none. Their files lie below `mount`.
int cpu_quota(const std::string& groups, const std::string& mount);

}  // namespace leakyrelu
