// A reader of the vectors that the Python scripts in this folder have written.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

namespace battery {

using Bytes = std::vector<char>;

class Reader {
 public:
  explicit Reader(const char* path) : path_(path), file_(path, std::ios::binary) {}

  std::int64_t number() { return one<std::int64_t>(); }
  double real() { return one<double>(); }
  template <class T>
  std::vector<T> several(std::ptrdiff_t count) {
    std::vector<T> read(static_cast<std::size_t>(count));
    file_.read(reinterpret_cast<char*>(read.data()), count * static_cast<std::ptrdiff_t>(sizeof(T)));
    return read;
  }
  Bytes bytes(std::ptrdiff_t length) { return several<char>(length); }

  // Ends the program unless the file was complete, and at its end.
  void finish(bool any) {
    if (file_ && any && file_.peek() == EOF) return;
    std::fprintf(stderr, "battery: %s does not hold the vectors that are written for this machine\n", path_);
    std::exit(2);
  }

 private:
  template <class T>
  T one() {
    T value{};
    file_.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  }

  const char* path_;
  std::ifstream file_;
};

}  // namespace battery
