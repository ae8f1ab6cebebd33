"""Somebody's objects, functions and arrays while their script runs: marks, attributes, random numbers.

The lowest package of `dropin`; it knows no kernels.
"""
