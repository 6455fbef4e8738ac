// The thread pool by itself, and the quota of control groups.
#pragma once

namespace battery {

// Both end the program at the first thing that is wrong.
void check_pool();
void check_quota();

}  // namespace battery
