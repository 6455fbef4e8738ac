#include "python/tensor_elementwise.h"

#include <algorithm>
#include <cstring>

#include "ops/elementwise.h"
#include "runtime/huge_pages.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {
namespace {

// No operand is checked here beyond its number: these functions are the inner half of leakyrelu.torch, which has just
// made the tensors. NumPy's floating-point report is left out, since PyTorch, the host, gives none.
struct Call {
  DType dtype;
  union {
    float single;
    double twice;
  } slope;
  std::ptrdiff_t n;
  int threads;
  char* at[3];

  const char* alpha() const { return reinterpret_cast<const char*>(&slope); }
};

bool read(const char* function, PyObject* const* args, Py_ssize_t count, Call& call) {
  constexpr Py_ssize_t wanted = 7;
  if (count != wanted) {
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments but %zd were given", function, wanted, count);
    return false;
  }
  const long dtype = PyLong_AsLong(args[0]);
  const double slope = PyFloat_AsDouble(args[1]);
  call.n = PyLong_AsSsize_t(args[2]);
  const long threads = PyLong_AsLong(args[3]);
  for (int i = 0; i < 3; ++i) call.at[i] = static_cast<char*>(PyLong_AsVoidPtr(args[4 + i]));
  if (PyErr_Occurred()) return false;
  if (dtype < 0 || dtype > static_cast<int>(DType::float64) || call.n < 0) {
    PyErr_Format(PyExc_ValueError, "%s: there is no dtype %ld, or no length %zd", function, dtype,
                 static_cast<Py_ssize_t>(call.n));
    return false;
  }
  call.dtype = static_cast<DType>(dtype);
  call.threads = threads < 1 ? 1 : static_cast<int>(threads < 1 << 20 ? threads : 1 << 20);
  if (call.dtype == DType::float64)
    call.slope.twice = slope;
  else
    call.slope.single = static_cast<float>(slope);
  return true;
}

// PyTorch takes elements at any address (torch.frombuffer), the kernels at multiples of their size. What lies elsewhere
// goes through memory of our own, so many elements at a time, whose signs are whole bytes.
constexpr std::ptrdiff_t detour = 1024;

bool aligned(const char* at, std::ptrdiff_t size) { return reinterpret_cast<std::uintptr_t>(at) % size == 0; }

// run(from, to, signs, n): the operation on that part.
template <class Run>
PyObject* run_call(const Call& call, const char* from, char* to, char* sign_bytes, const Run& run) {
  auto* signs = reinterpret_cast<std::uint8_t*>(sign_bytes);
  const std::ptrdiff_t size = size_of(call.dtype);
  const auto work = [&] {
    const ThreadLimit limit(call.threads);
    if (aligned(from, size) && aligned(to, size)) {
      if (from != to) advise_huge_pages(to, call.n * size);
      run(from, to, signs, call.n);
      return;
    }
    alignas(double) char own[detour * sizeof(double)];
    for (std::ptrdiff_t begin = 0; begin < call.n; begin += detour) {
      const std::ptrdiff_t n = std::min(detour, call.n - begin);
      std::memcpy(own, from + begin * size, n * size);
      run(own, own, signs + begin / 8, n);
      std::memcpy(to + begin * size, own, n * size);
    }
  };
  if (!without_gil(call.n, work)) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace

PyObject* make_room_for(PyObject*, PyObject* bytes) {
  const std::ptrdiff_t count = PyLong_AsSsize_t(bytes);
  if (PyErr_Occurred()) return nullptr;
  make_room(count);
  Py_RETURN_NONE;
}

PyObject* leave_room_again(PyObject*, PyObject*) {
  leave_room();
  Py_RETURN_NONE;
}

PyObject* with_signs_at(PyObject*, PyObject* const* args, Py_ssize_t count) {
  Call call;
  if (!read("with_signs_at", args, count, call)) return nullptr;
  const auto [x, y, signs] = call.at;
  if (call.n > 0) signs[(call.n - 1) / 8] = 0;  // the trailing bits
  return run_call(call, x, y, signs, [&](const char* from, char* to, std::uint8_t* packed, std::ptrdiff_t n) {
    run_with_signs(call.dtype, from, call.alpha(), {1, 1, n}, to, packed, n, Output::fresh);
  });
}

PyObject* from_signs_at(PyObject*, PyObject* const* args, Py_ssize_t count) {
  Call call;
  if (!read("from_signs_at", args, count, call)) return nullptr;
  const auto [grad, signs, out] = call.at;
  return run_call(call, grad, out, signs, [&](const char* from, char* to, std::uint8_t* packed, std::ptrdiff_t n) {
    run_from_signs(call.dtype, from, packed, call.alpha(), {1, 1, n}, to, n, Output::fresh);
  });
}

}  // namespace leakyrelu
