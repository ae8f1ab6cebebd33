"""Somebody's objects, functions and arrays while their script runs: marks, attributes, random numbers.

The lowest package of `dropin`: also what kernels take of them, from which sizes on (`arguments`).
"""
