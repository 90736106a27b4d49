#pragma once

/// How far two results may be apart that are the same but for rounding.
namespace sentinel::test {

/// Some thousand doubles of size 1 are added: each step rounds by 1.1e-16.
constexpr double kDoubles = 1e-12;
/// An expected value is written with nine digits behind the point, or eight.
constexpr double kNineDigits = 1e-9;
constexpr double kEightDigits = 1e-8;
/// Outputs of networks in f32, whose sums are added in another order. A sum of a thousand products
/// rounds by some 2e-6 of their size; cancellation and the layers behind it magnify that.
constexpr double kFloats = 1e-4;
/// The same for small networks, and for values near 0.
constexpr double kFewFloats = 1e-5;
/// The same under flips of bits: huge values magnify what rounding did.
constexpr double kFaultyFloats = 1e-3;

}  // namespace sentinel::test
