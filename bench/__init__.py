"""Benchmarks of the hot paths, on this machine, over loopback.

    python -m bench.rpc        calls between two processes, beside blocking pyzmq and zerorpc (extra `bench`)
    python -m bench.fanout     one publisher, two subscribers with 2,000 local recipients; 100,000 subscriptions
    python -m bench.chat       1,000 client connections in 500 pairs; 10,000 idle ones; cold start

Each takes --rounds, --seconds, --quick, --json FILE (see --help), starts what it needs in a temporary directory, tells
on stderr how far it is, and prints markdown tables. Exit code 0: every mark reached, 1: one missed, or wrong answers.

Rules: the contestants take turns in every round (A B C A B C ...); tables show the median and the range of the rounds;
ratios compare runs of the same round. The first figure is CPU time per operation, user and system, of all threads of
all server processes from /proc/PID/task/*/schedstat, because it hardly depends on what else the machine does; rates and
latencies come second. With two cores or more, servers are pinned to the first and the generator of load to the second.
"""
