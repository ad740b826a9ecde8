"""Measured time and memory of sweeps, beside the libraries that do the same: python -m benchmarks."""
