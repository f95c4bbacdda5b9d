"""Getting bytes from web servers, good ones and bad: what comes is what was asked for, or a failure with a kind."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from http_kit import (
    DATA,
    PATIENCE,
    Contacts,
    Visitor,
    client,
    everything,
    failure,
    kind,
    mirror,
    once,
    says,
    server,
)

from samara.registry.http import Answer, HttpClient, HttpError, HttpFailure, Proxies
from samara.schemas.errors import UsageError
from samara.schemas.networks import NetworkPolicy

SIZE = len(DATA)


@pytest.fixture
def web() -> Iterator[HttpClient]:
    with client() as made:
        yield made


# --- whole and in part ----------------------------------------------------------------------------------------------


def test_a_whole_object_comes_as_it_is_with_what_is_known_of_it(web: HttpClient) -> None:
    with server(mirror(ETag='"v1"')) as there:
        answer = web.get(f"{there.url}/a/model.gguf?x=1#part", vouched=True)
        assert (answer.status, answer.start, answer.length, answer.total) == (200, 0, SIZE, SIZE)
        assert answer.validator == '"v1"'
        assert answer.url == f"{there.url}/a/model.gguf?x=1"
        assert answer.endpoint == f"127.0.0.1:{there.port}"
        assert everything(answer) == DATA
        (request,) = there.requests
        assert request.target == "/a/model.gguf?x=1"
        assert request.headers["host"] == f"127.0.0.1:{there.port}"
        assert request.headers["accept-encoding"] == "identity"
        assert "range" not in request.headers


@pytest.mark.parametrize(
    ("start", "end", "asked"),
    [
        (0, 1, "bytes=0-0"),
        (5, None, "bytes=5-"),
        (1000, 200_000, "bytes=1000-199999"),
        (SIZE - 1, SIZE, f"bytes={SIZE - 1}-{SIZE - 1}"),
        (SIZE - 10, SIZE + 10, f"bytes={SIZE - 10}-{SIZE + 9}"),
    ],
)
def test_a_part_is_the_part_that_was_asked_for(web: HttpClient, start: int, end: int | None, asked: str) -> None:
    with server(mirror()) as there:
        answer = web.get(there.url, start=start, end=end, vouched=True)
        assert (answer.status, answer.start, answer.total) == (206, start, SIZE)
        assert everything(answer) == DATA[start:end]
        assert there.requests[0].headers["range"] == asked


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 5), (5, 4), (0, 0)])
def test_an_empty_range_is_the_callers_mistake(web: HttpClient, start: int, end: int) -> None:
    with pytest.raises(ValueError, match="no such range"):
        web.get("http://127.0.0.1/", start=start, end=end, vouched=True)


def test_a_server_without_ranges_is_taken_at_its_word(web: HttpClient) -> None:
    with server(once(lambda visitor, _: visitor.answer(200, DATA))) as there:
        answer = web.get(there.url, start=1000, end=2000, vouched=True)
        assert (answer.status, answer.start, answer.total) == (200, 0, SIZE)
        assert everything(answer) == DATA


def test_a_changed_object_comes_whole_when_the_validator_says_so(web: HttpClient) -> None:
    with server(mirror(ETag='"v2"')) as there:
        same = web.get(there.url, start=1000, if_range='"v2"', vouched=True)
        assert (same.status, everything(same)) == (206, DATA[1000:])
        other = web.get(there.url, start=1000, if_range='"v1"', vouched=True)
        assert (other.status, other.start, other.validator) == (200, 0, '"v2"')
        other.close()


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (1000, 2000, "bytes 999-1998/320000"),
        (1000, 2000, "bytes 999-1999/320000"),
        (1000, 2000, "bytes 1000-1998/320000"),
        (1000, 2000, "bytes 1000-2000/320000"),
        (1000, 2000, "bytes 1000-1999/1500"),
        (1000, None, "bytes 1000-318999/320000"),
        (1000, 2000, "bytes 1999-1000/320000"),
        (1000, 2000, "bytes */320000"),
        (1000, 2000, "items 1000-1999/320000"),
        (1000, 2000, "bytes 1000-1999"),
        (1000, 2000, "bytes -1000-1999/320000"),
        (1000, 2000, "bytes 1000-1999/320000, bytes 1000-1999/320000"),
        (1000, 2000, "bytes 1000-" + "9" * 5000 + "/320000"),
        (1000, 2000, ""),
        (0, None, "bytes 0-319999/320000"),
    ],
)
def test_a_part_that_was_not_asked_for_is_broken(web: HttpClient, start: int, end: int | None, said: str) -> None:
    with server(once(lambda visitor, _: visitor.answer(206, DATA[1000:2000], Content_Range=said))) as there:
        assert kind(lambda: web.get(there.url, start=start, end=end, vouched=True)) is HttpFailure.BROKEN


def test_a_part_of_an_object_of_unknown_length_is_what_was_asked_for(web: HttpClient) -> None:
    with server(once(lambda visitor, _: visitor.answer(206, DATA[10:20], Content_Range="bytes 10-19/*"))) as there:
        answer = web.get(there.url, start=10, end=20, vouched=True)
        assert (answer.total, everything(answer)) == (None, DATA[10:20])


def test_an_empty_object_is_empty(web: HttpClient) -> None:
    with server(mirror(b"")) as there:
        assert everything(web.get(there.url, vouched=True)) == b""


def test_ipv6_works_like_ipv4(web: HttpClient) -> None:
    with server(mirror(), host="::1") as there:
        answer = web.get(f"{there.url}/x", vouched=True)
        assert answer.endpoint == f"[::1]:{there.port}"
        assert everything(answer) == DATA
        assert there.requests[0].headers["host"] == f"[::1]:{there.port}"


# --- bodies ---------------------------------------------------------------------------------------------------------


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def test_chunks_are_put_together(web: HttpClient) -> None:
    def script(visitor: Visitor) -> None:
        while visitor.request() is not None:
            visitor.send(CHUNKED + chunked(b"one, ", b"two, ", b"three", b""))

    with server(script) as there:
        for _ in range(2):
            answer = web.get(there.url, vouched=True)
            assert (answer.total, answer.length, everything(answer)) == (None, None, b"one, two, three")
        assert there.connections == 1


def test_a_body_without_any_length_ends_with_the_connection(web: HttpClient) -> None:
    with server(says(HEAD + b"\r\n" + DATA)) as there:
        answer = web.get(there.url, vouched=True)
        assert (answer.total, everything(answer)) == (None, DATA)


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: 100\r\n\r\n" + DATA[:99],
        HEAD + b"Content-Length: 100\r\n\r\n",
        CHUNKED + chunked(DATA[:50]),
        CHUNKED + chunked(DATA[:50]) + b"a\r\nhalf",
        CHUNKED + chunked(DATA[:50]) + b"not a number\r\nabc\r\n",
        CHUNKED,
    ],
)
def test_a_body_that_is_shorter_than_announced_is_broken_at_its_end(web: HttpClient, sent: bytes) -> None:
    with server(says(sent)) as there:
        answer = web.get(there.url, vouched=True)
        body = sent.partition(b"\r\n\r\n")[2]
        data = bytearray()

        def read() -> None:
            buffer = memoryview(bytearray(64))
            while count := answer.readinto(buffer):
                data.extend(buffer[:count])

        error = failure(read)
        assert error.kind is HttpFailure.BROKEN
        assert f"after {len(data)} bytes" in str(error)
        assert len(data) <= len(body)
        assert failure(read) is error  # and not an end, for who asks once more


def test_a_part_in_chunks_that_ends_early_is_broken(web: HttpClient) -> None:
    head = b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 10-109/320000\r\n\r\n"
    with server(says(head + chunked(DATA[10:100], b""))) as there:
        answer = web.get(there.url, start=10, end=110, vouched=True)
        assert kind(lambda: everything(answer)) is HttpFailure.BROKEN


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: 100\r\n\r\n" + DATA[:150],
        b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-99/320000\r\n\r\n"
        + chunked(DATA[:150], b""),
    ],
)
def test_more_than_announced_is_never_delivered(web: HttpClient, sent: bytes) -> None:
    with server(says(sent)) as there:
        answer = web.get(there.url, end=100, vouched=True)
        assert everything(answer) == DATA[:100]


def test_what_follows_a_body_is_not_taken_for_the_next_answer(web: HttpClient) -> None:
    smuggled = HEAD + b"Content-Length: 5\r\n\r\nwrong"

    with server(once(lambda visitor, _: visitor.send(HEAD + b"Content-Length: 5\r\n\r\nright" + smuggled))) as there:
        for _ in range(3):
            assert everything(web.get(there.url, vouched=True)) == b"right"


@pytest.mark.parametrize("cut", range(1, 58))
def test_half_a_head_is_not_taken_for_a_whole_one(web: HttpClient, cut: int) -> None:
    head = HEAD + b'Content-Length: 0\r\nETag: "some state"\r\n\r\n'
    assert len(head) == 58
    with server(says(head[:cut])) as there:
        assert kind(lambda: web.get(there.url, vouched=True)) is HttpFailure.BROKEN


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: five",
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: 0_5",
        b"Content-Length: " + b"9" * 30,
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Content-Encoding: gzip\r\nContent-Length: 5",
        b"Content-Encoding: x, BR\r\nContent-Length: 5",
    ],
)
def test_headers_that_do_not_say_clearly_what_follows_are_broken(web: HttpClient, headers: bytes) -> None:
    with server(says(HEAD + headers + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")) as there:
        assert kind(lambda: web.get(there.url, vouched=True)) is HttpFailure.BROKEN


def test_a_length_said_twice_alike_is_a_length(web: HttpClient) -> None:
    with server(says(HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello")) as there:
        assert everything(web.get(there.url, vouched=True)) == b"hello"


def test_bytes_are_given_as_they_come_however_large_the_buffer_is(web: HttpClient) -> None:
    """So that whoever reads sees a slow source at once, and not when a megabyte is full."""
    read = threading.Event()

    def script(visitor: Visitor) -> None:
        if visitor.request() is not None:
            visitor.send(HEAD + b"Content-Length: 2\r\n\r\na")
            read.wait(30)
            visitor.send(b"b")

    with server(script) as there:
        buffer = memoryview(bytearray(1 << 20))
        with web.get(there.url, vouched=True) as answer:
            assert answer.readinto(buffer) == 1
            read.set()
            assert answer.readinto(buffer) == 1
            assert answer.readinto(buffer) == 0


# --- statuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 410, 416, 429, 500, 503, 599, 799])
def test_a_status_that_is_not_the_object_is_told(web: HttpClient, status: int) -> None:
    with server(once(lambda visitor, _: visitor.answer(status, Content_Length="0"))) as there:
        error = failure(lambda: web.get(there.url, start=1, vouched=True))
        assert (error.kind, error.status, error.retry_after) == (HttpFailure.STATUS, status, None)
        assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0"}, 0.0),
        ({"Retry_After": "99999999999999999999999999"}, 86_400.0),
        ({"Retry_After": "Wed, 21 Oct 2037 07:28:30 GMT", "Date": "Wed, 21 Oct 2037 07:28:00 GMT"}, 30.0),
        ({"Retry_After": "Wed, 21 Oct 2037 07:28:30 GMT"}, 86_400.0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0.0),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "-7"}, None),
        ({"Retry_After": "1.5"}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_when_to_come_back_is_told_in_seconds(
    web: HttpClient, status: int, headers: dict[str, str], seconds: float | None
) -> None:
    with server(once(lambda visitor, _: visitor.answer(status, b"", **headers))) as there:
        error = failure(lambda: web.get(there.url, vouched=True))
        assert (error.status, error.retry_after) == (status, seconds)


# --- answers that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x00" * 1000,
        b"HTTP/1.1 200 OK" + b"x" * 100_000,
        HEAD + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: many\r\n" % number for number in range(1000)) + b"\r\n",
        HEAD + b"".join(b"X-%d: %b\r\n" % (number, b"x" * 60_000) for number in range(50)) + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000 + HEAD + b"Content-Length: 0\r\n\r\n",
    ],
    ids=range(12),
)
def test_garbage_is_broken(web: HttpClient, sent: bytes) -> None:
    with server(says(sent)) as there:
        assert kind(lambda: web.get(there.url, vouched=True)) is HttpFailure.BROKEN


def test_nobody_there_is_a_failure_to_connect(web: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    error = failure(lambda: web.get(f"http://127.0.0.1:{port}/", vouched=True))
    assert error.kind is HttpFailure.CONNECT
    assert f"127.0.0.1:{port}" in str(error)


@contextlib.contextmanager
def a_port_that_never_answers(host: str = "127.0.0.1") -> Iterator[int]:
    """Its queue of connections is full, so the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((host, 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_a_host_that_does_not_answer_is_given_up_in_time(web: HttpClient) -> None:
    with a_port_that_never_answers() as port:
        error = failure(lambda: web.get(f"http://127.0.0.1:{port}/", vouched=True, connect_timeout=PATIENCE))
    assert error.kind is HttpFailure.CONNECT


def test_of_several_addresses_the_one_that_answers_is_used_and_all_that_were_tried_are_told() -> None:
    contacts = Contacts()
    with (
        a_port_that_never_answers("127.0.0.3") as port,
        server(mirror(), port=port) as there,
        client(names={"mirror.example": ["127.0.0.2", "127.0.0.3", "127.0.0.1"]}, contacts=contacts) as web,
    ):
        url = f"http://mirror.example:{port}/x"
        answer = web.get(url, vouched=True, connect_timeout=3 * PATIENCE)
        assert answer.endpoint == f"127.0.0.1:{port}"
        assert contacts.endpoints == [f"127.0.0.{last}:{port}" for last in (2, 3, 1)]
        assert {(contact.host, contact.proxied) for contact in contacts} == {("mirror.example", False)}
        answer.close()  # in the middle: this connection is no good for another request
        assert everything(web.get(url, vouched=True)) == DATA
        assert contacts.endpoints[3:] == [f"127.0.0.1:{port}"]  # the next time, first
        assert there.connections == 2


def test_a_name_that_does_not_exist_is_told_as_that(web: HttpClient) -> None:
    assert kind(lambda: web.get("http://mirror.example/", vouched=True)) is HttpFailure.NAME


def test_a_name_server_that_is_silent_is_given_up_in_time() -> None:
    asked, over = threading.Event(), threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        asked.set()
        over.wait(30)
        return ["127.0.0.1"]

    with HttpClient(NetworkPolicy(), proxies=Proxies(), resolve=resolve) as web:
        url = "http://mirror.example/"
        assert kind(lambda: web.get(url, vouched=True, connect_timeout=PATIENCE)) is HttpFailure.NAME
        assert asked.is_set()
        over.set()


# --- silence --------------------------------------------------------------------------------------------------------


def silent(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.until_gone()


def drips_a_head(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.send(HEAD)
        visitor.drip(b"X-Endless: yes\r\n")


def drips_one_header(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.send(HEAD + b"X-Endless: ")
        visitor.drip(b"x")


def drips_continues(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.drip(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.005)


@pytest.mark.parametrize("script", [silent, drips_a_head, drips_one_header, drips_continues])
def test_a_head_that_does_not_come_to_an_end_is_a_stall(web: HttpClient, script: Callable[[Visitor], None]) -> None:
    with server(script) as there:
        assert kind(lambda: web.get(there.url, vouched=True, stall_timeout=PATIENCE)) is HttpFailure.STALLED


def half_a_body(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.send(HEAD + b"Content-Length: 200\r\n\r\n" + DATA[:100])
        visitor.until_gone()


def drips_a_chunks_size(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.send(CHUNKED + chunked(DATA[:100]))
        visitor.drip(b"0")


def drips_a_trailer(visitor: Visitor) -> None:
    if visitor.request() is not None:
        visitor.send(CHUNKED + chunked(DATA[:100]) + b"0\r\n")
        visitor.drip(b"X-Endless: yes\r\n")


@pytest.mark.parametrize("script", [half_a_body, drips_a_chunks_size, drips_a_trailer])
def test_a_body_that_stops_is_a_stall_even_if_something_else_drips(
    web: HttpClient, script: Callable[[Visitor], None]
) -> None:
    with server(script) as there:
        answer = web.get(there.url, vouched=True, stall_timeout=PATIENCE)
        buffer = memoryview(bytearray(1000))
        got = 0
        while got < 100:
            got += answer.readinto(buffer)
        assert kind(lambda: answer.readinto(buffer)) is HttpFailure.STALLED


def test_a_body_that_drips_is_given_byte_by_byte_for_the_reader_to_judge(web: HttpClient) -> None:
    def script(visitor: Visitor) -> None:
        if visitor.request() is not None:
            visitor.send(HEAD + b"Content-Length: 1000\r\n\r\n")
            visitor.drip(b"x")

    with server(script) as there, web.get(there.url, vouched=True, stall_timeout=30) as answer:
        buffer = memoryview(bytearray(1000))
        assert [answer.readinto(buffer) for _ in range(5)] == [1] * 5


# --- from another thread --------------------------------------------------------------------------------------------


def reading(answer: Answer, first: threading.Event, errors: list[HttpError]) -> None:
    buffer = memoryview(bytearray(1000))
    try:
        while answer.readinto(buffer):
            first.set()
    except HttpError as error:
        errors.append(error)


def test_abort_ends_a_wait_for_bytes_from_another_thread(web: HttpClient) -> None:
    with server(half_a_body) as there:
        answer = web.get(there.url, vouched=True)
        first, errors = threading.Event(), list[HttpError]()
        thread = threading.Thread(target=reading, args=(answer, first, errors))
        thread.start()
        assert first.wait(30)
        answer.abort()
        thread.join(30)
        assert not thread.is_alive()
        assert [error.kind for error in errors] == [HttpFailure.BROKEN]
        assert "given up" in str(errors[0])


def test_after_an_abort_nothing_is_given_not_even_what_had_come(web: HttpClient) -> None:
    with server(mirror()) as there:
        answer = web.get(there.url, vouched=True)
        buffer = memoryview(bytearray(10))
        assert answer.readinto(buffer) == 10
        answer.abort()
        for _ in range(2):
            assert kind(lambda: answer.readinto(buffer)) is HttpFailure.BROKEN


def test_an_abort_that_comes_too_late_does_not_hit_whoever_has_the_connection_now(web: HttpClient) -> None:
    with server(mirror()) as there:
        first = web.get(there.url, end=10, vouched=True)
        assert everything(first) == DATA[:10]
        second = web.get(there.url, vouched=True)
        first.abort()
        assert everything(second) == DATA
        assert there.connections == 1


def test_reading_what_was_closed_is_the_callers_mistake_and_not_an_end(web: HttpClient) -> None:
    with server(mirror()) as there:
        answer = web.get(there.url, vouched=True)
        answer.close()
        with pytest.raises(ValueError, match="was closed"):
            answer.readinto(bytearray(10))


@pytest.mark.parametrize("where", ["head", "connect", "name"])
def test_close_ends_whatever_waits(where: str) -> None:
    """From another thread, in each of the places where a request can wait."""
    waiting = threading.Event()

    def script(visitor: Visitor) -> None:
        if visitor.request() is not None:
            waiting.set()
            visitor.until_gone()

    def resolve(host: str, port: int) -> list[str]:
        waiting.set()
        over.wait(600)
        return []

    over = threading.Event()
    errors: list[HttpError] = []
    with server(script) as there, a_port_that_never_answers() as deaf:
        urls = {"head": there.url, "connect": f"http://127.0.0.1:{deaf}", "name": "http://mirror.example"}
        heard = (lambda _: waiting.set()) if where == "connect" else None
        web = HttpClient(NetworkPolicy(), proxies=Proxies(), resolve=resolve, on_contact=heard)

        def get() -> None:
            errors.append(failure(lambda: web.get(urls[where], vouched=True, connect_timeout=600, stall_timeout=600)))

        thread = threading.Thread(target=get)
        thread.start()
        assert waiting.wait(30)
        web.close()
        thread.join(30)
        assert not thread.is_alive()
        assert len(errors) == 1
        assert "was closed" in str(failure(lambda: web.get(urls[where], vouched=True)))
        over.set()


# --- connections that are kept --------------------------------------------------------------------------------------


def test_a_connection_is_used_again_when_a_body_was_read_to_its_end(web: HttpClient) -> None:
    with server(mirror()) as there:
        for start in range(5):
            assert everything(web.get(there.url, start=start, end=start + 1000, vouched=True))
        assert there.connections == 1


def test_also_after_small_answers_that_nobody_wanted(web: HttpClient) -> None:
    with server(once(lambda visitor, _: visitor.answer(503, b"busy"))) as there:
        for _ in range(3):
            failure(lambda: web.get(there.url, vouched=True))
        assert there.connections == 1


def test_and_not_after_one_that_was_left(web: HttpClient) -> None:
    with server(mirror()) as there:
        for _ in range(3):
            web.get(there.url, vouched=True).close()
        assert there.connections == 3


def test_and_not_after_one_that_was_left_while_nothing_came(web: HttpClient) -> None:
    """Or the rest of the old body would be taken for the head of the next answer."""
    with server(half_a_body) as there:
        for _ in range(2):
            with web.get(there.url, vouched=True, stall_timeout=PATIENCE) as answer:
                assert answer.readinto(bytearray(1000)) > 0
        assert there.connections == 2


def test_a_kept_connection_that_the_server_closed_is_replaced_without_a_failure(web: HttpClient) -> None:
    """Seen closed, or closed at the very moment when the next request arrives."""
    for polite in (True, False):
        closed = threading.Event()

        def script(visitor: Visitor, polite: bool = polite, closed: threading.Event = closed) -> None:
            visitor.request()
            visitor.answer(200, b"once")
            if not polite:
                visitor.request()  # and no answer to it
            visitor.sock.close()
            closed.set()

        with server(script) as there:
            assert everything(web.get(there.url, vouched=True)) == b"once"
            assert not polite or closed.wait(30)
            assert everything(web.get(there.url, vouched=True)) == b"once"
            assert there.connections == 2


def test_a_new_connection_that_breaks_is_not_tried_again(web: HttpClient) -> None:
    with server(says(b"")) as there:
        assert kind(lambda: web.get(there.url, vouched=True)) is HttpFailure.BROKEN
        assert there.connections == 1


def test_connections_that_nobody_came_back_to_are_closed(web: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()

    def script(visitor: Visitor) -> None:
        mirror()(visitor)
        left.set()

    with server(script) as there, server(mirror()) as other:
        assert everything(web.get(there.url, vouched=True)) == DATA
        monkeypatch.setattr("samara.registry.http.client._KEPT_FOR", -1.0)
        assert everything(web.get(other.url, vouched=True)) == DATA
        assert left.wait(30)


def test_many_threads_share_a_client(web: HttpClient) -> None:
    with server(mirror()) as there:
        wrong: list[object] = []

        def get(number: int) -> None:
            for turn in range(20):
                start = 1000 * number + turn
                if everything(web.get(there.url, start=start, end=start + 5000, vouched=True)) != DATA[start:][:5000]:
                    wrong.append((number, turn))

        threads = [threading.Thread(target=get, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert len(there.requests) == 160
        assert there.connections <= 8


# --- addresses that are none ----------------------------------------------------------------------------------------


NO_URLS = [
    "",
    "ftp://127.0.0.1/",
    "file:///etc/passwd",
    "http://",
    "http:///x",
    "http://127.0.0.1:port/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:99999/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://127.0.0.1/a b",
    "http://127.0.0.1/a\r\nX: y",
    "http://user:word@127.0.0.1/",
    "http://127.0.0.1\\@x/",
    "http://[::1/",
    "http://a..b/",
]


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_is_refused_before_any_socket(url: str) -> None:
    contacts = Contacts()
    with client(contacts=contacts) as web, pytest.raises(UsageError, match="not a URL"):
        web.get(url, vouched=True)
    assert contacts == []
