// Runs and pieces: the parts of data with channels among which passes are split over threads.
#pragma once

#include <vector>

#include "ops/layout.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {

// Elements of a piece. Large enough that starting it costs nothing, small enough that two tensors' worth stay in the
// second-level cache.
inline constexpr std::ptrdiff_t piece_elements = 32 * 1024;

// The number of elements from which it pays to wake sleeping helpers.
inline constexpr std::ptrdiff_t wake_elements = 256 * 1024;

// The data as runs of rows of adjacent numbers: the positions of one channel, or all channels of a position.
struct Runs {
  std::ptrdiff_t count, rows, width, rows_a_piece, pieces;
  int threads;

  explicit Runs(const TensorLayout& data)
      : count(data.channels_last ? data.samples : data.samples * data.channels),
        rows(data.positions),
        width(data.channels_last ? data.channels : 1),
        rows_a_piece(width < 1 || width > piece_elements ? 1 : piece_elements / width),
        pieces(count * rows * width == 0 ? 0 : (rows + rows_a_piece - 1) / rows_a_piece),
        threads(data.threads) {}

  // Calls work(run, piece, first element, rows) for all pieces, on several threads where that pays.
  template <class Work>
  void for_each_piece(const Work& work) const {
    const std::ptrdiff_t length = (pieces > 1 ? rows_a_piece : rows) * width;
    const std::ptrdiff_t together = length < piece_elements ? piece_elements / (length > 0 ? length : 1) : 1;
    const Split split{together, count * rows * width >= wake_elements};
    const ThreadLimit limit(threads);
    parallel_for(count * pieces, split, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t i = begin; i < end; ++i) {
        const std::ptrdiff_t run = i / pieces, piece = i % pieces, row = piece * rows_a_piece;
        const std::ptrdiff_t left = rows - row;
        work(run, piece, (run * rows + row) * width, left < rows_a_piece ? left : rows_a_piece);
      }
    });
  }
};

// Tables in the type that the data are computed in.
class Converted {
 public:
  Converted(const TensorLayout& data, Table tables, int number) : each_(tables.rows * data.channels), number_(number) {
    const std::ptrdiff_t n = each_ * number;
    if (data.dtype == DType::float64) {
      bytes_ = reinterpret_cast<const char*>(tables.values);
      size_ = sizeof(double);
      return;
    }
    floats_.resize(static_cast<std::size_t>(n));
    for (std::ptrdiff_t i = 0; i < n; ++i) floats_[static_cast<std::size_t>(i)] = static_cast<float>(tables.values[i]);
    bytes_ = reinterpret_cast<const char*>(floats_.data());
    size_ = sizeof(float);
  }
  Converted(const Converted&) = delete;

  // The part of each table for one run.
  void at(const Runs& runs, std::ptrdiff_t run, const void** parts) const {
    const std::ptrdiff_t begin = run * runs.width % each_;
    for (int k = 0; k < number_; ++k) parts[k] = bytes_ + (k * each_ + begin) * size_;
  }

 private:
  std::vector<float> floats_;
  const char* bytes_;
  std::ptrdiff_t size_, each_;
  int number_;
};

}  // namespace leakyrelu
