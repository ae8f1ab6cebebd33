"""Products of matrices: packing, the micro-kernel, and rows that are mostly zeros."""
