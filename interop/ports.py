"""Ports for programs that bind them later."""
import contextlib
import random
import socket


def free_ports(count):
    """Returns the first of so many free ports in a row, below those that the system gives to connections."""
    while True:
        first = random.randrange(15000, 30000)
        with contextlib.ExitStack() as sockets, contextlib.suppress(OSError):
            for port in range(first, first + count):
                sockets.enter_context(socket.socket()).bind(('127.0.0.1', port))
            return first
