"""What can go wrong between the tool and a cluster, each with the sentence a person gets to read.

Role        Every expected failure is an ``AdminError``; the CLI prints its text and exits 1. Anything else is our bug.
Invariants  ``str(error)`` is complete: it names the node, and needs no traceback to be understood.
Texts       Those of redis-cli 7.0.15 (redis-cli.c, clusterManager*) where it has one for the case.
"""

from __future__ import annotations

from cluster.admin.address import Address


class AdminError(Exception):
    """An operation cannot go on. ``hint`` says what to do next, ``is_diagnostic`` that the text belongs on stderr."""

    is_diagnostic = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(AdminError):
    """The cluster, the node or the request is not in the state that the operation asks for."""


class UsageError(AdminError):
    """The arguments make no sense; redis-cli answers these on stderr."""

    is_diagnostic = True


class Aborted(AdminError):
    """The person said no, or there was nobody to ask."""

    is_diagnostic = True


class NodeError(AdminError):
    """Something is wrong with one node."""

    def __init__(self, address: Address, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.address = address


class CannotConnect(NodeError):
    """No connection to the node's client port."""

    is_diagnostic = True

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(address, f"Could not connect to Redis at {address}: {reason}")
        self.reason = reason


class ConnectionLost(NodeError):
    """The node was there and is gone, or keeps us waiting for too long."""

    is_diagnostic = True

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(address, f"Lost the connection to Redis at {address}: {reason}")
        self.reason = reason


class ReplyError(NodeError):
    """The node answered with an error; ``text`` is its own wording, code word first."""

    def __init__(self, address: Address, text: str) -> None:
        super().__init__(address, f"Node {address} replied with error:\n{text}")
        self.text = text


class UnexpectedReply(NodeError):
    """The node answered with something that the command never answers: it is hardly a Redis."""

    is_diagnostic = True

    def __init__(self, address: Address, command: str) -> None:
        super().__init__(address, f"Error: invalid {command} reply from {address}")
