"""The optional compiled build: the modules that every request passes through, compiled from the same typed sources.

``HASHSLOT_COMPILE=1 pip install .`` has mypyc (a part of mypy) turn the modules below into C extensions; it needs a C
compiler and Python's headers. Without the variable nothing is compiled, and everything else about the package, which is
described in pyproject.toml, is the same. Both builds run the same code and pass the same tests.

A class in a compiled module has subclasses only in such modules, does not inherit from a built-in container, and its
fields hold what their annotations say; attrs' ``field`` therefore stays out of these modules.
"""

import os

from setuptools import setup

HOT_PATH = [
    "cluster/clock.py",
    "cluster/resp/parser.py",
    "cluster/resp/accelerator.py",
    "cluster/resp/scanner.py",
    "cluster/resp/encode.py",
    "cluster/slots/hashing.py",
    "cluster/keyspace/database.py",
    "cluster/commands/context.py",
    "cluster/commands/registry.py",
    "cluster/commands/strings.py",
    "cluster/commands/arguments.py",
    "cluster/commands/hashes.py",
    "cluster/commands/lists.py",
    "cluster/commands/sets.py",
    "cluster/commands/sorted_sets.py",
    "cluster/keyspace/lists.py",
    "cluster/keyspace/ranking.py",
    "cluster/keyspace/scan_table.py",
    "cluster/keyspace/sets.py",
    "cluster/keyspace/sorted_sets.py",
    "cluster/node/aof_loading.py",
    "cluster/node/client.py",
    "cluster/node/dispatch.py",
    "cluster/node/gates.py",
    "cluster/node/reactor.py",
    "cluster/node/server.py",
    "cluster/commands/statistics.py",
    # Not of every request: what saves and loads spend their time in, most of all the compression.
    "cluster/persistence/lzf.py",
    "cluster/persistence/listpack.py",
    "cluster/persistence/rdb_cursor.py",
    "cluster/persistence/rdb_format.py",
    "cluster/persistence/rdb_writer.py",
]
# mypyc checks the types first, those of the libraries included.
REQUIRED = ["mypy>=1.13", "trio>=0.27", "attrs>=23.2", "hiredis>=3", "crcmod>=1.7", "sortedcontainers>=2.4"]

if os.environ.get("HASHSLOT_COMPILE", "0") not in ("", "0"):
    try:
        from mypyc.build import mypycify
    except ImportError:  # pip asks first what a build needs, and installs it before it builds.
        setup(setup_requires=REQUIRED)
    else:
        setup(ext_modules=mypycify(HOT_PATH, opt_level="3", group_name="hashslot"), setup_requires=REQUIRED)
else:
    setup()
