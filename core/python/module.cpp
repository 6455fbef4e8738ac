// The extension module leakyrelu._core.
#define LEAKYRELU_IMPORTS_NUMPY
#include <cstdlib>
#include <string>

#include "python/errors.h"
#include "python/module_parts.h"
#include "python/numpy_api.h"
#include "python/tensor_args.h"
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
  if (overflow < 0 || (overflow == 0 && count < 1)) {
    refuse(PyExc_ValueError, "set_num_threads",
           "%S is not a number of threads; give 1 or more (1 to compute on the calling thread alone)", argument);
    return nullptr;
  }
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
    {"get_num_threads", get_threads, METH_NOARGS,
     "get_num_threads($module, /)\n--\n\nThe number of threads that the next long run may use."},
    {"set_num_threads", set_threads, METH_O,
     "set_num_threads($module, count, /)\n--\n\nSet the largest number of threads of a run."},
    {"share_openmp", share_openmp_at, METH_O,
     "share_openmp($module, address, /)\n--\n\n"
     "Compute on the threads of the OpenMP library whose GOMP_parallel lies at the address; 0 ends that."},
    {"config", config, METH_NOARGS, "config($module, /)\n--\n\nInstruction sets, threads, and the cache of a core."},
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
  for (PyMethodDef* functions : {packed_signs_methods, tensor_elementwise_methods, tensor_norm_methods,
                                 tensor_prelu_methods, tensor_census_methods}) {
    if (PyModule_AddFunctions(module, functions) < 0) return -1;
  }
  if (PyModule_AddIntConstant(module, "HUGE_PAGES_FROM", huge_pages_from) < 0) return -1;
  const Ref dtypes(tensor_dtypes());
  if (!dtypes || PyModule_AddObjectRef(module, "DTYPES", dtypes.get()) < 0) return -1;
  return add_ufuncs(module) < 0 ? -1 : add_fast_path(module);
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
