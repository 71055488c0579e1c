"""The cluster from a program: redis-py's RedisCluster.

client.py             set and read some keys, and show which node holds them
client.py watch       write ten times a second until Ctrl-C; says when writing stops working, and when it works again
"""

from __future__ import annotations

import sys
import time

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

# Any node that is up is enough to find the others; naming several allows for one that is down.
SEEDS = [ClusterNode("127.0.0.1", port) for port in (7000, 7001, 7002)]


def tour() -> None:
    with RedisCluster(startup_nodes=SEEDS, decode_responses=True) as client:
        for city in ("Bologna", "Toulouse", "Zagreb", "Aarhus", "Porto"):
            client.set(f"visits:{city}", 0)
            visits = client.incr(f"visits:{city}")
            slot = client.keyslot(f"visits:{city}")
            print(f"visits:{city:9} = {visits}   slot {slot:5}  on {client.get_node_from_key(f'visits:{city}').port}")

        # Keys with the same {tag} share a slot, so one command or transaction may use them together.
        client.mset({"{order:17}:item": "umbrella", "{order:17}:price": "12.50"})
        print(client.mget("{order:17}:item", "{order:17}:price"))
        try:
            client.mset({"item": "umbrella", "price": "12.50"})
        except RedisClusterException as error:
            print(f"without a tag: {error}")


def watch() -> None:
    written, broken_since = 0, 0.0
    while True:
        try:
            with RedisCluster(startup_nodes=SEEDS, socket_timeout=0.5) as client:
                while True:
                    client.set(f"watch:{written % 100}", written)
                    written += 1
                    if broken_since:
                        print(f"works again after {time.monotonic() - broken_since:.1f} seconds", flush=True)
                        broken_since = 0.0
                    if written % 50 == 0:
                        print(f"{written} writes", flush=True)
                    time.sleep(0.1)
        except (RedisError, RedisClusterException, OSError) as error:
            if not broken_since:
                print(f"write failed: {error}", flush=True)
                broken_since = time.monotonic()
            time.sleep(0.1)


if __name__ == "__main__":
    try:
        watch() if sys.argv[1:] == ["watch"] else tour()
    except KeyboardInterrupt:
        pass
