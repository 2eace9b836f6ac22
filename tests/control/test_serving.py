"""The sockets of the control process: what becomes of their files."""

import asyncio
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from proxy.control.serving import Serving
from tests.server.daemon import short_folder


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    """Give a socket as the master binds it."""
    folder = short_folder()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "control.sock"))
        sock.listen()
        yield sock
    shutil.rmtree(folder)


async def test_a_socket_s_file_is_left_to_the_next_one_on_the_same_socket(
    bound: socket.socket,
) -> None:
    path = Path(bound.getsockname())
    first, second = Serving(web.Application()), Serving(web.Application())
    await first.begin([bound.dup()])
    await second.begin([bound.dup()])
    await first.end()
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nHost: control\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 404 Not Found\r\n"
        writer.close()
    finally:
        await second.end()
