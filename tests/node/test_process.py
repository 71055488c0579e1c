"""A start that fails: nobody is shown what was not loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cluster.node.process import _load
from tests.support.sessions import ServerBench

LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


@pytest.mark.parametrize(
    ("path", "content", "appendonly"),
    [
        ("appendonlydir/appendonly.aof.manifest", b"file a.aof seq 1 type x\n", False),
        ("appendonlydir/appendonly.aof.manifest", b"file missing.aof seq 1 type i\n", True),
        ("dump.rdb", b"REDIS0010\xfa", False),
        ("dump.rdb", b"", False),
    ],
)
def test_nobody_is_served_after_a_load_that_failed(
    path: str, content: bytes, appendonly: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with ServerBench(appendonly=appendonly) as bench:
        client = bench.connect()
        assert trio.run(_load, bench.server) is False
        assert client.ask("PING") == LOADING
        assert client.ask("SET", "a", "1") == LOADING
