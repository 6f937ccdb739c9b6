"""Benchmarks, on this machine, over loopback.

    python -m bench.suite      the whole system in all its settings (`make bench`)
    python -m bench.peers      the same loads for ejabberd, Prosody and mosquitto (`make bench-peers`)
    python -m bench.quick      a look at the hot paths in a minute, as ratios (`make bench-quick`)
    python -m bench.soak       ten minutes of steady load, and the memory of all processes (`make bench-soak`)
    python -m bench.rpc        calls between two processes, beside blocking pyzmq and zerorpc (extra `bench`)
    python -m bench.fanout     one publisher, two subscribers with 2,000 local recipients; 100,000 subscriptions
    python -m bench.chat       1,000 client connections in 500 pairs; 10,000 idle ones; cold start
    python -m bench.group      groups of 200 to 100,000 members; logins and syncs of their members
    python -m bench.memory     what a stored message costs in Redis

Each takes --rounds, --seconds, --quick, --json FILE (see --help), starts what it needs in a temporary directory, tells
on stderr how far it is, and prints markdown tables. Exit code 0: every mark reached, 1: one missed, or wrong answers.

How it is laid out: `dialects` say what a protocol's messages look like, `pairs` and `crowd` generate load in any of
them, `systems` start what is measured, `workloads` put the three together and give figures; `measure` has clocks,
rounds and tables; `plots` draws. Every generator checks what it receives: loss, repeats and disorder are figures too.

Rules: the contestants take turns in every round (A B C A B C ...); tables show the median and the range of the rounds;
ratios compare runs of the same round. The first figure is CPU time per operation, user and system, of all threads of
all server processes from /proc/PID/task/*/schedstat, because it hardly depends on what else the machine does; rates and
latencies come second. With two cores or more, servers are pinned to the first and the generator of load to the second.
"""
