"""The schemas of answers that need one: files beside the document, read when it is opened, so that it fails then."""

from __future__ import annotations

from perdure.capability import avro, protobuf
from perdure.capability.findings import Findings
from perdure.capability.locations import file_of
from perdure.capability.model import Capability, ConsumedOperation
from perdure.capability.reader import Load
from perdure.capability.source import DocumentError


def attach(capability: Capability, findings: Findings, load: Load) -> None:
    """Gives every operation whose answers are in Avro or Protocol Buffers what reads them."""
    for consumer in capability.consumers:
        for operation in consumer.operations:
            if operation.format in ("avro", "protobuf"):
                _attach(operation, findings, load)


def _attach(operation: ConsumedOperation, findings: Findings, load: Load) -> None:
    at = (*operation.at, "outputSchema")
    location, _, message = operation.selector.partition("#")
    if not location and operation.format == "protobuf":
        told = "protobuf needs outputSchema: the path of a .proto file, with #Message if it is not its first"
        findings.error(operation.at, "missing-key", told)
        return
    try:
        text = load(file_of(location)) if location else ""
        operation.reader = avro.reader(text) if operation.format == "avro" else protobuf.reader(text, message)
    except OSError as error:
        findings.error(at, "missing-file", f"cannot read {location}: {error.strerror or error}")
    except DocumentError as error:
        findings.error(at, "bad-file", error.reason)
    except (avro.SchemaError, protobuf.ProtoError, ValueError) as error:
        findings.error(at, "bad-file", f"{location}: {error}")
