// How means and sums of squared distances of two sets of numbers give those of both.
#pragma once

namespace leakyrelu {
namespace {

// Adds `n` numbers of that mean and sum of squared distances to `count` others (Chan, Golub, LeVeque 1983). The means
// are weighted, not moved by a part of their distance, so that an infinite one stays infinite.
inline void merge(double count, double& mean, double& squares, double n, double other_mean, double other_squares) {
  const double distance = other_mean - mean;
  mean = count == 0 ? other_mean : mean * (count / (count + n)) + other_mean * (n / (count + n));
  squares += other_squares + distance * distance * (count * n / (count + n));
}

}  // namespace
}  // namespace leakyrelu
