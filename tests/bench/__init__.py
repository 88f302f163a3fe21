"""Benchmarks of the service, of other implementations (peers), and of growing tables. pytest collects nothing here.

    python -m tests.bench           requests/s, latency, CPU and memory of the service and its peers
    python -m tests.bench bulk      single creates, bulk lists and an NDJSON stream
    python -m tests.bench growth    the time of each operation from 10,000 alerts to a million and more

README.md in this folder lists the modules.
"""
