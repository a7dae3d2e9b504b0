"""recordd beside the servers that people would pick instead, over the wire.

`loadgen.c` puts the load on every server alike: it sends bytes that were made before and
finds the ends of the answers. `questions.py` is the list of what is measured, `recordd.py`,
`redis.py`, `postgres.py` and `nats.py` say the same in each protocol and run the servers.
"""
