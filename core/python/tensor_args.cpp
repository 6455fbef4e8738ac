#include "python/tensor_args.h"

#include <algorithm>
#include <cstdint>

#include "python/errors.h"

namespace leakyrelu {
namespace {

// Whether that many elements, of which none may be negative, can be addressed, in tables of double as well.
bool is_possible(std::ptrdiff_t samples, std::ptrdiff_t channels, std::ptrdiff_t positions) {
  if (samples < 0 || channels < 0 || positions < 0) return false;
  constexpr std::ptrdiff_t most = PTRDIFF_MAX / static_cast<std::ptrdiff_t>(sizeof(double));
  const auto at_least_one = [](std::ptrdiff_t n) { return std::max<std::ptrdiff_t>(n, 1); };
  const std::ptrdiff_t size = product(at_least_one(samples), at_least_one(channels), at_least_one(positions));
  return size >= 0 && size <= most;
}

}  // namespace

bool is_tensor_dtype(int code) { return code >= 0 && code < tensor_dtype_count; }

int take_layout(PyObject* object, void* layout) {
  constexpr const char* name = "tensor layout";
  auto& data = *static_cast<TensorLayout*>(layout);
  int dtype = 0, last = 0;
  long threads = 0;
  if (!PyTuple_Check(object))
    return refuse(PyExc_TypeError, name,
                  "%R is no tuple of dtype, samples, channels, positions, channels last and threads", object);
  if (!PyArg_ParseTuple(object, "innnpl;tensor layout: (dtype, samples, channels, positions, channels last, threads)",
                        &dtype, &data.samples, &data.channels, &data.positions, &last, &threads))
    return 0;
  if (!is_tensor_dtype(dtype))
    return refuse(PyExc_ValueError, name, "there is no dtype %d; take one of _core.DTYPES", dtype);
  if (!is_possible(data.samples, data.channels, data.positions))
    return refuse(PyExc_ValueError, name, "%zd samples x %zd channels x %zd positions are not a possible size",
                  data.samples, data.channels, data.positions);
  if (threads < 0)
    return refuse(PyExc_ValueError, name, "%ld is not a number of threads; give 0 for as many as are allowed", threads);
  data.dtype = static_cast<DType>(dtype);
  data.channels_last = last != 0;
  data.threads = static_cast<int>(std::min(threads, 1L << 20));
  return 1;
}

int take_address(PyObject* object, void* pointer) {
  auto*& address = *static_cast<char**>(pointer);
  address = static_cast<char*>(PyLong_AsVoidPtr(object));
  return address != nullptr || PyErr_Occurred() == nullptr;
}

PyObject* tensor_dtypes() {
  Ref table(PyDict_New());
  if (!table) return nullptr;
  for (int code = 0; code < tensor_dtype_count; ++code) {
    const Ref number(PyLong_FromLong(code));
    if (!number || PyDict_SetItemString(table.get(), dtype_names[code], number.get()) < 0) return nullptr;
  }
  return table.release();
}

}  // namespace leakyrelu
