/*
 * For a loader without a C library: wasm2c's output defines helpers for floating point that the core, which has none,
 * never calls. They are declared, dropped by the compiler, and defined nowhere.
 */
#ifndef XLU_FREESTANDING_MATH_H
#define XLU_FREESTANDING_MATH_H
#define NAN __builtin_nanf("")
#define INFINITY __builtin_inff()
#define isnan(x) __builtin_isnan(x)
#define signbit(x) __builtin_signbit(x)
double floor(double), ceil(double), trunc(double), nearbyint(double), fabs(double), sqrt(double);
float floorf(float), ceilf(float), truncf(float), nearbyintf(float), fabsf(float), sqrtf(float);
#endif
