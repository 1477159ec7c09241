"""The kernels in tiles of vectors held in registers (simd.py): for processors with AVX-512."""
