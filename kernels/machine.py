"""What the processor offers: the width of its vectors, in bytes.

FASTBP_VECTOR_BYTES=16, 32 or 64 sets another width: every width runs on every machine, LLVM splits or narrows the
vectors that the processor does not have.
"""

from __future__ import annotations

import os

import llvmlite.binding as llvm

WIDTHS = (16, 32, 64)  # SSE and NEON, AVX2, AVX-512


def _vector_bytes() -> int:
    chosen = os.environ.get("FASTBP_VECTOR_BYTES")
    if chosen is None:
        features = llvm.get_host_cpu_features()
        return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    if chosen not in map(str, WIDTHS):
        raise ValueError(f"FASTBP_VECTOR_BYTES must be one of {WIDTHS}, got {chosen!r}")
    return int(chosen)


VECTOR_BYTES = _vector_bytes()
