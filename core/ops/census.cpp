#include "ops/census.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/number.h"
#include "runtime/dispatch.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {
namespace {

using std::ptrdiff_t;

// A unit whose runs are shorter than this is split: each position within a run becomes a column, and the columns of a
// unit are added up at the end.
constexpr ptrdiff_t shortest_run = 8;
// Rows processed together where columns are adjacent, so that the next columns find their part of the rows in the
// cache.
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
  Census(DType dtype, const char* x, const AlphaLayout& layout, double low, double ceiling)
      : dtype_(dtype),
        x_(x),
        size_(size_of(dtype)),
        layout_(layout),
        low_(low),
        ceiling_(ceiling),
        loop_(active_row().of[static_cast<int>(dtype)].census) {
    side_by_side_ = layout.inner == 1 || (layout.inner < shortest_run && layout.inner <= layout.outer);
    columns_ = side_by_side_ ? layout.channels * layout.inner : census_columns;
    groups_ = side_by_side_ ? (columns_ + census_columns - 1) / census_columns : layout.channels;
  }

  void run(std::int64_t* counts, double* moments) {
    if (!side_by_side_ && (groups_ >= 16 || groups_ >= pieces() || layout_.outer == 1)) {
      parallel_for(groups_, {(groups_ + pieces() - 1) / pieces(), bytes() >= wake_bytes},
                   [&](ptrdiff_t begin, ptrdiff_t end) {
                     for (ptrdiff_t unit = begin; unit < end; ++unit) count_whole_unit(unit, counts, moments);
                   });
      return;
    }
    std::vector<Group> groups = walk(false);
    const bool careful = !std::all_of(groups.begin(), groups.end(), is_finite);
    if (careful) groups = walk(true);
    add_up(groups, careful, counts, moments);
  }

 private:
  ptrdiff_t unit_of(ptrdiff_t group, int column) const {
    return side_by_side_ ? (group * census_columns + column) / layout_.inner : group;
  }
  int width(ptrdiff_t group) const {
    return static_cast<int>(
        std::min<ptrdiff_t>(census_columns, columns_ - (side_by_side_ ? group * census_columns : 0)));
  }

  ptrdiff_t bytes() const { return layout_.outer * layout_.channels * layout_.inner * size_; }
  ptrdiff_t pieces() const { return std::max<ptrdiff_t>(1, std::min<ptrdiff_t>(64, bytes() / piece_bytes)); }

  // The shift of a unit is its first value, since any of the values whose spread is wanted will do.
  Group start(ptrdiff_t g) const {
    Group group;
    group.rule = {low_, ceiling_, {}, {}};
    for (int j = 0; j < width(g); ++j) {
      if (!side_by_side_ && j > 0) {  // of one unit all
        group.rule.middle_shift[j] = group.rule.middle_shift[0];
        group.rule.rest_shift[j] = group.rule.rest_shift[0];
        continue;
      }
      double first = read(dtype_, x_ + unit_of(g, j) * layout_.inner * size_);
      if (!std::isfinite(first)) first = low_;
      group.rule.middle_shift[j] = std::max(first, low_);
      group.rule.rest_shift[j] = std::min(first, low_);
    }
    return group;
  }

  std::vector<Group> walk(bool careful) const {
    std::vector<Group> groups;
    groups.reserve(static_cast<std::size_t>(groups_));
    for (ptrdiff_t g = 0; g < groups_; ++g) groups.push_back(start(g));
    const bool wake = bytes() >= wake_bytes;
    if (side_by_side_ && (groups_ >= 16 || groups_ >= pieces() || layout_.outer == 1)) {
      const ptrdiff_t piece = std::max<ptrdiff_t>(8, (groups_ + pieces() - 1) / pieces());
      parallel_for(groups_, {piece, wake},
                   [&](ptrdiff_t begin, ptrdiff_t end) { take(groups.data(), begin, end, 0, layout_.outer, careful); });
      return groups;
    }
    // Few units of many rows: each piece of the rows has its own sums, which are added in the order of the pieces, so
    // that threads change no bit.
    const ptrdiff_t piece = (layout_.outer + pieces() - 1) / pieces();
    std::vector<std::vector<Group>> parts(static_cast<std::size_t>((layout_.outer + piece - 1) / piece), groups);
    parallel_for(layout_.outer, {piece, wake}, [&](ptrdiff_t begin, ptrdiff_t end) {
      for (ptrdiff_t row = begin; row < end; row += piece)  // all of them, where no thread is available
        take(parts[static_cast<std::size_t>(row / piece)].data(), 0, groups_, row, std::min(row + piece, end), careful);
    });
    for (const std::vector<Group>& part : parts)
      for (std::size_t g = 0; g < groups.size(); ++g) add(groups[g], part[g]);
    return groups;
  }

  void take(Group* groups, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t first_row, ptrdiff_t last_row,
            bool careful) const {
    if (!side_by_side_) {
      for (ptrdiff_t g = begin; g < end; ++g) count_unit(groups[g], g, first_row, last_row, careful);
      return;
    }
    for (ptrdiff_t row = first_row; row < last_row; row += row_block)
      for (ptrdiff_t g = begin; g < end; ++g)
        run_kernel(groups[g], row * columns_ + g * census_columns, {columns_, std::min(row_block, last_row - row)},
                   width(g), careful);
  }

  // The runs of one unit in some of the rows.
  void count_unit(Group& group, ptrdiff_t unit, ptrdiff_t first_row, ptrdiff_t last_row, bool careful) const {
    const ptrdiff_t whole = layout_.inner / census_columns, left = layout_.inner % census_columns;
    const ptrdiff_t apart = layout_.channels * layout_.inner, rows = last_row - first_row;
    const ptrdiff_t element = first_row * apart + unit * layout_.inner;
    if (whole > 0) run_kernel(group, element, {census_columns, whole, apart, rows}, census_columns, careful);
    if (left > 0) run_kernel(group, element + whole * census_columns, {apart, rows}, static_cast<int>(left), careful);
  }

  void run_kernel(Group& group, ptrdiff_t element, const CensusWalk& walk, int columns, bool careful) const {
    loop_(x_ + element * size_, walk, columns, group.rule, group.sums, careful ? &group.exceptions : nullptr);
  }

  // Counts one unit from its first element to its last, so that only its own sums are kept.
  void count_whole_unit(ptrdiff_t unit, std::int64_t* counts, double* moments) const {
    Group group = start(unit);
    count_unit(group, unit, 0, layout_.outer, false);
    const bool careful = !is_finite(group);
    if (careful) {
      group = start(unit);
      count_unit(group, unit, 0, layout_.outer, true);
    }
    Total total;
    for (int j = 0; j < census_columns; ++j) total.add(group, j);
    merge(unit, total, careful, counts, moments);
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

  static bool is_finite(const Group& group) {
    double poison = 0;  // 0 * x is NaN where x is not finite
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

  struct Total {
    std::int64_t above = 0, nan = 0, saturated = 0;
    Part middle, rest;
    double middle_shift = 0, rest_shift = 0;  // the same in all columns of a unit

    void add(const Group& group, int j) {
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
    }
  };

  void merge(ptrdiff_t unit, Total& total, bool careful, std::int64_t* counts, double* moments) const {
    const ptrdiff_t units = layout_.channels;
    if (!careful) {
      total.middle.n = total.above - total.saturated;
      total.rest.n = layout_.outer * layout_.inner - total.above;
    }
    if (!std::isfinite(ceiling_)) total.saturated = 0;  // without a ceiling nothing is saturated, not even infinity
    std::int64_t* count = counts + unit;
    double* moment = moments + unit;
    total.middle.merge_into(count[3 * units], total.middle_shift, moment[0], moment[units]);
    total.rest.merge_into(count[4 * units], total.rest_shift, moment[2 * units], moment[3 * units]);
    const std::int64_t added[census_counts] = {total.above, total.nan, total.saturated, total.middle.n, total.rest.n};
    for (int i = 0; i < census_counts; ++i) count[i * units] += added[i];
  }

  void add_up(const std::vector<Group>& groups, bool careful, std::int64_t* counts, double* moments) const {
    ptrdiff_t g = 0;
    int j = 0;
    for (ptrdiff_t unit = 0; unit < layout_.channels; ++unit) {
      Total total;
      while (g < groups_ && unit_of(g, j) == unit) {
        total.add(groups[static_cast<std::size_t>(g)], j);
        if (++j == width(g)) {
          j = 0;
          ++g;
        }
      }
      merge(unit, total, careful, counts, moments);
    }
  }

  DType dtype_;
  const char* x_;
  ptrdiff_t size_;
  AlphaLayout layout_;
  double low_, ceiling_;
  CensusLoop loop_;
  bool side_by_side_;
  ptrdiff_t columns_, groups_;
};

}  // namespace

void run_census(DType dtype, const char* x, const AlphaLayout& layout, double low, double ceiling, std::int64_t* counts,
                double* moments) {
  if (layout.outer * layout.channels * layout.inner == 0) return;
  Census(dtype, x, layout, low, ceiling).run(counts, moments);
}

}  // namespace leakyrelu
