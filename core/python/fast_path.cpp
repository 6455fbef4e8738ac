// The fast path: the usual calls of a public function, answered without a Python frame or the ufunc machinery.
//
// A public function is written in Python (arrays.py), where its meaning and the default of alpha stand.
// fast_path(function, name) is a decorator that answers the calls that need none of that: a Python float; a plain dense
// array with an alpha that broadcasts over it, and perhaps an output of the same layout. Every other call takes the
// general path, the function itself. Both paths end in the same kernels.
#include <cmath>
#include <cstring>

#include "kernels/leaky_relu.h"
#include "python/dtypes.h"
#include "python/errors.h"
#include "python/module_parts.h"
#include "python/operands.h"
#include "runtime/huge_pages.h"

namespace leakyrelu {
namespace {

enum class Kind { ufunc, with_signs, from_signs };

struct Operation {
  const char* name;
  Kind kind;
  Loop Kernels::* loop;  // of a ufunc
  int inputs;            // alpha is the last
  bool needs_positive_alpha;
};

constexpr Operation operations[] = {
    {"leaky_relu", Kind::ufunc, &Kernels::forward, 2, false},
    {"leaky_relu_backward", Kind::ufunc, &Kernels::backward, 3, false},
    {"leaky_relu_inverse", Kind::ufunc, &Kernels::inverse, 2, true},
    {"leaky_relu_with_signs", Kind::with_signs, nullptr, 2, false},
    {"leaky_relu_backward_from_signs", Kind::from_signs, nullptr, 3, false},
};

struct FastPath {
  PyObject_HEAD vectorcallfunc call;
  PyObject* function;
  PyObject* attributes;
  const Operation* operation;
  double default_alpha;  // that of the function
};

PyObject *alpha_keyword, *out_keyword;

// The arguments of a call, by name; null where one is not given.
struct Arguments {
  PyObject* inputs[3] = {};  // alpha in the last place
  PyObject* out = nullptr;
  double default_alpha;
};

bool read_arguments(const Operation& operation, PyObject* const* args, Py_ssize_t count, PyObject* names,
                    Arguments& found) {
  const int alpha = operation.inputs - 1;
  if (count < alpha || count > operation.inputs) return false;
  for (Py_ssize_t i = 0; i < count; ++i) found.inputs[i] = args[i];
  const Py_ssize_t keywords = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < keywords; ++i) {
    // Keywords are interned, so identity finds them; where it does not, the function itself reads them.
    PyObject* name = PyTuple_GET_ITEM(names, i);
    if (name == alpha_keyword && found.inputs[alpha] == nullptr)
      found.inputs[alpha] = args[count + i];
    else if (name == out_keyword)
      found.out = args[count + i] == Py_None ? nullptr : args[count + i];
    else
      return false;
  }
  return true;
}

bool is_number(PyObject* object) { return PyFloat_CheckExact(object) || PyLong_CheckExact(object); }

// alpha as a double, for a float or an int. The kernels round it to their type; so that nothing is rounded twice,
// integers that a double does not hold take the general path.
bool read_number(PyObject* object, double& value) {
  if (PyFloat_CheckExact(object)) {
    value = PyFloat_AS_DOUBLE(object);
  } else {
    constexpr long long exact = 1LL << 53;
    int overflow;
    const long long integer = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0 || integer < -exact || integer > exact) return false;
    value = static_cast<double>(integer);
  }
  return true;
}

enum Order { none, c_order, fortran_order };

// The order of a plain array that a kernel can process as one run.
Order order_of(PyObject* object) {
  if (!PyArray_CheckExact(object)) return none;
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  if (!PyArray_ISBEHAVED_RO(array)) return none;
  return PyArray_IS_C_CONTIGUOUS(array) ? c_order : PyArray_IS_F_CONTIGUOUS(array) ? fortran_order : none;
}

bool same_layout(PyArrayObject* a, PyArrayObject* b) {
  const int axes = PyArray_NDIM(a);
  return axes == PyArray_NDIM(b) &&
         (PyArray_DESCR(a) == PyArray_DESCR(b) || PyArray_EquivTypes(PyArray_DESCR(a), PyArray_DESCR(b))) &&
         std::memcmp(PyArray_DIMS(a), PyArray_DIMS(b), axes * sizeof(npy_intp)) == 0;
}

bool same_or_apart(PyArrayObject* a, PyArrayObject* b) {
  return PyArray_BYTES(a) == PyArray_BYTES(b) || !share_memory(a, b);
}

// The first operand and alpha of a call that needs no conversion, and its output.
struct Plain {
  Order order = none;
  Data data;
  const char* alpha = nullptr;
  AlphaLayout layout;
  Ref out;

  PyArrayObject* x() const { return data.get(); }
  char* to() const { return PyArray_BYTES(out.array()); }

  // These return false where the call must take the general path, and where there is a Python error.
  bool take(const Operation& operation, const Arguments& given);
  bool take_out(const Arguments& given);
  // Whether the output is the caller's, and overlaps an operand without beginning at the same address.
  bool overlaps(const Arguments& given, PyObject* operand) const {
    return given.out != nullptr && !same_or_apart(reinterpret_cast<PyArrayObject*>(operand), out.array());
  }

 private:
  ScalarAlpha number_;
  Alpha array_;
};

bool Plain::take(const Operation& operation, const Arguments& given) {
  auto* x = reinterpret_cast<PyArrayObject*>(given.inputs[0]);
  order = order_of(given.inputs[0]);
  // 0-d results are scalars, which only the ufunc makes.
  if (order == none || PyArray_NDIM(x) == 0) return false;
  PyArray_DTypeMeta* dtype = reinterpret_cast<PyArray_DTypeMeta*>(Py_TYPE(PyArray_DESCR(x)));
  if (is_integer(dtype) || compute_dtype(dtype) != dtype) return false;
  data.dtype = index_of(dtype);
  Py_INCREF(x);
  data.array = Ref(given.inputs[0]);

  PyObject* object = given.inputs[operation.inputs - 1];
  if (object == nullptr || is_number(object)) {
    double value = given.default_alpha;
    if ((object != nullptr && !read_number(object, value)) || (operation.needs_positive_alpha && !(value > 0)))
      return false;
    const bool in_double = data.dtype == DType::float64 || data.dtype == DType::longdouble;
    if (!in_double && std::isinf(static_cast<float>(value)) && !std::isinf(value))
      return false;  // the ufunc warns of it
    number_.set(data.dtype, value);
    alpha = number_.bytes();
    layout = {1, 1, data.size()};
  } else {
    // A slope per channel. Only in C order does it broadcast over the memory as it broadcasts over the axes.
    if (order != c_order || order_of(object) == none || operation.needs_positive_alpha) return false;
    if (!take_alpha(operation.name, object, data, array_)) {
      PyErr_Clear();  // broadcasts to more than x, or is no number: the function itself decides
      return false;
    }
    alpha = array_.bytes();
    layout = array_.layout;
  }
  return true;
}

bool Plain::take_out(const Arguments& given) {
  if (given.out == nullptr) {
    const HugePageHint hint(PyArray_NBYTES(x()));
    out = Ref(PyArray_NewLikeArray(x(), NPY_KEEPORDER, nullptr, 0));
    return static_cast<bool>(out);
  }
  auto* target = reinterpret_cast<PyArrayObject*>(given.out);
  if (order_of(given.out) != order || !PyArray_ISWRITEABLE(target) || !same_layout(x(), target)) return false;
  if (array_.array && share_memory(target, array_.array.array())) return false;
  Py_INCREF(given.out);
  out = Ref(given.out);
  return true;
}

PyObject* run_ufunc(const Operation& operation, const Arguments& given, Plain& plain) {
  const int alpha = operation.inputs - 1;
  for (int i = 1; i < alpha; ++i) {
    if (order_of(given.inputs[i]) != plain.order ||
        !same_layout(plain.x(), reinterpret_cast<PyArrayObject*>(given.inputs[i])))
      return nullptr;
  }
  if (!plain.take_out(given)) return nullptr;
  char* pointers[4] = {};
  for (int i = 0; i < alpha; ++i) {
    if (plain.overlaps(given, given.inputs[i])) return nullptr;
    pointers[i] = PyArray_BYTES(reinterpret_cast<PyArrayObject*>(given.inputs[i]));
  }
  pointers[alpha] = const_cast<char*>(plain.alpha);
  pointers[operation.inputs] = plain.to();
  const Output output = given.out == nullptr ? Output::fresh : Output::callers;
  const Data& data = plain.data;
  const auto work = [&] {
    run_dense(data.dtype, operation.loop, operation.inputs, pointers, plain.layout, data.size(), output);
  };
  FloatingPointFlags flags(operation.name, data.dtype);
  if (!without_gil(data.size(), work)) return nullptr;
  return flags.report(flags.raised()) ? plain.out.release() : nullptr;
}

PyObject* run_signs(const Operation& operation, const Arguments& given, Plain& plain) {
  if (plain.order != c_order) return nullptr;  // the order of the signs
  const bool pack = operation.kind == Kind::with_signs;
  const Data& data = plain.data;
  npy_intp bytes = (data.size() + 7) / 8;
  Ref fresh_signs;
  PyObject* signs = pack ? nullptr : given.inputs[1];
  if (!pack) {
    auto* array = reinterpret_cast<PyArrayObject*>(signs);
    if (order_of(signs) == none || PyArray_TYPE(array) != NPY_UINT8 || PyArray_NDIM(array) != 1 ||
        PyArray_SIZE(array) != bytes)
      return nullptr;
  }
  if (!plain.take_out(given) || plain.overlaps(given, data.array.get())) return nullptr;
  if (pack) {
    fresh_signs = Ref(PyArray_SimpleNew(1, &bytes, NPY_UINT8));
    if (!fresh_signs) return nullptr;
    signs = fresh_signs.get();
  } else if (given.out != nullptr && share_memory(plain.out.array(), reinterpret_cast<PyArrayObject*>(signs))) {
    return nullptr;
  }
  auto* sign_bytes = reinterpret_cast<std::uint8_t*>(PyArray_BYTES(reinterpret_cast<PyArrayObject*>(signs)));
  if (pack && bytes > 0) sign_bytes[bytes - 1] = 0;  // the trailing bits
  const Output output = given.out == nullptr ? Output::fresh : Output::callers;
  const auto work = [&] {
    if (pack)
      run_with_signs(data.dtype, data.bytes(), plain.alpha, plain.layout, plain.to(), sign_bytes, data.size(), output);
    else
      run_from_signs(data.dtype, data.bytes(), sign_bytes, plain.alpha, plain.layout, plain.to(), data.size(), output);
  };
  FloatingPointFlags flags(operation.name, data.dtype);
  if (!without_gil(data.size(), work) || !flags.report(flags.raised())) return nullptr;
  return pack ? PyTuple_Pack(2, plain.out.get(), signs) : plain.out.release();
}

// The result, or null without a Python error where the call must take the general path.
PyObject* run_array(const Operation& operation, const Arguments& given) {
  Plain plain;
  if (!plain.take(operation, given)) return nullptr;
  return operation.kind == Kind::ufunc ? run_ufunc(operation, given, plain) : run_signs(operation, given, plain);
}

PyObject* call(PyObject* object, PyObject* const* args, std::size_t count_and_flag, PyObject* names) {
  auto* self = reinterpret_cast<FastPath*>(object);
  const Operation& operation = *self->operation;
  const Py_ssize_t count = PyVectorcall_NARGS(count_and_flag);
  Arguments given{{}, nullptr, self->default_alpha};
  if (read_arguments(operation, args, count, names, given)) {
    PyObject* first = given.inputs[0];
    if (PyFloat_CheckExact(first)) {
      PyObject* number = given.inputs[1];
      double alpha = given.default_alpha;
      if (&operation == &operations[0] && given.out == nullptr &&
          (number == nullptr || (is_number(number) && read_number(number, alpha)))) {
        const double x = PyFloat_AS_DOUBLE(first);
        return PyFloat_FromDouble(one<double, Multiply>(x, positive(x), alpha));
      }
    } else {
      PyObject* result = run_array(operation, given);
      if (result != nullptr || PyErr_Occurred()) return result;
    }
  }
  return PyObject_Vectorcall(self->function, args, count_and_flag, names);
}

// As an object -------------------------------------------------------------------------------------------------------

int traverse(PyObject* self, visitproc visit, void* arg) {
  auto* fast_path = reinterpret_cast<FastPath*>(self);
  Py_VISIT(fast_path->function);
  Py_VISIT(fast_path->attributes);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

int clear(PyObject* self) {
  auto* fast_path = reinterpret_cast<FastPath*>(self);
  Py_CLEAR(fast_path->function);
  Py_CLEAR(fast_path->attributes);
  return 0;
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  clear(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* repr(PyObject* self) {
  return PyUnicode_FromFormat("<function leakyrelu.%s>", reinterpret_cast<FastPath*>(self)->operation->name);
}

// Returns itself: like a ufunc, it never binds to an instance; but `help` shows the arguments only of objects that have
// a __get__.
PyObject* get(PyObject* self, PyObject*, PyObject*) {
  Py_INCREF(self);
  return self;
}

// Pickled and copied by name, as functions are.
PyObject* reduce(PyObject* self, PyObject*) { return PyObject_GetAttrString(self, "__qualname__"); }

// The default of alpha, which is the only default of a positional argument.
bool read_default(PyObject* function, double& alpha) {
  Ref defaults(PyObject_GetAttrString(function, "__defaults__"));
  if (!defaults) return false;
  if (!PyTuple_Check(defaults.get()) || PyTuple_GET_SIZE(defaults.get()) != 1)
    return refuse(PyExc_TypeError, "fast_path", "%R must have one default, that of alpha", function);
  alpha = PyFloat_AsDouble(PyTuple_GET_ITEM(defaults.get(), 0));
  return PyErr_Occurred() == nullptr;
}

// fast_path(function, name): the object in the place of the function. functools.update_wrapper gives it the rest.
PyObject* make(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject* function;
  const char* name;
  double default_alpha = 0;
  if (!PyArg_ParseTuple(args, "Os:fast_path", &function, &name) || !read_default(function, default_alpha))
    return nullptr;
  for (const Operation& operation : operations) {
    if (std::strcmp(operation.name, name) != 0) continue;
    auto* self = reinterpret_cast<FastPath*>(type->tp_alloc(type, 0));
    if (self == nullptr) return nullptr;
    self->call = call;
    Py_INCREF(function);
    self->function = function;
    self->operation = &operation;
    self->default_alpha = default_alpha;
    self->attributes = PyDict_New();
    if (self->attributes == nullptr) {
      Py_DECREF(self);
      return nullptr;
    }
    return reinterpret_cast<PyObject*>(self);
  }
  refuse(PyExc_ValueError, "fast_path", "there is no operation named %s", name);
  return nullptr;
}

PyMethodDef methods[] = {{"__reduce__", reduce, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(FastPath, call), READONLY, nullptr},
    {"__dictoffset__", T_PYSSIZET, offsetof(FastPath, attributes), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};
PyGetSetDef getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};
PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(make)},
    {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(clear)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_descr_get, reinterpret_cast<void*>(get)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, getset},
    {0, nullptr},
};
PyType_Spec spec = {
    "leakyrelu._core.fast_path",
    sizeof(FastPath),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    slots,
};

}  // namespace

int add_fast_path(PyObject* module) {
  alpha_keyword = PyUnicode_InternFromString("alpha");
  out_keyword = PyUnicode_InternFromString("out");
  if (alpha_keyword == nullptr || out_keyword == nullptr) return -1;
  Ref type(PyType_FromSpec(&spec));
  return type ? PyModule_AddObjectRef(module, "fast_path", type.get()) : -1;
}

}  // namespace leakyrelu
