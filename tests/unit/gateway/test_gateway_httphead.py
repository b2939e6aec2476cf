from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.httphead import BadRequest, head_length, read_head
from engine.gateway.refusal import Refusal, endpoint_line, wants_problem
from engine.gateway.rules import Rule

PIECES = [
    *(
        b"GET ",
        b"POST ",
        b"/",
        b"http://",
        b"a.example",
        b"b.example",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\n",
        b"\r",
    ),
    *(b"\r\n\r\n", b"Host: ", b"host:", b"Host:a.example\r\n", b"Host: b.example\r\n", b"Content-Length: 3\r\n", b" "),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"\t",
        b":",
        b",",
        b"\0",
        b"\xff",
        b"@",
        b"#",
        b"?",
        b"X: y\r\n",
        b":80",
        b".",
    ),
]


def scan(data: bytes, step: int) -> object:
    buffer = bytearray()
    try:
        for at in range(0, len(data), step):
            scanned = len(buffer)
            buffer += data[at : at + step]
            if (length := head_length(buffer, scanned)) is not None:
                return length
    except BadRequest:
        return BadRequest
    return None


@given(st.lists(st.sampled_from(PIECES)).map(b"".join) | st.binary(), st.integers(1, 40))
def test_a_head_is_found_alike_in_any_pieces(data: bytes, step: int) -> None:
    assert scan(data, step) == scan(data, 1)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_what_goes_onward_names_the_host_that_was_judged_and_reads_back_the_same(tail: bytes) -> None:
    data = b"POST / HTTP/1.1\r\nHost: a.example\r\n" + tail + b"\r\n\r\n"
    try:
        length = head_length(data)
        assert length is not None
        head = read_head(data[:length], 80)
    except BadRequest:
        return
    assert head.host == "a.example"
    wire = h11.Connection(h11.CLIENT).send(head.onward(head.target, head.headers))
    assert wire is not None
    assert wire.count(b"\r\n\r\n") == 1 and wire.endswith(b"\r\n\r\n")
    assert wire.replace(b"\r\n", b"").count(b"\n") == wire.replace(b"\r\n", b"").count(b"\r") == 0
    names = [line.split(b":")[0].lower() for line in wire.split(b"\r\n")[1:-2]]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1


def test_the_host_is_canonical_and_the_port_checked() -> None:
    head = read_head(b"GET /a?b=c HTTP/1.1\r\nHost: A.Example.:8080\r\n\r\n", 8080)
    assert (head.host, head.path, head.method) == ("a.example", "/a", "GET")
    assert head.target == "/a?b=c"
    assert (b"Host", b"a.example:8080") in head.headers
    with pytest.raises(BadRequest, match="port 8080"):
        read_head(b"GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", 80)


@pytest.mark.parametrize(
    "data", [b"\x80", b" GET", b"\0\0", b"SSH-2.0-x\r\n", b"GET /\r\n", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\n"]
)
def test_what_is_no_http_is_known_before_the_head_ends(data: bytes) -> None:
    with pytest.raises(BadRequest):
        head_length(data)


@pytest.mark.parametrize(("host", "port"), [("a.example", 80), ("a.example", 443), ("a.example", 8080)])
def test_the_suggested_line_is_a_rule_that_allows(host: str, port: int) -> None:
    from ruamel.yaml import YAML

    (item,) = YAML(typ="safe").load(endpoint_line(host, port))
    rule = Rule(**item) if isinstance(item, dict) else Rule(item)
    assert rule.matches(host, port)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html, application/Problem+JSON;q=0.5", True),
        ("application/problem+json; q=0.0", False),
    ],
)
def test_who_wants_a_problem_document(accept: str, wanted: bool) -> None:
    assert wants_problem(accept) is wanted


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: a.example:80\r\n\r\n", 421),
        (b"GET https://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        (b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: cookie\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nExpect: x\r\n\r\n", 417),
    ],
)
def test_heads_inside_tls_that_are_refused(head: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        read_head(head, 443, "a.example")
    assert caught.value.status == status


def test_what_is_meant_for_the_next_hop_stays_here() -> None:
    head = read_head(
        b"GET https://A.example./x?y HTTP/1.1\r\nHost: A.Example.:443\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n"
        b"TE: trailers\r\nKeep-Alive: 1\r\nX-HTTP_Method-override: put, DELETE\r\nAccept: a\r\naccept: b\r\n\r\n",
        443,
        "a.example",
    )
    assert [name for name, _ in head.headers] == [b"Host", b"X-HTTP_Method-override", b"Accept", b"accept"]
    assert (head.headers[0][1], head.target, head.accept) == (b"a.example", "/x?y", "a,b")
    assert head.overrides == ("put", " DELETE")


def test_an_answer_is_http() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a.example")]))
    client.receive_data(Refusal(403, "no: bücher").answer())
    response, body = client.next_event(), client.next_event()
    assert isinstance(response, h11.Response) and response.status_code == 403
    assert isinstance(body, h11.Data) and body.data == "sandbox: refused: no: bücher\n".encode()
