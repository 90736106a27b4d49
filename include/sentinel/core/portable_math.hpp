#pragma once

namespace sentinel {

/// Natural logarithms from IEEE additions, multiplications and divisions in a fixed order, within 4
/// ulp: the same bits on every machine, which the C library does not promise. Fault sites depend on
/// them.

/// ln(x) for finite x > 0.
double portable_log(double x);

/// ln(1 + x) for finite x >= -1, without loss for small x; -infinity for x = -1.
double portable_log1p(double x);

}  // namespace sentinel
