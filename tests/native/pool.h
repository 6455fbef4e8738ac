// Tests of the thread pool, and of the quota of control groups.
#pragma once

namespace battery {

// Both end the program at the first failure.
void check_pool();
void check_quota();

}  // namespace battery
