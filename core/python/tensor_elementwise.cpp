// Leaky ReLU with packed signs on the memory of tensors (tensor_args.h).
#include <algorithm>
#include <cstring>

#include "ops/elementwise.h"
#include "python/module_parts.h"
#include "python/tensor_args.h"
#include "runtime/huge_pages.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {
namespace {

// PyTorch takes elements at any address (torch.frombuffer), the kernels at multiples of their size. Unaligned elements
// are copied to an aligned buffer, this many at a time, so that the signs of each part are whole bytes.
constexpr std::ptrdiff_t buffered = 1024;

bool aligned(const char* at, std::ptrdiff_t size) { return reinterpret_cast<std::uintptr_t>(at) % size == 0; }

// run(from, to, signs, n): the operation on that part.
template <class Run>
PyObject* run_tensor(const TensorLayout& data, const char* from, char* to, char* sign_bytes, const Run& run) {
  auto* signs = reinterpret_cast<std::uint8_t*>(sign_bytes);
  const std::ptrdiff_t size = size_of(data.dtype), length = data.size();
  const auto work = [&] {
    const ThreadLimit limit(data.threads);
    if (aligned(from, size) && aligned(to, size)) {
      if (from != to) advise_huge_pages(to, length * size);
      run(from, to, signs, length);
      return;
    }
    alignas(double) char buffer[buffered * sizeof(double)];
    for (std::ptrdiff_t begin = 0; begin < length; begin += buffered) {
      const std::ptrdiff_t n = std::min(buffered, length - begin);
      std::memcpy(buffer, from + begin * size, n * size);
      run(buffer, buffer, signs + begin / 8, n);
      std::memcpy(to + begin * size, buffer, n * size);
    }
  };
  if (!without_gil(length, work)) return nullptr;
  Py_RETURN_NONE;
}

// Floating-point flags are not reported, because PyTorch does not report them either.

PyObject* with_signs_at(PyObject*, PyObject* args) {
  TensorLayout data;
  double slope;
  char *x, *y, *signs;
  if (!PyArg_ParseTuple(args, "O&dO&O&O&:with_signs_at", take_layout, &data, &slope, take_address, &x, take_address, &y,
                        take_address, &signs))
    return nullptr;
  const ScalarAlpha alpha(data.dtype, slope);
  if (data.size() > 0) signs[(data.size() - 1) / 8] = 0;  // the trailing bits
  return run_tensor(data, x, y, signs, [&](const char* from, char* to, std::uint8_t* packed, std::ptrdiff_t n) {
    run_with_signs(data.dtype, from, alpha.bytes(), {1, 1, n}, to, packed, n, Output::fresh);
  });
}

PyObject* from_signs_at(PyObject*, PyObject* args) {
  TensorLayout data;
  double slope;
  char *grad, *signs, *out;
  if (!PyArg_ParseTuple(args, "O&dO&O&O&:from_signs_at", take_layout, &data, &slope, take_address, &grad, take_address,
                        &signs, take_address, &out))
    return nullptr;
  const ScalarAlpha alpha(data.dtype, slope);
  return run_tensor(data, grad, out, signs, [&](const char* from, char* to, std::uint8_t* packed, std::ptrdiff_t n) {
    run_from_signs(data.dtype, from, packed, alpha.bytes(), {1, 1, n}, to, n, Output::fresh);
  });
}

PyObject* begin_hint(PyObject*, PyObject* bytes) {
  const std::ptrdiff_t count = PyLong_AsSsize_t(bytes);
  if (PyErr_Occurred()) return nullptr;
  begin_huge_page_hint(count);
  Py_RETURN_NONE;
}

PyObject* end_hint(PyObject*, PyObject*) {
  end_huge_page_hint();
  Py_RETURN_NONE;
}

}  // namespace

PyMethodDef tensor_elementwise_methods[] = {
    {"with_signs_at", with_signs_at, METH_VARARGS,
     "with_signs_at($module, layout, slope, x, y, signs, /)\n--\n\n"
     "Write Leaky ReLU of x to y and the packed signs of x to signs, all at addresses."},
    {"from_signs_at", from_signs_at, METH_VARARGS,
     "from_signs_at($module, layout, slope, grad, signs, out, /)\n--\n\n"
     "Write the gradient to out, from grad and packed signs, all at addresses."},
    {"begin_huge_page_hint", begin_hint, METH_O,
     "begin_huge_page_hint($module, size, /)\n--\n\n"
     "Reserve address space so that the next mapping of that many bytes begins where a huge page does."},
    {"end_huge_page_hint", end_hint, METH_NOARGS,
     "end_huge_page_hint($module, /)\n--\n\n"
     "Release what begin_huge_page_hint() reserved."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
