// The battery of the kernels of normalization, the census and learned slopes, on the vectors of pass_vectors.py.
#include "passes.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "ops/census.h"
#include "ops/norm.h"
#include "ops/prelu.h"
#include "runtime/thread_pool.h"

namespace battery {

using namespace leakyrelu;
namespace {

// Bits to a number, by the definition of the formats.
double decoded(std::uint16_t bits, int fraction_bits, int bias) {
  const int exponent_bits = 15 - fraction_bits;
  const int fraction = bits & ((1 << fraction_bits) - 1), exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
  double magnitude = std::ldexp(fraction + (exponent > 0 ? 1 << fraction_bits : 0),
                                (exponent > 0 ? exponent : 1) - bias - fraction_bits);
  if (exponent == (1 << exponent_bits) - 1) magnitude = fraction == 0 ? HUGE_VAL : std::nan("");
  return bits & 0x8000 ? -magnitude : magnitude;
}

template <class T>
double as(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return static_cast<double>(value);
}

double read(DType dtype, const char* at) {
  switch (dtype) {
    case DType::float32:
      return as<float>(at);
    case DType::float64:
      return as<double>(at);
    default:
      std::uint16_t bits;
      std::memcpy(&bits, at, sizeof bits);
      return dtype == DType::half ? decoded(bits, 10, 15) : decoded(bits, 7, 127);
  }
}

long checks = 0;

void expect(bool holds, const Pass& p, const char* isa, const char* what, std::size_t element) {
  ++checks;
  if (holds) return;
  constexpr const char* kinds[] = {"norm", "census", "prelu"};
  std::printf("%s: %s, dtype %d, %td x %td x %td, channels last %d: %s of element %zu differs\n", isa, kinds[p.kind],
              static_cast<int>(p.dtype), p.samples, p.channels, p.positions, p.channels_last, what, element);
  std::exit(1);
}

void compare(const Within& expected, const Doubles& got, const Pass& p, const char* isa, const char* what) {
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double right = expected.values[i];
    const bool same = right == got[i] || (std::isnan(right) && std::isnan(got[i]));
    expect(same || std::fabs(right - got[i]) <= expected.errors[i], p, isa, what, i);
  }
}

// Memory that begins `offset` elements behind an aligned address, between bytes that must not be written.
class Guarded {
 public:
  Guarded(const Pass& p, std::ptrdiff_t offset, const Bytes* values)
      : dtype_(p.dtype),
        n_(p.size()),
        begin_((margin + offset) * size_of(p.dtype)),
        block_(static_cast<std::size_t>(begin_ + (n_ + margin) * size_of(dtype_)), untouched) {
    if (values != nullptr && n_ > 0) std::memcpy(data(), values->data(), values->size());
  }
  char* data() { return block_.data() + begin_; }

  Doubles read_all(const Pass& p, const char* isa, const char* what) {
    const std::ptrdiff_t size = size_of(dtype_);
    Doubles read_values;
    for (std::ptrdiff_t i = 0; i < n_; ++i) read_values.push_back(read(dtype_, data() + i * size));
    for (std::size_t i = 0; i < block_.size(); ++i) {
      const auto at = static_cast<std::ptrdiff_t>(i);
      if ((at < begin_ || at >= begin_ + n_ * size) && block_[i] != untouched)
        expect(false, p, isa, (std::string(what) + ", written outside,").c_str(), i);
    }
    return read_values;
  }

 private:
  static constexpr std::ptrdiff_t margin = 80;
  static constexpr char untouched = '\x5a';
  DType dtype_;
  std::ptrdiff_t n_, begin_;
  Bytes block_;
};

void check_norm(const Pass& p, const char* isa, std::ptrdiff_t offset) {
  const TensorLayout data{p.dtype, p.samples, p.channels, p.positions, p.channels_last, 0};
  const auto numbers = static_cast<std::size_t>(p.samples * p.channels);
  Guarded x(p, offset, &p.x), grad(p, 2 * offset, &p.grad), y(p, 3 * offset, &p.y), out(p, offset, nullptr);
  const Table tables{p.tables.data(), p.rows};

  Doubles first(numbers, -1), second(numbers, -1);
  run_moments(data, x.data(), first.data(), second.data());
  compare(p.mean, first, p, isa, "mean");
  compare(p.squares, second, p, isa, "squares");
  run_activate(data, x.data(), tables, p.alpha, out.data());
  compare(p.activated, out.read_all(p, isa, "output"), p, isa, "output");
  run_sums(data, grad.data(), y.data(), tables, p.alpha, first.data(), second.data());
  compare(p.sum_h, first, p, isa, "sum of h");
  compare(p.sum_hu, second, p, isa, "sum of h * u");
  run_combine(data, grad.data(), y.data(), tables, p.alpha, out.data());
  const Doubles apart = out.read_all(p, isa, "gradient");
  compare(p.combined, apart, p, isa, "gradient");
  run_combine(data, grad.data(), y.data(), tables, p.alpha, grad.data());
  const Doubles in_place = grad.read_all(p, isa, "gradient in place");
  for (std::size_t i = 0; i < apart.size(); ++i)
    expect(apart[i] == in_place[i] || (std::isnan(apart[i]) && std::isnan(in_place[i])), p, isa, "gradient in place",
           i);
}

void check_census(const Pass& p, const char* isa, std::ptrdiff_t offset) {
  Guarded x(p, offset, &p.x);
  std::vector<std::int64_t> counts(static_cast<std::size_t>(census_counts * p.channels), 0);
  Doubles moments(static_cast<std::size_t>(census_moments * p.channels), 0);
  run_census(p.dtype, x.data(), {p.samples, p.channels, p.positions}, p.low, p.ceiling, counts.data(), moments.data());
  for (std::size_t i = 0; i < counts.size(); ++i) expect(counts[i] == p.counts[i], p, isa, "count", i);
  compare(p.moments, moments, p, isa, "moment");
}

// Equal to the last bit, except for the payload of a NaN.
void compare_exactly(const Bytes& expected, Guarded& got, const Pass& p, const char* isa, const char* what) {
  const Doubles values = got.read_all(p, isa, what);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double right = read(p.dtype, expected.data() + static_cast<std::ptrdiff_t>(i) * size_of(p.dtype));
    const bool same = right == values[i] && std::signbit(right) == std::signbit(values[i]);
    expect(same || (std::isnan(right) && std::isnan(values[i])), p, isa, what, i);
  }
}

void check_prelu(const Pass& p, const char* isa, std::ptrdiff_t offset) {
  const TensorLayout data{p.dtype, p.samples, p.channels, p.positions, p.channels_last, 0};
  const Table tables{p.tables.data(), 1};
  Guarded x(p, offset, &p.x), grad(p, 2 * offset, &p.grad);

  Guarded y(p, 3 * offset, nullptr), with_signs(p, offset, nullptr);
  run_prelu_forward(data, tables, x.data(), y.data(), nullptr);
  compare_exactly(p.forward, y, p, isa, "output");
  Bytes bits(p.own.signs.size() + 1, '\xff');  // the last byte is not part of the signs
  run_prelu_forward(data, tables, x.data(), with_signs.data(), reinterpret_cast<std::uint8_t*>(bits.data()));
  compare_exactly(p.forward, with_signs, p, isa, "output beside signs");
  for (std::size_t i = 0; i < bits.size(); ++i)
    expect(bits[i] == (i + 1 < bits.size() ? p.own.signs[i] : '\xff'), p, isa, "byte of signs", i);

  const auto backward = [&](const Learned& expected, const std::uint8_t* signs) {
    Guarded out(p, 5 * offset, nullptr);
    Doubles sums(static_cast<std::size_t>(p.channels), -1);
    run_prelu_backward(data, tables, grad.data(), x.data(), signs, out.data(), sums.data());
    compare_exactly(expected.out, out, p, isa, "gradient");
    compare(expected.sums, sums, p, isa, "sum");
    sums.assign(sums.size(), -1);
    run_prelu_backward(data, tables, grad.data(), x.data(), signs, nullptr, sums.data());
    compare(expected.sums, sums, p, isa, "sum alone");
  };
  backward(p.own, nullptr);
  backward(p.own, reinterpret_cast<const std::uint8_t*>(p.own.signs.data()));
  backward(p.other, reinterpret_cast<const std::uint8_t*>(p.other.signs.data()));
}

}  // namespace

std::vector<Pass> read_passes(const char* path) {
  Reader file(path);
  std::vector<Pass> passes(static_cast<std::size_t>(file.number()));
  for (Pass& p : passes) {
    p.kind = static_cast<Kind>(file.number());
    p.dtype = static_cast<DType>(file.number());
    p.samples = file.number();
    p.channels = file.number();
    p.positions = file.number();
    const std::ptrdiff_t bytes = p.size() * size_of(p.dtype), numbers = p.samples * p.channels;
    const auto within = [&file](std::ptrdiff_t n) {
      Within read;
      read.values = file.several<double>(n);
      read.errors = file.several<double>(n);
      return read;
    };
    p.x = file.bytes(bytes);
    if (p.kind == census) {
      p.channels_last = false;
      p.low = file.real();
      p.ceiling = file.real();
      p.counts = file.several<std::int64_t>(census_counts * p.channels);
      p.moments = within(census_moments * p.channels);
      continue;
    }
    p.channels_last = file.number() != 0;
    if (p.kind == prelu) {
      p.grad = file.bytes(bytes);
      p.tables = file.several<double>(2 * p.channels);
      p.forward = file.bytes(bytes);
      for (Learned* learned : {&p.own, &p.other}) {
        learned->signs = file.bytes((p.size() + 7) / 8);
        learned->out = file.bytes(bytes);
        learned->sums = within(p.channels);
      }
      continue;
    }
    p.rows = file.number();
    p.alpha = file.real();
    p.grad = file.bytes(bytes);
    p.y = file.bytes(bytes);
    p.tables = file.several<double>(4 * p.rows * p.channels);
    p.mean = within(numbers);
    p.squares = within(numbers);
    p.activated = within(p.size());
    p.sum_h = within(numbers);
    p.sum_hu = within(numbers);
    p.combined = within(p.size());
  }
  file.finish(!passes.empty());
  return passes;
}

long check_passes(const std::vector<Pass>& passes, const char* isa) {
  checks = 0;
  constexpr void (*check[])(const Pass&, const char*, std::ptrdiff_t) = {check_norm, check_census, check_prelu};
  for (const int threads : {1, 256}) {
    set_num_threads(threads);
    for (const Pass& p : passes)
      for (const std::ptrdiff_t offset : {0, 1, 5}) check[p.kind](p, isa, offset);
  }
  return checks;
}

}  // namespace battery
