"""The process title: the template, and what ps shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.node.proc_title import expand_title
from cluster.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("template", "title"),
    [
        ("{title} {listen-addr} {server-mode}", "node *:6379"),
        ("{title}", "node"),
        ("a{{b {port} {tls-port} {unixsocket}.", "a{b 6379 0 ."),
        ("{config-file}", "-"),
        ("plain", "plain"),
        (" ", ""),
        ("", ""),
        ("{", None),
        ("{title", None),
        ("{}", None),
        ("{nope}", None),
    ],
)
def test_templates(template: str, title: str | None) -> None:
    assert expand_title(template, Settings(), title="node") == title


def test_where_the_server_listens() -> None:
    def address(**changes: object) -> str | None:
        return expand_title("{listen-addr}{server-mode}", Settings(**changes), title="")  # type: ignore[arg-type]

    assert address(bind=["1.2.3.4"], port=1, cluster_enabled=True) == "1.2.3.4:1[cluster]"
    assert address(bind=[], port=0, tls_port=2) == "*:2"
    assert address(port=0, unixsocket="/s") == "unixsocket:/s"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the title is written through /proc")
def test_the_title_is_seen_by_others() -> None:
    """In a process of its own: long titles take the environment's place, which must be intact all the same."""
    program = (
        "import sys, os, ctypes; from cluster.settings import Settings; from cluster.node.proc_title import set_title\n"
        "for template in ('{title} {listen-addr}', 'x' * 100_000):\n"
        "    assert set_title(Settings(proc_title_template=template), title='node')\n"
        "    shown = open('/proc/self/cmdline').read().rstrip(chr(0))\n"
        "    print(shown[:40], len(shown))\n"
        "get = ctypes.CDLL(None).getenv\n"
        "get.restype = ctypes.c_char_p\n"
        "print(os.popen('echo $MARK').read(), get(b'MARK').decode(), os.environ['MARK'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"MARK": "intact", "PATH": "/usr/bin:/bin", "LONG": "y" * 1000},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stdout.split()[:4] == ["node", "*:6379", "11", "x" * 40]
    assert int(done.stdout.split()[4]) > 1000
    assert done.stdout.split()[5:] == ["intact"] * 3
