// The extension module leakyrelu._core.
#define LEAKYRELU_IMPORTS_NUMPY
#include <cstdlib>
#include <string>

#include "python/fast_path.h"
#include "python/numpy_api.h"
#include "python/packed_signs.h"
#include "python/tensor_census.h"
#include "python/tensor_elementwise.h"
#include "python/tensor_norm.h"
#include "python/tensor_prelu.h"
#include "python/ufuncs.h"
#include "runtime/cpus.h"
#include "runtime/dispatch.h"
#include "runtime/huge_pages.h"
#include "runtime/memory.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {
namespace {

PyObject* config(PyObject*, PyObject*) {
  Ref available(PyList_New(0));
  if (!available) return nullptr;
  for (const KernelRow* row : available_rows()) {
    Ref name(PyUnicode_FromString(row->isa));
    if (!name || PyList_Append(available.get(), name.get()) < 0) return nullptr;
  }
  return Py_BuildValue("{s:s,s:O,s:i,s:i,s:n}", "isa", active_row().isa, "isa_available", available.get(),
                       "num_threads", get_num_threads(), "usable_cpus", usable_cpus(), "cache_bytes",
                       static_cast<Py_ssize_t>(cache_bytes()));
}

PyObject* get_threads(PyObject*, PyObject*) { return PyLong_FromLong(get_num_threads()); }

PyObject* set_threads(PyObject*, PyObject* argument) {
  constexpr long many = 1 << 20;
  int overflow = 0;
  const long count = PyLong_AsLongAndOverflow(argument, &overflow);
  if (overflow == 0 && count == -1 && PyErr_Occurred()) return nullptr;
  if (overflow < 0 || (overflow == 0 && count < 1))
    return PyErr_Format(
        PyExc_ValueError,
        "set_num_threads: %S is not a number of threads; give 1 or more (1 to compute on the calling thread alone)",
        argument);
  set_num_threads(static_cast<int>(overflow > 0 || count > many ? many : count));
  Py_RETURN_NONE;
}

PyObject* share_openmp_at(PyObject*, PyObject* argument) {
  void* address = PyLong_AsVoidPtr(argument);
  if (address == nullptr && PyErr_Occurred()) return nullptr;
  share_openmp(address);
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"leaky_relu_with_signs", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(leaky_relu_with_signs)),
     METH_FASTCALL, "leaky_relu_with_signs(x, alpha, out=None, /) -> (y, signs)"},
    {"leaky_relu_backward_from_signs",
     reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(leaky_relu_backward_from_signs)), METH_FASTCALL,
     "leaky_relu_backward_from_signs(grad, signs, alpha, out=None, /) -> grad_input"},
    {"with_signs_at", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(with_signs_at)), METH_FASTCALL,
     "with_signs_at(dtype, slope, n, threads, x, y, signs, /): on addresses"},
    {"make_room", make_room_for, METH_O, "make_room(size, /): the next mapping begins where huge pages do"},
    {"leave_room", leave_room_again, METH_NOARGS, "leave_room(): ends what make_room began"},
    {"from_signs_at", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(from_signs_at)), METH_FASTCALL,
     "from_signs_at(dtype, slope, n, threads, grad, signs, out, /): on addresses"},
    {"prelu_forward_at", prelu_forward_at, METH_VARARGS,
     "prelu_forward_at(layout, threads, weight, x, y, signs, /): on addresses"},
    {"prelu_backward_at", prelu_backward_at, METH_VARARGS,
     "prelu_backward_at(layout, threads, weight and inverse, grad, given, signs, out, /) -> sums: on addresses"},
    {"add_census", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(add_census)), METH_FASTCALL,
     "add_census(x, bfloat16, outer, channels, inner, low, ceiling, counts, moments, /)"},
    {"add_census_at", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(add_census_at)), METH_FASTCALL,
     "add_census_at(dtype, address, outer, channels, inner, low, ceiling, counts, moments, threads, /)"},
    {"get_num_threads", get_threads, METH_NOARGS, "get_num_threads() -> int"},
    {"set_num_threads", set_threads, METH_O, "set_num_threads(count, /)"},
    {"share_openmp", share_openmp_at, METH_O, "share_openmp(address of GOMP_parallel, or 0, /)"},
    {"config", config, METH_NOARGS, "config() -> dict: instruction sets, threads, and the cache of a core."},
    {nullptr, nullptr, 0, nullptr},
};

int execute(PyObject* module) {
  if (PyArray_ImportNumPyAPI() < 0 || PyUFunc_ImportUFuncAPI() < 0) return -1;
  const char* isa = std::getenv("LEAKYRELU_ISA");
  std::string wrong = choose(isa == nullptr ? "" : isa);
  if (wrong.empty()) wrong = read_thread_environment();
  if (!wrong.empty()) {
    PyErr_SetString(PyExc_ImportError, wrong.c_str());
    return -1;
  }
  if (PyModule_AddFunctions(module, norm_methods) < 0) return -1;
  return add_ufuncs(module) < 0 ? -1 : add_shortcut(module);
}

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(execute)},
#if defined(Py_mod_multiple_interpreters)
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},  // as NumPy, whose tables we hold
#endif
#if defined(Py_mod_gil)
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "leakyrelu._core",
    "The native part of leakyrelu.",
    0,
    methods,
    slots,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace
}  // namespace leakyrelu

PyMODINIT_FUNC PyInit__core() { return PyModuleDef_Init(&leakyrelu::definition); }
