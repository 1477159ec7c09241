"""The kernels in plain loops, which LLVM vectorises: for processors without AVX-512, and to test the others against."""
