#include "tensors.h"

#include "memory.h"
#include "run.h"
#include "threads.h"

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
  without_gil(call.n, [&, x = x, y = y, signs = signs] {
    const ThreadLimit limit(call.threads);
    if (x != y) advise_huge_pages(y, call.n * size_of(call.dtype));
    if (call.n > 0) signs[(call.n - 1) / 8] = 0;  // the trailing bits
    run_with_signs(call.dtype, x, call.alpha(), {1, 1, call.n}, y, reinterpret_cast<std::uint8_t*>(signs), call.n,
                   Output::fresh);
  });
  Py_RETURN_NONE;
}

PyObject* from_signs_at(PyObject*, PyObject* const* args, Py_ssize_t count) {
  Call call;
  if (!read("from_signs_at", args, count, call)) return nullptr;
  const auto [grad, signs, out] = call.at;
  without_gil(call.n, [&, grad = grad, signs = signs, out = out] {
    const ThreadLimit limit(call.threads);
    if (grad != out) advise_huge_pages(out, call.n * size_of(call.dtype));
    run_from_signs(call.dtype, grad, reinterpret_cast<const std::uint8_t*>(signs), call.alpha(), {1, 1, call.n}, out,
                   call.n, Output::fresh);
  });
  Py_RETURN_NONE;
}

}  // namespace leakyrelu
