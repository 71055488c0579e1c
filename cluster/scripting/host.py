"""What an interpreter is given of the server that it belongs to. Implemented in cluster.node and functions.py."""

from __future__ import annotations

from typing import Any, Protocol


class ScriptHost(Protocol):
    """What the server does for a script that runs."""

    @property
    def is_running(self) -> bool:
        """A script has been called, and has not ended."""

    def call(self, argv: list[bytes]) -> bytes:
        """Run a command; its encoded reply. Raises ScriptFailure for what scripts may not do."""
        ...

    def protocols(self) -> tuple[int, int]:
        """The RESP versions of the client and of the script."""
        ...

    def set_protocol(self, version: int) -> None:
        """The RESP version of replies to the script."""

    def set_replication(self, targets: int) -> None:
        """Whether effects go to the AOF (1) and to replicas (2)."""

    def may_run(self, argv: list[bytes]) -> bool | None:
        """Whether the client's user may run a command; None when there is no such command."""

    def log(self, level: int, text: bytes) -> None:
        """A line for the log; ``level`` 0 (debug) to 3 (warning)."""

    def count_error(self, message: bytes) -> None:
        """An error is replied."""

    def note_error(self) -> None:
        """An error is replied that has been counted already."""

    def interrupt(self) -> int | None:
        """Called now and then while a script runs: 1 when it is to be killed, 2 when loading takes too long."""

    def report_exception(self) -> None:
        """Something went wrong in our own code; the exception is being handled."""


class FunctionRegistrar(Protocol):
    """What a library registers its functions with while it is loaded."""

    def register(self, arguments: tuple[Any, ...]) -> None:
        """redis.register_function. Raises ScriptFailure."""
