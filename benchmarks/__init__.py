"""Benchmarks: this shuffle beside other systems, on one machine, in one run. Not shipped with the package."""
