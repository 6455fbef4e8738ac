#include "ops/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/moments.h"
#include "ops/pieces.h"
#include "runtime/dispatch.h"

namespace leakyrelu {
namespace {

const NormKernels& norm_kernels(DType dtype) { return active_row().norm[static_cast<int>(dtype)]; }

// Two numbers of each run, column and piece. Where a run is one piece, the results themselves.
class Parts {
 public:
  Parts(const Runs& runs, double* first, double* second) : runs_(runs), first_(first), second_(second) {
    if (runs.pieces > 1) numbers_.resize(static_cast<std::size_t>(2 * runs.count * runs.pieces * runs.width));
    if (runs.pieces == 0) {  // of nothing
      std::fill_n(first, runs.count * runs.width, 0.0);
      std::fill_n(second, runs.count * runs.width, 0.0);
    }
  }
  double* first(std::ptrdiff_t run, std::ptrdiff_t piece) {
    return runs_.pieces > 1 ? &numbers_[static_cast<std::size_t>(2 * (run * runs_.pieces + piece) * runs_.width)]
                            : first_ + run * runs_.width;
  }
  double* second(std::ptrdiff_t run, std::ptrdiff_t piece) {
    return runs_.pieces > 1 ? first(run, piece) + runs_.width : second_ + run * runs_.width;
  }

  // Calls add(first, second, piece, first of the piece, second of the piece) for every piece, in order.
  template <class Add>
  void gather(const Add& add) {
    if (runs_.pieces == 1) return;
    for (std::ptrdiff_t run = 0; run < runs_.count; ++run)
      for (std::ptrdiff_t piece = 0; piece < runs_.pieces; ++piece)
        for (std::ptrdiff_t j = 0; j < runs_.width; ++j) {
          double &a = first_[run * runs_.width + j], &b = second_[run * runs_.width + j];
          if (piece == 0) a = b = 0;
          add(a, b, piece, first(run, piece)[j], second(run, piece)[j]);
        }
  }

 private:
  const Runs& runs_;
  double *first_, *second_;
  std::vector<double> numbers_;
};

}  // namespace

void run_moments(const TensorLayout& data, const char* x, double* mean, double* squares) {
  const Runs runs(data);
  const auto kernel = norm_kernels(data.dtype).moments;
  const std::ptrdiff_t size = size_of(data.dtype);
  Parts parts(runs, mean, squares);
  runs.for_each_piece([&](auto run, auto piece, auto first, auto rows) {
    kernel(x + first * size, rows, runs.width, parts.first(run, piece), parts.second(run, piece));
  });
  parts.gather([&](double& a, double& b, std::ptrdiff_t piece, double part_mean, double part_squares) {
    const auto before = static_cast<double>(piece * runs.rows_a_piece);
    const std::ptrdiff_t left = runs.rows - piece * runs.rows_a_piece;
    const auto n = static_cast<double>(left < runs.rows_a_piece ? left : runs.rows_a_piece);
    merge(before, a, b, n, part_mean, part_squares);
  });
}

void run_sums(const TensorLayout& data, const char* grad, const char* y, Table bias, double alpha, double* sum_h,
              double* sum_hu) {
  const Runs runs(data);
  const auto kernel = norm_kernels(data.dtype).sums;
  const std::ptrdiff_t size = size_of(data.dtype);
  const Converted table(data, bias, 1);
  Parts parts(runs, sum_h, sum_hu);
  runs.for_each_piece([&](auto run, auto piece, auto first, auto rows) {
    const void* part = nullptr;
    table.at(runs, run, &part);
    kernel(grad + first * size, y + first * size, part, alpha, rows, runs.width, parts.first(run, piece),
           parts.second(run, piece));
  });
  parts.gather([](double& a, double& b, std::ptrdiff_t, double h, double hu) {
    a += h;
    b += hu;
  });
}

void run_activate(const TensorLayout& data, const char* x, Table tables, double alpha, char* y) {
  const Runs runs(data);
  const auto kernel = norm_kernels(data.dtype).activate;
  const std::ptrdiff_t size = size_of(data.dtype);
  const Converted table(data, tables, 3);
  runs.for_each_piece([&](auto run, auto, auto first, auto rows) {
    const void* part[3];
    table.at(runs, run, part);
    kernel(x + first * size, part, alpha, y + first * size, rows, runs.width);
  });
}

void run_combine(const TensorLayout& data, const char* grad, const char* y, Table tables, double alpha, char* out) {
  const Runs runs(data);
  const auto kernel = norm_kernels(data.dtype).combine;
  const std::ptrdiff_t size = size_of(data.dtype);
  const Converted table(data, tables, 4);
  runs.for_each_piece([&](auto run, auto, auto first, auto rows) {
    const void* part[4];
    table.at(runs, run, part);
    kernel(grad + first * size, y + first * size, part, alpha, out + first * size, rows, runs.width);
  });
}

namespace {

// Calls over(first, step, count) for the entries of a table [samples][channels] that share a statistic, and then
// done(first, step, count, result).
template <class Over, class Done>
void for_each_statistic(const TensorLayout& data, std::ptrdiff_t groups, const Over& over, const Done& done) {
  if (groups == 0) {
    for (std::ptrdiff_t c = 0; c < data.channels; ++c)
      done(c, data.channels, std::ptrdiff_t(1), over(c, data.channels, data.samples));
    return;
  }
  const std::ptrdiff_t each = data.channels / groups;
  for (std::ptrdiff_t i = 0; i < data.samples * data.channels; i += each)
    done(i, std::ptrdiff_t(1), each, over(i, std::ptrdiff_t(1), each));
}

double one_over_std(double var, double eps) { return 1 / std::sqrt(var + eps); }

// The sums of the kept channels in place of those that were recovered from the output. With a slope of 1 and no bias,
// the passes take h and xhat as they are.
void sum_kept(const TensorLayout& data, const KeptChannels& kept, std::vector<double>& h, std::vector<double>& hu,
              std::vector<double>& divisor) {
  const std::ptrdiff_t count = kept.data.channels;
  if (count == 0) return;
  const std::vector<double> zero(static_cast<std::size_t>(count));
  std::vector<double> own_h(static_cast<std::size_t>(kept.data.samples * count)), own_hu(own_h.size());
  run_sums(kept.data, kept.h, kept.xhat, {zero.data(), 1}, 1, own_h.data(), own_hu.data());
  for (std::ptrdiff_t k = 0; k < count; ++k) {
    const std::ptrdiff_t c = kept.channels[k];
    divisor[static_cast<std::size_t>(c)] = 1;
    for (std::ptrdiff_t i = c; i < data.samples * data.channels; i += data.channels)
      h[static_cast<std::size_t>(i)] = hu[static_cast<std::size_t>(i)] = 0;
    for (std::ptrdiff_t sample = 0; sample < kept.data.samples; ++sample) {
      // Samples of data with channels last may have been taken together as one.
      const auto to = static_cast<std::size_t>((data.samples == 1 ? 0 : sample) * data.channels + c);
      const auto from = static_cast<std::size_t>(sample * count + k);
      h[to] += own_h[from];
      hu[to] += own_hu[from];
    }
  }
}

// Writes the gradient of x over h, from the tables bias, p, q, r of all channels.
void combine_kept(const KeptChannels& kept, const double* tables, std::ptrdiff_t rows, std::ptrdiff_t channels) {
  const std::ptrdiff_t count = kept.data.channels;
  if (count == 0) return;
  std::vector<double> own(static_cast<std::size_t>(4 * rows * count));  // of which the bias stays 0
  for (std::ptrdiff_t i = rows; i < 4 * rows; ++i)
    for (std::ptrdiff_t k = 0; k < count; ++k)
      own[static_cast<std::size_t>(i * count + k)] = tables[i * channels + kept.channels[k]];
  run_combine(kept.data, kept.h, kept.xhat, {own.data(), rows}, 1, kept.h);
}

}  // namespace

void run_forward(const TensorLayout& data, const NormLayer& layer, double eps, const char* x, double* mean, double* var,
                 double* invstd, char* y) {
  const std::ptrdiff_t rows = layer.rows(data), each = rows * data.channels;
  const auto positions = static_cast<double>(data.positions);
  if (layer.estimate) {
    std::vector<double> means(static_cast<std::size_t>(data.samples * data.channels)), squares(means.size());
    run_moments(data, x, means.data(), squares.data());
    struct Moments {
      double mean, var;
    };
    for_each_statistic(
        data, layer.groups,
        [&](std::ptrdiff_t first, std::ptrdiff_t step, std::ptrdiff_t count) {
          double sum = 0, square = 0;
          for (std::ptrdiff_t k = 0; k < count; ++k) sum += means[static_cast<std::size_t>(first + k * step)];
          const double center = sum / static_cast<double>(count);
          for (std::ptrdiff_t k = 0; k < count; ++k) {
            const auto i = static_cast<std::size_t>(first + k * step);
            square += squares[i] + positions * (means[i] - center) * (means[i] - center);
          }
          return Moments{center, square / (positions * static_cast<double>(count))};
        },
        [&](std::ptrdiff_t first, std::ptrdiff_t, std::ptrdiff_t count, Moments found) {
          for (std::ptrdiff_t i = first; i < first + count; ++i) {
            mean[i] = found.mean;
            var[i] = found.var;
          }
        });
  }
  std::vector<double> tables(static_cast<std::size_t>(3 * each));
  double *center = tables.data(), *scale = center + each, *bias = scale + each;
  for (std::ptrdiff_t i = 0; i < each; ++i) {
    const std::ptrdiff_t c = i % data.channels;
    invstd[i] = one_over_std(var[i], eps);
    scale[i] = layer.weight ? invstd[i] * layer.weight[c] : invstd[i];
    // The kernel subtracts a rounded mean; the rounding error goes into the bias.
    center[i] = data.dtype == DType::float64 ? mean[i] : static_cast<float>(mean[i]);
    bias[i] = (layer.bias ? layer.bias[c] : 0) - (mean[i] - center[i]) * scale[i];
  }
  run_activate(data, x, {tables.data(), rows}, layer.alpha, y);
}

void run_backward(const TensorLayout& data, const NormLayer& layer, const double* invstd, const KeptChannels& kept,
                  const char* grad, const char* y, double* grad_weight, double* grad_bias, char* out) {
  const std::ptrdiff_t channels = data.channels;
  const std::vector<double> zero(static_cast<std::size_t>(channels));
  const double* bias = layer.bias ? layer.bias : zero.data();
  std::vector<double> h(static_cast<std::size_t>(data.samples * channels)), hu(h.size());
  run_sums(data, grad, y, {bias, 1}, layer.alpha, h.data(), hu.data());
  const auto weight = [&](std::ptrdiff_t c) { return layer.weight ? layer.weight[c] : 1.0; };
  // What u is to be divided by: u = weight * xhat, or u = xhat where that was kept.
  std::vector<double> divisor(static_cast<std::size_t>(channels));
  for (std::ptrdiff_t c = 0; c < channels; ++c) divisor[static_cast<std::size_t>(c)] = weight(c);
  sum_kept(data, kept, h, hu, divisor);
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    double sum_h = 0, sum_hu = 0;
    for (std::ptrdiff_t i = c; i < data.samples * channels; i += channels) {
      sum_h += h[static_cast<std::size_t>(i)];
      sum_hu += hu[static_cast<std::size_t>(i)];
    }
    grad_bias[c] = sum_h;
    grad_weight[c] = sum_hu / divisor[static_cast<std::size_t>(c)];
  }
  if (out == nullptr) return;

  // grad_x = invstd * (g - mean(g) - xhat * mean(g * xhat)) with g = weight * h.
  const std::ptrdiff_t rows = layer.rows(data), each = rows * channels;
  std::vector<double> tables(static_cast<std::size_t>(4 * each));
  double *b = tables.data(), *p = b + each, *q = p + each, *r = q + each;
  for (std::ptrdiff_t i = 0; i < each; ++i) {
    b[i] = bias[i % channels];
    p[i] = invstd[i] * weight(i % channels);
  }
  struct Sums {
    double g, gx;
  };
  if (layer.estimate) {
    for_each_statistic(
        data, layer.groups,
        [&](std::ptrdiff_t first, std::ptrdiff_t step, std::ptrdiff_t count) {
          Sums sums{0, 0};
          for (std::ptrdiff_t k = 0; k < count; ++k) {
            const std::ptrdiff_t i = first + k * step, c = i % channels;
            sums.g += h[static_cast<std::size_t>(i)] * weight(c);
            sums.gx += hu[static_cast<std::size_t>(i)] * (weight(c) / divisor[static_cast<std::size_t>(c)]);
          }
          const double n = static_cast<double>(count) * static_cast<double>(data.positions);
          return Sums{sums.g / n, sums.gx / n};
        },
        [&](std::ptrdiff_t first, std::ptrdiff_t, std::ptrdiff_t count, Sums means) {
          for (std::ptrdiff_t i = first; i < first + count; ++i) {
            q[i] = -invstd[i] * means.gx / divisor[static_cast<std::size_t>(i % channels)];
            r[i] = -invstd[i] * means.g;
          }
        });
  }
  run_combine(data, grad, y, {tables.data(), rows}, layer.alpha, out);
  combine_kept(kept, tables.data(), rows, channels);
}

}  // namespace leakyrelu
