// Data for driver.cpp, and what it says of the results.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

// For results and workspaces: NaN until written.
template <typename T>
std::vector<T> room(int64_t count) {
  return std::vector<T>(count, T(NAN));
}

// Numbers between 0 and 1, the same in every run.
template <typename T>
std::vector<T> random(int64_t count) {
  static uint64_t state = 218;
  std::vector<T> values(count);
  for (T& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = T(double(state >> 40) / double(1 << 24));
  }
  return values;
}

// The results of one operator: all launched, all finite, and a checksum of their bits.
class Results {
 public:
  explicit Results(const char* name) : name_(name) {}

  template <typename Drive>
  void run(const Drive& drive) {
    drive(*this);
    printf("%s %016llx\n", name_, static_cast<unsigned long long>(sum_));
  }

  void expect(cudaError_t error) const {
    if (error != cudaSuccess) stop(cudaGetErrorString(error));
  }

  template <typename... T>
  void add(const std::vector<T>&... results) {
    (add_one(results), ...);
  }

 private:
  template <typename T>
  void add_one(const std::vector<T>& result) {
    for (const T& value : result) {
      if (!std::isfinite(value)) stop("a result was not written, or is not finite");
      unsigned char bytes[sizeof(T)];
      memcpy(bytes, &value, sizeof(T));
      for (const unsigned char byte : bytes) sum_ = (sum_ ^ byte) * 1099511628211u;  // FNV-1a
    }
  }
  [[noreturn]] void stop(const char* what) const {
    fprintf(stderr, "%s: %s\n", name_, what);
    exit(1);
  }

  const char* name_;
  uint64_t sum_ = 14695981039346656037u;
};
