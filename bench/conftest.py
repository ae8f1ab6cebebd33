"""Benchmarks run one after the other: `-n auto` stands for no other processes where anything is measured."""


def pytest_xdist_auto_num_workers(config):
    return None if config.getoption("benchmark_disable") else 0
