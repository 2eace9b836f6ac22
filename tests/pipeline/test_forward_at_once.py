"""Requests without content that an idle connection takes at once, without a task."""

import asyncio

from proxy.pipeline.forward import Asked
from tests.pipeline.bodies import until
from tests.pipeline.upstreams import GET, OK, Client, Script, Server, answering


async def warm(client: Client) -> None:
    """Leave one idle connection to the upstream."""
    await client.ask(GET)
    assert client.group.idle == 1


def waiting(client: Client) -> Asked:
    exchange = client.wire.connection.exchange
    assert exchange is not None
    assert isinstance(exchange.task, Asked)
    return exchange.task


def then(*answers: bytes) -> Script:
    """Answer one request, and the next with `answers`, each when told; then close."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(OK)
        await server.take(reader)
        for answer in answers:
            await server.go_on.wait()
            server.go_on.clear()
            writer.write(answer)
        if not answers:
            await server.go_on.wait()
        writer.close()

    return script


async def test_a_request_on_an_idle_connection_needs_no_task(
    server: Server, client: Client
) -> None:
    await warm(client)
    tasks = asyncio.all_tasks()
    client.send(GET)
    assert waiting(client)
    assert asyncio.all_tasks() == tasks
    assert (await client.done(2)).endswith(b"ok")


async def test_a_client_that_leaves_gives_its_request_up(server: Server, client: Client) -> None:
    server.script = then()
    await warm(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 2)
    client.leave()
    await client.done(2)
    assert client.wire.log.lines[-1][1] == 499
    assert client.group.connections == 0


async def test_a_client_that_leaves_with_its_answer_here_harms_nobody(
    server: Server, client: Client
) -> None:
    await warm(client)
    client.send(GET)
    asked = waiting(client)
    await client.done(2)
    asked.cancel()
    assert client.group.idle == 1
    assert len(client.wire.log.lines) == 2


async def test_interim_answers_are_passed_on(server: Server, client: Client) -> None:
    server.script = then(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK)
    await warm(client)
    client.send(GET)
    server.go_on.set()
    await client.says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    server.go_on.set()
    assert (await client.done(2)).endswith(b"ok")


async def test_a_connection_that_closes_unused_costs_the_client_nothing(
    server: Server, client: Client
) -> None:
    server.script = then()
    await warm(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 2)
    server.script = answering()
    server.go_on.set()
    assert (await client.done(2)).endswith(b"ok")
    first, again = (head.partition(b"X-Request-ID: ")[2][:24] for head in server.heads[1:])
    assert first == again


async def test_what_may_not_be_repeated_is_told_so(server: Server, client: Client) -> None:
    server.script = then()
    await warm(client)
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: len(server.heads) == 2)
    server.go_on.set()
    assert (await client.done(2)).startswith(b"HTTP/1.1 502 ")


async def test_silence_is_a_504(server: Server, client: Client) -> None:
    server.script = then()
    client.route.read_timeout_s = 10.0
    await warm(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 2)
    client.group.sweep(asyncio.get_running_loop().time() + 11)
    assert (await client.done(2)).startswith(b"HTTP/1.1 504 ")


async def test_a_half_head_is_no_answer_to_be_asked_again(server: Server, client: Client) -> None:
    server.script = then(b"HTTP/1.1 200 OK\r\n")
    await warm(client)
    client.send(GET)
    server.go_on.set()
    assert (await client.done(2)).startswith(b"HTTP/1.1 502 ")
    assert len(server.heads) == 2


async def test_the_same_head_is_encoded_once_and_the_content_is_not_mixed_up(
    server: Server, client: Client
) -> None:
    server.script = answering(*(OK.replace(b"ok", word) for word in (b"aa", b"bb", b"cc")))
    answers = [await client.ask(GET) for _ in range(3)]
    assert [answer[-2:] for answer in answers] == [b"aa", b"bb", b"cc"]
    assert len({answer[:-2] for answer in answers}) == 1


async def test_chunks_that_came_at_once_have_each_their_own_length(
    server: Server, client: Client
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.script = answering(head + b"1\r\na\r\n0\r\n\r\n", head + b"3\r\nabc\r\n0\r\n\r\n")
    assert b"Content-Length: 1\r\n\r\na" in await client.ask(GET)
    assert b"Content-Length: 3\r\n\r\nabc" in await client.ask(GET)
