"""The logic behind ``redis-cluster-cli``: what to do is planned as values, then carried out over client connections.

A client of the cluster, nothing more: it imports no server code, only the leaf modules and ``cluster.slots``.
Reading order: ``address`` and ``connection`` (one node), ``node_table`` and ``view`` (what the nodes say of each
other), ``console`` (the person), ``context`` (all that an operation needs), then one module per operation.
"""
