"""Avro and Protocol Buffers: written here byte by byte, as their specifications have it, and read as JSON."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.capability import avro, protobuf
from perdure.capability.formats import FormatError
from perdure.capability.upstream import Reply
from perdure.model.json import Json, encode
from tests.support.upstreams import FakeUpstream, opened, perform, running

SHIP: Json = {
    "type": "record", "name": "fleet.Ship",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "length", "type": "double"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["CARGO", "TANKER"]}},
        {"name": "crew", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "tags", "type": {"type": "map", "values": "long"}},
        {"name": "mark", "type": {"type": "fixed", "name": "Mark", "size": 2}},
        {"name": "sister", "type": ["null", "Ship"]},
    ],
}  # fmt: skip
VALUE: Json = {
    "name": "Ada", "length": 12.5, "kind": "TANKER", "crew": ["Bo", None], "tags": {"a": -3}, "mark": "xy",
    "sister": None,
}  # fmt: skip


def number(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


BYTES = (
    text("Ada") + struct.pack("<d", 12.5) + number(1)
    + number(2) + number(1) + text("Bo") + number(0) + number(0)
    + number(-1) + number(4) + text("a") + number(-3) + number(0)
    + b"xy" + number(0)
)  # fmt: skip


def container(codec: str, block: bytes, count: int) -> bytes:
    meta = number(2) + text("avro.schema") + text(encode(SHIP).decode()) + text("avro.codec") + text(codec) + number(0)
    return b"Obj\x01" + meta + b"m" * 16 + number(count) + number(len(block)) + block + b"m" * 16


def test_avro_is_read_in_all_of_its_forms() -> None:
    read = avro.reader(encode(SHIP).decode())
    assert read(BYTES) == VALUE
    assert read(b"\xc3\x01" + b"12345678" + BYTES) == VALUE
    own = avro.reader("")
    assert own(container("null", BYTES + BYTES, 2)) == [VALUE, VALUE]
    packer = zlib.compressobj(wbits=-15)
    assert own(container("deflate", packer.compress(BYTES) + packer.flush(), 1)) == [VALUE]


@pytest.mark.parametrize(
    "body",
    [b"", b"\x08Ada", BYTES[:-1], BYTES + b"x", b"\xff" * 12, container("snappy", b"", 0), container("null", b"x", 9)],
)
def test_damaged_avro_is_told(body: bytes) -> None:
    with pytest.raises(FormatError):
        avro.reader(encode(SHIP).decode())(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (avro.reader(encode(SHIP).decode()), protobuf.reader(PROTO)):
        try:
            read(data)
        except FormatError:
            continue


@pytest.mark.parametrize(
    "schema", ["{", '"ship"', '{"type": "record", "name": "a"}', '{"type": "fixed", "name": "a"}', "7"]
)
def test_what_is_no_avro_schema_is_told(schema: str) -> None:
    with pytest.raises(avro.SchemaError):
        avro.reader(schema)


PROTO = """
syntax = "proto3"; // the newer one
package fleet.v1;
option java_package = "x";
/* Ships
   of the fleet. */
message Ship {
  reserved 9 to 11;
  string name = 1;
  double length = 2 [deprecated = true];
  Kind kind = 3;
  repeated string crew = 4;
  repeated sint32 depths = 5 [packed = true];
  map<string, int64> tags = 6;
  Ship sister = 7;
  oneof state { bool moored = 8; Port port = 12; }
  bytes mark = 13;
  int32 below = 14;
  fixed32 code = 15;
  enum Kind { option allow_alias = true; CARGO = 0; TANKER = 1; }
  message Port { .fleet.v1.Ship.Kind kind = 1; }
}
message Empty {}
service Ships { rpc Get (Empty) returns (Ship) { option x = "}"; } }
"""


def field(at: int, content: bytes) -> bytes:
    return varint(at << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def plain(at: int, value: int) -> bytes:
    return varint(at << 3) + varint(value & 0xFFFFFFFFFFFFFFFF)


def test_messages_are_read() -> None:
    body = (
        field(1, b"Ada") + varint(2 << 3 | 1) + struct.pack("<d", 12.5) + plain(3, 1) + field(4, b"Bo")
        + field(4, b"Cy") + field(5, varint(3) + varint(4)) + plain(5, 1) + field(6, field(1, b"a") + plain(2, -3))
        + field(7, field(1, b"Eve")) + field(12, plain(1, 0)) + field(13, b"\xff") + plain(14, -1)
        + varint(15 << 3 | 5) + struct.pack("<I", 7) + plain(99, 1)
    )  # fmt: skip
    assert protobuf.reader(PROTO)(body) == {
        "name": "Ada", "length": 12.5, "kind": "TANKER", "crew": ["Bo", "Cy"], "depths": [-2, 2, -1], "tags": {"a": -3},
        "sister": {"name": "Eve"}, "port": {"kind": "CARGO"}, "mark": "/w==", "below": -1, "code": 7,
    }  # fmt: skip
    assert protobuf.reader(PROTO, "Ship.Port")(plain(1, 5)) == {"kind": 5}
    assert protobuf.reader(PROTO, "Empty")(b"") == {}


@pytest.mark.parametrize(
    "body", [b"\x0a\x09Ada", b"\x0a", b"\x0b", plain(1, 1), field(3, b"x"), field(1, b"\xff"), b"\x80"]
)
def test_damaged_messages_are_told(body: bytes) -> None:
    with pytest.raises(FormatError):
        protobuf.reader(PROTO)(body)


@pytest.mark.parametrize(
    "file",
    ["", "message", "message A { B b = 1; }", "message A { string a = x; }", 'import "b.proto";', "message A { string"],
)
def test_what_is_no_proto_file_is_told(file: str) -> None:
    with pytest.raises(protobuf.ProtoError):
        protobuf.reader(file)


DOCUMENT = """
naftiko: 1.0.0-alpha2
capability:
  consumes:
  - type: http
    namespace: fleet
    baseUri: http://fleet.example
    resources:
    - name: ships
      path: /ships
      operations:
      - {name: get, method: GET, outputRawFormat: %s, outputSchema: %s}
  exposes:
  - {type: mcp, namespace: tools, port: 1, tools: [{name: get, description: x, call: fleet.get,
     outputParameters: [{type: string, mapping: $.name}]}]}
"""


@pytest.mark.parametrize(
    ("form", "selector", "body"),
    [
        ("avro", "ship.avsc", BYTES),
        ("protobuf", "ship.proto", field(1, b"Ada")),
        ("protobuf", "ship.proto#Ship", field(1, b"Ada")),
    ],
)
async def test_a_document_names_the_schema(form: str, selector: str, body: bytes) -> None:
    files = {"ship.avsc": encode(SHIP).decode(), "ship.proto": PROTO}
    upstream = FakeUpstream(lambda request: Reply(200, {"content-type": "application/octet-stream"}, body))
    assert await perform(running(opened(DOCUMENT % (form, f"'{selector}'"), files), upstream), "get") == "Ada"


@pytest.mark.parametrize(
    ("form", "selector", "code"),
    [("avro", "none.avsc", "missing-file"), ("avro", "ship.proto", "bad-file"), ("protobuf", "''", "missing-key"),
     ("protobuf", "'ship.proto#Boat'", "bad-file")],
)  # fmt: skip
def test_a_schema_that_there_is_not_is_found(form: str, selector: str, code: str) -> None:
    found = opened(DOCUMENT % (form, selector), {"ship.proto": PROTO}).findings.all
    assert [(each.code, each.severity) for each in found if each.severity == "error"] == [(code, "error")]
