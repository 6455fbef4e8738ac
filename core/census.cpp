#include "census.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "dispatch.h"
#include "leaky_relu.h"
#include "run.h"
#include "threads.h"

namespace leakyrelu {
namespace {

using std::ptrdiff_t;

// A unit whose runs are shorter than this is taken apart: each place within a run becomes a column, beside its
// neighbors, and the columns of a unit are added up at the end.
constexpr ptrdiff_t shortest_run = 32;
// Rows taken at once where columns lie side by side: the next columns find their part of them in the cache.
constexpr ptrdiff_t row_block = 16;
constexpr ptrdiff_t piece_bytes = 128 * 1024, wake_bytes = 1024 * 1024;

struct Group {
  CensusRule rule;
  CensusSums sums;
  CensusExceptions exceptions;
};

double read(DType dtype, const char* x) {
  const auto as = [x](auto value) {
    std::memcpy(&value, x, sizeof value);
    return static_cast<double>(Number<decltype(value)>::widen(value));
  };
  switch (dtype) {
    case DType::half:
      return as(Half());
    case DType::bfloat16:
      return as(BFloat16());
    case DType::float32:
      return as(float());
    default:
      return as(double());
  }
}

class Census {
 public:
  Census(DType dtype, const char* x, const Layout& layout, double low, double ceiling)
      : dtype_(dtype), x_(x), size_(size_of(dtype)), layout_(layout), low_(low), ceiling_(ceiling) {
    side_by_side_ = layout.inner == 1 || (layout.inner < shortest_run && layout.inner <= layout.outer);
    columns_ = side_by_side_ ? layout.channels * layout.inner : census_columns;
    groups_ = side_by_side_ ? (columns_ + census_columns - 1) / census_columns : layout.channels;
  }

  void run(std::int64_t* counts, double* moments) {
    std::vector<Group> groups = walk();
    if (!all_finite(groups)) {
      careful_ = true;
      groups = walk();
    }
    add_up(groups, counts, moments);
  }

 private:
  ptrdiff_t unit_of(ptrdiff_t group, int column) const {
    return side_by_side_ ? (group * census_columns + column) / layout_.inner : group;
  }
  int width(ptrdiff_t group) const {
    return static_cast<int>(
        std::min<ptrdiff_t>(census_columns, columns_ - (side_by_side_ ? group * census_columns : 0)));
  }

  // The first value of a unit is as good a shift as any: it is one of those whose spread is asked for.
  std::vector<Group> start() const {
    std::vector<Group> groups(static_cast<std::size_t>(groups_));
    for (ptrdiff_t g = 0; g < groups_; ++g) {
      CensusRule& rule = groups[static_cast<std::size_t>(g)].rule;
      rule = {low_, ceiling_, {}, {}};
      for (int j = 0; j < width(g); ++j) {
        double first = read(dtype_, x_ + unit_of(g, j) * layout_.inner * size_);
        if (!std::isfinite(first)) first = low_;
        rule.middle_shift[j] = std::max(first, low_);
        rule.rest_shift[j] = std::min(first, low_);
      }
    }
    return groups;
  }

  std::vector<Group> walk() const {
    std::vector<Group> groups = start();
    const ptrdiff_t bytes = layout_.outer * layout_.channels * layout_.inner * size_;
    const ptrdiff_t pieces = std::max<ptrdiff_t>(1, std::min<ptrdiff_t>(64, bytes / piece_bytes));
    const bool wake = bytes >= wake_bytes;
    if (groups_ >= 16 || groups_ >= pieces || layout_.outer == 1) {
      const ptrdiff_t piece = std::max<ptrdiff_t>(side_by_side_ ? 8 : 1, (groups_ + pieces - 1) / pieces);
      parallel_for(groups_, {piece, wake},
                   [&](ptrdiff_t begin, ptrdiff_t end) { take(groups.data(), begin, end, 0, layout_.outer); });
      return groups;
    }
    // Few units of many rows: each piece of the rows has sums of its own, added in order whoever was first.
    const ptrdiff_t piece = (layout_.outer + pieces - 1) / pieces;
    std::vector<std::vector<Group>> parts(static_cast<std::size_t>((layout_.outer + piece - 1) / piece), groups);
    parallel_for(layout_.outer, {piece, wake}, [&](ptrdiff_t begin, ptrdiff_t end) {
      for (ptrdiff_t row = begin; row < end; row += piece)  // all of them, where there are no threads to be had
        take(parts[static_cast<std::size_t>(row / piece)].data(), 0, groups_, row, std::min(row + piece, end));
    });
    for (const std::vector<Group>& part : parts)
      for (std::size_t g = 0; g < groups.size(); ++g) add(groups[g], part[g]);
    return groups;
  }

  void take(Group* groups, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t first_row, ptrdiff_t last_row) const {
    const CensusLoop loop = active_row().of[static_cast<int>(dtype_)].census;
    const auto run = [&](ptrdiff_t g, ptrdiff_t element, ptrdiff_t step, ptrdiff_t rows, int columns) {
      Group& group = groups[g];
      loop(x_ + element * size_, step, rows, columns, group.rule, group.sums, careful_ ? &group.exceptions : nullptr);
    };
    if (side_by_side_) {
      for (ptrdiff_t row = first_row; row < last_row; row += row_block)
        for (ptrdiff_t g = begin; g < end; ++g)
          run(g, row * columns_ + g * census_columns, columns_, std::min(row_block, last_row - row), width(g));
      return;
    }
    const ptrdiff_t whole = layout_.inner / census_columns;
    const int left = static_cast<int>(layout_.inner % census_columns);
    for (ptrdiff_t row = first_row; row < last_row; ++row) {
      for (ptrdiff_t g = begin; g < end; ++g) {
        const ptrdiff_t element = (row * layout_.channels + g) * layout_.inner;
        run(g, element, census_columns, whole, census_columns);
        if (left > 0) run(g, element + whole * census_columns, census_columns, 1, left);
      }
    }
  }

  static void add(Group& to, const Group& from) {
    for (int j = 0; j < census_columns; ++j) {
      to.sums.above[j] += from.sums.above[j];
      to.sums.saturated[j] += from.sums.saturated[j];
      to.sums.middle_sum[j] += from.sums.middle_sum[j];
      to.sums.middle_squares[j] += from.sums.middle_squares[j];
      to.sums.rest_sum[j] += from.sums.rest_sum[j];
      to.sums.rest_squares[j] += from.sums.rest_squares[j];
      to.exceptions.nan[j] += from.exceptions.nan[j];
      to.exceptions.middle[j] += from.exceptions.middle[j];
      to.exceptions.rest[j] += from.exceptions.rest[j];
    }
  }

  static bool all_finite(const std::vector<Group>& groups) {
    double poison = 0;  // 0 * x is NaN where x is not finite
    for (const Group& group : groups)
      for (int j = 0; j < census_columns; ++j) poison += 0 * group.sums.middle_sum[j] + 0 * group.sums.rest_sum[j];
    return poison == 0;
  }

  // One part of a unit, middle or rest: how many values, and their moments.
  struct Part {
    std::int64_t n = 0;
    double sum = 0, squares = 0;

    void merge_into(std::int64_t seen, double shift, double& mean, double& deviations) const {
      if (n == 0) return;
      const double count = static_cast<double>(n), before = static_cast<double>(seen), total = count + before;
      const double own_mean = shift + sum / count;
      const double spread = squares - sum * sum / count;
      const double own_deviations = std::isfinite(squares) ? std::max(spread, 0.0) : squares;
      const double difference = own_mean - mean;
      mean += difference * (count / total);
      deviations += own_deviations + difference * difference * (before * (count / total));
    }
  };

  void add_up(const std::vector<Group>& groups, std::int64_t* counts, double* moments) const {
    const ptrdiff_t units = layout_.channels;
    const std::int64_t seen = layout_.outer * layout_.inner;
    ptrdiff_t g = 0;
    int j = 0;
    for (ptrdiff_t unit = 0; unit < units; ++unit) {
      std::int64_t above = 0, nan = 0, saturated = 0;
      Part middle, rest;
      double middle_shift = 0, rest_shift = 0;
      for (; g < groups_ && unit_of(g, j) == unit;) {
        const Group& group = groups[static_cast<std::size_t>(g)];
        above += group.sums.above[j];
        nan += group.exceptions.nan[j];
        saturated += group.sums.saturated[j];
        middle.n += group.exceptions.middle[j];
        rest.n += group.exceptions.rest[j];
        middle.sum += group.sums.middle_sum[j];
        middle.squares += group.sums.middle_squares[j];
        rest.sum += group.sums.rest_sum[j];
        rest.squares += group.sums.rest_squares[j];
        middle_shift = group.rule.middle_shift[j];
        rest_shift = group.rule.rest_shift[j];
        if (++j == width(g)) {
          j = 0;
          ++g;
        }
      }
      if (!careful_) {
        middle.n = above - saturated;
        rest.n = seen - above;
      }
      if (!std::isfinite(ceiling_)) saturated = 0;  // infinity reaches a ceiling that is none
      std::int64_t* count = counts + unit;
      double* moment = moments + unit;
      middle.merge_into(count[3 * units], middle_shift, moment[0], moment[units]);
      rest.merge_into(count[4 * units], rest_shift, moment[2 * units], moment[3 * units]);
      const std::int64_t added[census_counts] = {above, nan, saturated, middle.n, rest.n};
      for (int i = 0; i < census_counts; ++i) count[i * units] += added[i];
    }
  }

  DType dtype_;
  const char* x_;
  ptrdiff_t size_;
  Layout layout_;
  double low_, ceiling_;
  bool side_by_side_, careful_ = false;
  ptrdiff_t columns_, groups_;
};

}  // namespace

void run_census(DType dtype, const char* x, const Layout& layout, double low, double ceiling, std::int64_t* counts,
                double* moments) {
  if (layout.outer * layout.channels * layout.inner == 0) return;
  Census(dtype, x, layout, low, ceiling).run(counts, moments);
}

}  // namespace leakyrelu
