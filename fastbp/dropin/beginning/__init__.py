"""When kernels begin, and for which calls: work is counted from shapes, Numba imported, and first runs have help."""
