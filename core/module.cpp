// The extension module leakyrelu._core.
#define LEAKYRELU_IMPORTS_NUMPY
#include <cstdlib>
#include <string>

#include "dispatch.h"
#include "python.h"
#include "signs.h"
#include "ufuncs.h"

namespace leakyrelu {
namespace {

PyObject* show_isa(PyObject*, PyObject*) {
  Ref available(PyList_New(0));
  if (!available) return nullptr;
  for (const KernelRow* row : available_rows()) {
    Ref name(PyUnicode_FromString(row->isa));
    if (!name || PyList_Append(available.get(), name.get()) < 0) return nullptr;
  }
  return Py_BuildValue("{s:s,s:O}", "isa", active_row().isa, "isa_available", available.get());
}

PyMethodDef methods[] = {
    {"leaky_relu_with_signs", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(leaky_relu_with_signs)),
     METH_FASTCALL, "leaky_relu_with_signs(x, alpha, out=None, /) -> (y, signs)"},
    {"leaky_relu_backward_from_signs",
     reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(leaky_relu_backward_from_signs)), METH_FASTCALL,
     "leaky_relu_backward_from_signs(grad, signs, alpha, out=None, /) -> grad_input"},
    {"config", show_isa, METH_NOARGS, "config() -> dict: the instruction set in use and those this machine can run."},
    {nullptr, nullptr, 0, nullptr},
};

int execute(PyObject* module) {
  if (PyArray_ImportNumPyAPI() < 0 || PyUFunc_ImportUFuncAPI() < 0) return -1;
  const char* isa = std::getenv("LEAKYRELU_ISA");
  const std::string wrong = choose(isa == nullptr ? "" : isa);
  if (!wrong.empty()) {
    PyErr_SetString(PyExc_ImportError, wrong.c_str());
    return -1;
  }
  return add_ufuncs(module);
}

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(execute)},
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
