"""Benchmarks run one after the other: the tests' `-n auto` stands for no other processes here."""


def pytest_xdist_auto_num_workers(config):
    return 0
