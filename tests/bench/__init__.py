"""How fast the service is, beside its peers and as its table grows; pytest collects nothing here.

    python -m tests.bench           requests/s, latency, CPU and memory of the service and of its peers
    python -m tests.bench growth    the time of each operation from 10,000 alerts to a million and more

A run passes five rooms: `servers.py` starts PostgreSQL, the service and its peers; `seed.py` lays the same alerts in
each one's database; `load.py` sends requests with wrk; `compare.py` or `growth.py` decides what is measured in which
order; `report.py` and `curves.py` write it down.
"""
