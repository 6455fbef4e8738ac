// The kernel battery without Python: the results of the kernels for the vectors that vectors.py has written, in every
// memory layout, on every instruction set that this build holds. For machines without Python (NEON under an emulator),
// and for the thread sanitizer, which Python would disturb.
//
//     battery VECTORS PASSES         prints one line for each instruction set; fails at the first difference
//     battery VECTORS PASSES pool    only the long runs, which threads share
#include <cfenv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "ops/elementwise.h"
#include "passes.h"
#include "pool.h"
#include "reader.h"
#include "runtime/dispatch.h"
#include "runtime/memory.h"
#include "runtime/thread_pool.h"

namespace {

using namespace leakyrelu;
using battery::Bytes;

enum Operation : std::int64_t { forward, backward, inverse };

// One line of the vectors: as vectors.py writes it.
struct Case {
  DType dtype;
  Operation operation;
  std::ptrdiff_t n, alphas;  // one alpha, or one an element
  bool may_overflow, may_be_invalid;
  Bytes value, x, alpha, expected, signs;

  std::ptrdiff_t size() const { return size_of(dtype); }
  std::ptrdiff_t alpha_step() const { return alphas == 1 ? 0 : 1; }
};

std::vector<Case> read_cases(const char* path) {
  battery::Reader file(path);
  std::vector<Case> cases(static_cast<std::size_t>(file.number()));
  for (Case& c : cases) {
    c.dtype = static_cast<DType>(file.number());
    c.operation = static_cast<Operation>(file.number());
    c.n = file.number();
    c.alphas = file.number();
    c.may_overflow = file.number() != 0;
    c.may_be_invalid = file.number() != 0;
    c.value = file.bytes(c.n * c.size());
    c.x = file.bytes(c.n * c.size());
    c.alpha = file.bytes(c.alphas * alpha_size_of(c.dtype));
    c.expected = file.bytes(c.n * c.size());
    c.signs = file.bytes((c.n + 7) / 8);
  }
  file.finish(!cases.empty());
  return cases;
}

// Comparison ---------------------------------------------------------------------------------------------------------

template <class Bits>
bool same_bits(const char* a, const char* b, Bits infinity) {
  Bits left, right;
  std::memcpy(&left, a, sizeof left);
  std::memcpy(&right, b, sizeof right);
  const auto nan = [infinity](Bits bits) {
    constexpr int top = 8 * sizeof(Bits) - 1;
    return static_cast<Bits>(bits & static_cast<Bits>(~(Bits(1) << top))) > infinity;
  };
  return left == right || (nan(left) && nan(right));
}

bool same(DType dtype, const char* a, const char* b) {
  switch (dtype) {
    case DType::half:
      return same_bits<std::uint16_t>(a, b, 0x7c00);
    case DType::bfloat16:
      return same_bits<std::uint16_t>(a, b, 0x7f80);
    case DType::float32:
      return same_bits<std::uint32_t>(a, b, 0x7f800000);
    case DType::float64:
      return same_bits<std::uint64_t>(a, b, 0x7ff0000000000000);
    case DType::longdouble:
      break;
  }
  long double left, right;  // its padding has no meaning
  std::memcpy(&left, a, sizeof left);
  std::memcpy(&right, b, sizeof right);
  if (std::isnan(left) || std::isnan(right)) return std::isnan(left) && std::isnan(right);
  return left == right && std::signbit(left) == std::signbit(right);
}

long checks = 0;

void expect(bool holds, const Case& c, const char* isa, const std::string& what, std::ptrdiff_t element) {
  ++checks;
  if (holds) return;
  std::printf("%s: dtype %d, operation %d, length %td, %td alphas, %s: element %td differs\n", isa,
              static_cast<int>(c.dtype), static_cast<int>(c.operation), c.n, c.alphas, what.c_str(), element);
  std::exit(1);
}

// Memory -------------------------------------------------------------------------------------------------------------

constexpr std::ptrdiff_t margin = 80;  // elements before and behind, in which nothing may be written
constexpr char untouched = '\x5a';

// n elements at any step and offset, in a block that is otherwise filled with one byte.
class Strided {
 public:
  Strided(const Case& c, std::ptrdiff_t step, std::ptrdiff_t offset)
      : size_(c.size()), n_(c.n), step_(step), block_((span() + 2 * margin) * size_, untouched) {
    // Aligned to 16 bytes, as the allocator of NumPy aligns at least, then shifted by the offset.
    const std::ptrdiff_t first = margin + offset + (step < 0 ? span() - 1 : 0);
    start_ = block_.data() + first * size_;
  }
  void fill(const Bytes& values) {
    for (std::ptrdiff_t i = 0; i < n_; ++i) std::memcpy(at(i), values.data() + i * size_, size_);
  }
  char* data() { return start_; }
  char* at(std::ptrdiff_t i) { return start_ + i * step(); }
  std::ptrdiff_t step() const { return step_ * size_; }

  void check(const Case& c, const char* isa, const std::string& what) {
    for (std::ptrdiff_t i = 0; i < n_; ++i)
      expect(same(c.dtype, at(i), c.expected.data() + i * size_), c, isa, what, i);
    for (std::ptrdiff_t i = 0; i < n_; ++i) std::memset(at(i), untouched, size_);
    for (std::size_t i = 0; i < block_.size(); ++i)
      if (block_[i] != untouched) expect(false, c, isa, what + ", written outside", static_cast<std::ptrdiff_t>(i));
  }

 private:
  std::ptrdiff_t span() const { return n_ == 0 ? 1 : (n_ - 1) * (step_ < 0 ? -step_ : step_) + 1; }
  std::ptrdiff_t size_, n_, step_;
  Bytes block_;
  char* start_;
};

// One kernel on one run ----------------------------------------------------------------------------------------------

void check_flags(const Case& c, const char* isa, const std::string& what) {
  const int raised = std::fetestexcept(FE_OVERFLOW | FE_INVALID | FE_DIVBYZERO);
  // An infinity that results from finite numbers raises its flag, except in the rounding of bfloat16, which raises
  // none, as in ml_dtypes.
  const bool silent = c.may_overflow && !(raised & FE_OVERFLOW) && c.dtype != DType::bfloat16;
  if (raised & FE_DIVBYZERO || (raised & FE_OVERFLOW && !c.may_overflow) || silent ||
      (raised & FE_INVALID && !c.may_be_invalid))
    expect(false, c, isa, what + ": floating-point flags " + std::to_string(raised), -1);
}

struct Steps {
  std::ptrdiff_t in, out, in_offset, out_offset;
};

void check_loop(const Case& c, const char* isa, const Kernels& kernels, const Steps& steps, const std::string& what) {
  Strided value(c, steps.in, steps.in_offset), x(c, steps.in, steps.in_offset);
  Strided out(c, steps.out, steps.out_offset);
  value.fill(c.value);
  x.fill(c.x);
  Bytes alpha = c.alpha;
  const std::ptrdiff_t alpha_step = c.alpha_step() * alpha_size_of(c.dtype);
  std::feclearexcept(FE_ALL_EXCEPT);
  if (c.operation == backward) {
    char* data[] = {value.data(), x.data(), alpha.data(), out.data()};
    const std::ptrdiff_t stride[] = {value.step(), x.step(), alpha_step, out.step()};
    kernels.backward(data, stride, c.n);
  } else {
    char* data[] = {value.data(), alpha.data(), out.data()};
    const std::ptrdiff_t stride[] = {value.step(), alpha_step, out.step()};
    (c.operation == forward ? kernels.forward : kernels.inverse)(data, stride, c.n);
  }
  check_flags(c, isa, what);
  out.check(c, isa, what);
}

void check_in_place(const Case& c, const char* isa, const Kernels& kernels) {
  Bytes alpha = c.alpha;
  const std::ptrdiff_t size = c.size(), alpha_step = c.alpha_step() * alpha_size_of(c.dtype);
  Strided value(c, 1, 1), x(c, 1, 3);
  value.fill(c.value);
  x.fill(c.x);
  if (c.operation != backward) {
    char* data[] = {value.data(), alpha.data(), value.data()};
    const std::ptrdiff_t stride[] = {size, alpha_step, size};
    (c.operation == forward ? kernels.forward : kernels.inverse)(data, stride, c.n);
    value.check(c, isa, "in place");
    return;
  }
  const std::ptrdiff_t stride[] = {size, size, alpha_step, size};
  char* over_x[] = {value.data(), x.data(), alpha.data(), x.data()};
  kernels.backward(over_x, stride, c.n);
  x.check(c, isa, "in the place of x");
  x.fill(c.x);
  char* over_grad[] = {value.data(), x.data(), alpha.data(), value.data()};
  kernels.backward(over_grad, stride, c.n);
  value.check(c, isa, "in the place of grad");
}

bool bit_of(const Bytes& bytes, std::ptrdiff_t bit) { return (bytes[bit / 8] >> (bit % 8)) & 1; }

void check_signs(const Case& c, const char* isa, const Kernels& kernels, std::ptrdiff_t first_bit, bool in_place,
                 const std::string& what) {
  // Bits of others before and behind: all 1 in one run, all 0 in the other.
  for (const char others : {'\0', '\xff'}) {
    Bytes signs(static_cast<std::size_t>((first_bit + c.n + 7) / 8 + 1), others);
    Strided value(c, 1, first_bit), apart(c, 1, 2);
    Strided& out = in_place ? value : apart;
    value.fill(c.value);
    auto* packed = reinterpret_cast<std::uint8_t*>(signs.data());
    std::feclearexcept(FE_ALL_EXCEPT);
    if (c.operation == forward) {
      kernels.forward_with_signs(value.data(), c.alpha.data(), c.alpha_step(), out.data(), packed, first_bit, c.n);
      for (std::ptrdiff_t bit = 0; bit < static_cast<std::ptrdiff_t>(8 * signs.size()); ++bit) {
        const std::ptrdiff_t i = bit - first_bit;
        const bool right = i >= 0 && i < c.n ? bit_of(c.signs, i) : others != 0;
        expect(bit_of(signs, bit) == right, c, isa, what + ", signs", i);
      }
    } else {
      for (std::ptrdiff_t i = 0; i < c.n; ++i) {
        const auto mask = static_cast<std::uint8_t>(1u << ((first_bit + i) % 8));
        std::uint8_t& byte = packed[(first_bit + i) / 8];
        byte = static_cast<std::uint8_t>(bit_of(c.signs, i) ? byte | mask : byte & ~mask);
      }
      kernels.backward_from_signs(value.data(), packed, first_bit, c.alpha.data(), c.alpha_step(), out.data(), c.n);
    }
    check_flags(c, isa, what);
    out.check(c, isa, what);
  }
}

constexpr std::ptrdiff_t most_in_every_layout = 5000;  // longer cases are run for their values alone

void check_kernels(const Case& c, const KernelRow& row) {
  static constexpr Steps layouts[] = {{1, 1, 0, 0}, {1, 1, 1, 0},  {1, 1, 0, 3},  {1, 1, 7, 5}, {2, 1, 0, 0},
                                      {1, 2, 0, 0}, {-1, 1, 0, 0}, {1, -1, 0, 0}, {-3, 2, 1, 0}};
  static constexpr Steps far = {113, -113, 0, 0};
  for (const bool stream : {false, true}) {
    const Kernels& kernels = (stream ? row.streaming : row.of)[static_cast<int>(c.dtype)];
    for (const Steps& steps : layouts) {
      if (c.n > most_in_every_layout && &steps > &layouts[1]) break;
      check_loop(c, row.isa, kernels, steps,
                 (stream ? "streamed, steps " : "steps ") + std::to_string(steps.in) + " and " +
                     std::to_string(steps.out) + ", offsets " + std::to_string(steps.in_offset) + " and " +
                     std::to_string(steps.out_offset));
    }
    if (c.n < 200) check_loop(c, row.isa, kernels, far, "steps 113 and -113");
    if (!stream) check_in_place(c, row.isa, kernels);
    if (c.operation == inverse) continue;
    for (const std::ptrdiff_t first_bit : {0, 1, 7}) {
      if (c.n > most_in_every_layout && first_bit > 0) break;
      for (const bool in_place : {false, true})
        if (!(stream && in_place))
          check_signs(c, row.isa, kernels, first_bit, in_place, "from bit " + std::to_string(first_bit));
    }
  }
}

// Whole operations: threads and channels -----------------------------------------------------------------------------

constexpr std::ptrdiff_t several_pieces = 320'000;  // bytes of each operand; memory.cpp

// The case repeated, each element `inner` times, so that the expected results are known.
struct Long {
  Case c;
  AlphaLayout layout;

  Long(const Case& seed, std::ptrdiff_t repeats, std::ptrdiff_t inner) : c(seed) {
    c.n = seed.n * repeats * inner;
    const auto spread = [&](const Bytes& of) {
      Bytes all(static_cast<std::size_t>(c.n * c.size()));
      for (std::ptrdiff_t i = 0; i < c.n; ++i)
        std::memcpy(&all[i * c.size()], &of[i / inner % seed.n * c.size()], c.size());
      return all;
    };
    c.value = spread(seed.value);
    c.x = spread(seed.x);
    c.expected = spread(seed.expected);
    c.signs.assign(static_cast<std::size_t>((c.n + 7) / 8), 0);
    for (std::ptrdiff_t i = 0; i < c.n; ++i)
      if (bit_of(seed.signs, i / inner % seed.n)) c.signs[i / 8] = static_cast<char>(c.signs[i / 8] | 1 << (i % 8));
    layout = seed.alphas == 1 ? AlphaLayout{1, 1, c.n} : AlphaLayout{repeats, seed.n, inner};
  }

  void check(const Bytes& out, const char* isa, const char* what) const {
    for (std::ptrdiff_t i = 0; i < c.n; ++i)
      expect(same(c.dtype, &out[i * c.size()], &c.expected[i * c.size()]), c, isa, what, i);
  }

  void run(const char* isa) const {
    Bytes out(static_cast<std::size_t>(c.n * c.size()), untouched), value = c.value, x = c.x, alpha = c.alpha;
    const int inputs = c.operation == backward ? 3 : 2;
    Loop Kernels::* const loops[] = {&Kernels::forward, &Kernels::backward, &Kernels::inverse};
    Loop Kernels::* const loop = loops[c.operation];
    char* three[] = {value.data(), alpha.data(), out.data(), nullptr};
    char* four[] = {value.data(), x.data(), alpha.data(), out.data()};
    char* const* data = c.operation == backward ? four : three;
    for (const Output output : {Output::callers, Output::fresh}) {
      run_dense(c.dtype, loop, inputs, data, layout, c.n, output);
      check(out, isa, "a long run");
      std::memset(out.data(), untouched, out.size());
    }
    if (layout.channels == 1) {
      std::ptrdiff_t stride[] = {c.size(), c.size(), c.size(), c.size()};
      stride[inputs - 1] = 0;
      run_strided(c.dtype, loop, inputs, data, stride, c.n);
      check(out, isa, "a long strided run");
    }
    if (c.operation == inverse) return;
    if (c.operation == forward) {
      std::vector<std::uint8_t> signs(c.signs.size(), 0);
      run_with_signs(c.dtype, c.value.data(), c.alpha.data(), layout, out.data(), signs.data(), c.n, Output::callers);
      expect(std::memcmp(signs.data(), c.signs.data(), signs.size()) == 0, c, isa, "signs of a long run", -1);
    } else {
      run_from_signs(c.dtype, c.value.data(), reinterpret_cast<const std::uint8_t*>(c.signs.data()), c.alpha.data(),
                     layout, out.data(), c.n, Output::callers);
    }
    check(out, isa, "a long run with signs");
  }
};

void check_long(const Case& c, const char* isa) {
  const std::ptrdiff_t times = several_pieces / (c.n * c.size());
  for (const int threads : {1, 256}) {
    set_num_threads(threads);
    Long(c, times, 1).run(isa);
    Long(c, 3, times / 3).run(isa);
  }
}

// Several callers at once, while the number of threads changes. Forks are tested in test_threads.py, because neither
// the emulator nor the thread sanitizer can start threads in a child.
void check_callers(const std::vector<const Case*>& seeds, const char* isa) {
  std::vector<Long> jobs;
  for (const Case* c : seeds) jobs.emplace_back(*c, several_pieces / (c->n * c->size()), 1);
  const auto all = [&](std::size_t first) {
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const Long& job = jobs[(first + i) % jobs.size()];
      Bytes out(static_cast<std::size_t>(job.c.n * job.c.size()), untouched), value = job.c.value, alpha = job.c.alpha;
      char* data[] = {value.data(), alpha.data(), out.data()};
      for (int again = 0; again < 5; ++again)
        run_dense(job.c.dtype, &Kernels::forward, 2, data, job.layout, job.c.n, Output::callers);
      for (std::ptrdiff_t e = 0; e < job.c.n; ++e)
        if (!same(job.c.dtype, &out[e * job.c.size()], &job.c.expected[e * job.c.size()])) {
          std::printf("%s: one of several callers got a wrong value\n", isa);
          std::_Exit(1);
        }
    }
  };
  std::vector<std::thread> callers;
  for (std::size_t i = 0; i < 4; ++i) callers.emplace_back(all, i);
  for (const int threads : {1, 256, 2, 256}) {
    set_num_threads(threads);
    all(0);
  }
  for (std::thread& caller : callers) caller.join();
  checks += static_cast<long>(8 * jobs.size());
}

}  // namespace

int main(int count, char** arguments) {
  const bool pool_alone = count == 4 && std::string(arguments[3]) == "pool";
  if (count != 3 && !pool_alone) {
    std::fprintf(stderr, "usage: battery VECTORS PASSES [pool]\n");
    return 2;
  }
  if (const std::string wrong = read_thread_environment(); !wrong.empty()) {
    std::fprintf(stderr, "%s\n", wrong.c_str());
    return 2;
  }
  const std::vector<Case> cases = read_cases(arguments[1]);
  const std::vector<battery::Pass> passes = battery::read_passes(arguments[2]);
  battery::check_quota();
  battery::check_pool();
  for (const KernelRow* row : available_rows()) {
    checks = 0;
    choose(row->isa);
    std::vector<const Case*> shared;
    std::set<std::tuple<DType, Operation, bool>> met;
    for (const Case& c : cases) {
      if (!pool_alone) check_kernels(c, *row);
      if (c.n != 1000 || !met.emplace(c.dtype, c.operation, c.alphas == 1).second) continue;
      check_long(c, row->isa);
      if (c.operation == forward) shared.push_back(&c);
    }
    check_callers(shared, row->isa);
    checks += battery::check_passes(passes, row->isa);
    std::printf("%s: %zu cases, %ld checks, no difference\n", row->isa, cases.size() + passes.size(), checks);
    std::fflush(stdout);
  }
  return 0;
}
