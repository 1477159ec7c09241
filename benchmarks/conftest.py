"""The test suite skips benchmarks (`--benchmark-skip`); asking for this directory means running them."""


def pytest_configure(config):
    config.option.benchmark_skip = False
