"""Record the metadata of every command from a live redis-server 7.0 into cluster/commands/*.json.

Clients route by what COMMAND answers, so the metadata must be the reference's to the letter; recording it from the
wire is the only way to be sure. Run against a freshly started stock server:

    python tools/record_command_table.py 127.0.0.1 6379
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import hiredis

TARGET = Path(__file__).resolve().parent.parent / "cluster" / "commands"


def ask(address: tuple[str, int], *argv: bytes) -> Any:
    """One command over RESP3; the reply as Python values."""
    reader = hiredis.Reader(encoding="utf-8", notEnoughData=Ellipsis)
    with socket.create_connection(address) as connection:
        for request in ((b"HELLO", b"3"), argv):
            connection.sendall(hiredis.pack_command(request))  # type: ignore[arg-type]  # Its stub is too narrow.
        replies: list[Any] = []
        while len(replies) < 2:
            reply = reader.gets()
            if reply is Ellipsis:
                reader.feed(connection.recv(1 << 16))
            else:
                replies.append(reply)
    return replies[1]


def write(name: str, rows: list[str]) -> None:
    """One row a line, so that a change of version shows as a readable diff."""
    (TARGET / name).write_text("[\n" + ",\n".join(rows) + "\n]\n")


def main() -> None:
    """Record COMMAND (the lean table every node loads) and COMMAND DOCS (loaded when somebody asks)."""
    address = (sys.argv[1], int(sys.argv[2]))
    table = sorted(ask(address, b"COMMAND"), key=lambda row: row[0])
    docs = sorted(ask(address, b"COMMAND", b"DOCS").items())
    write("command_table.json", [json.dumps(row, separators=(",", ":")) for row in table])
    write("command_docs.json", [json.dumps(row, separators=(",", ":")) for row in docs])
    print(f"{len(table)} commands recorded in {TARGET}")


if __name__ == "__main__":
    main()
