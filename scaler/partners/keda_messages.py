"""Messages of KEDA's gRPC service `externalscaler.ExternalScaler`.

They are built from a table of fields and not from generated code, which would bind the package to one version of
protobuf. The table follows `pkg/scalers/externalscaler/externalscaler.proto` of KEDA 2; the tests call the server with
the client that protoc generates from that file.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "externalscaler"
SERVICE: Final = f"{PACKAGE}.ExternalScaler"
Field: Final = descriptor_pb2.FieldDescriptorProto
FIELDS: Final = {
    "ScaledObjectRef.ScalerMetadataEntry": (("key", Field.TYPE_STRING), ("value", Field.TYPE_STRING)),
    "ScaledObjectRef": (
        ("name", Field.TYPE_STRING),
        ("namespace", Field.TYPE_STRING),
        ("scalerMetadata", "*ScaledObjectRef.ScalerMetadataEntry"),
    ),
    "IsActiveResponse": (("result", Field.TYPE_BOOL),),
    "GetMetricSpecResponse": (("metricSpecs", "*MetricSpec"),),
    "MetricSpec": (
        ("metricName", Field.TYPE_STRING),
        ("targetSize", Field.TYPE_INT64),
        ("targetSizeFloat", Field.TYPE_DOUBLE),
    ),
    "GetMetricsRequest": (("scaledObjectRef", "ScaledObjectRef"), ("metricName", Field.TYPE_STRING)),
    "GetMetricsResponse": (("metricValues", "*MetricValue"),),
    "MetricValue": (
        ("metricName", Field.TYPE_STRING),
        ("metricValue", Field.TYPE_INT64),
        ("metricValueFloat", Field.TYPE_DOUBLE),
    ),
}
"""Fields of each message, numbered from 1. A text names a message; `*` marks a list, of map entries too."""


def _file() -> Any:
    """Return the descriptor of the proto file."""
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package=PACKAGE, syntax="proto3")
    messages: dict[str, Any] = {}
    for name in sorted(FIELDS):  # a message comes before its map entries
        parent, _, entry = name.partition(".")
        message = messages[parent].nested_type.add(name=entry) if entry else file.message_type.add(name=name)
        message.options.map_entry = bool(entry)
        messages[name] = message
        for number, (field, kind) in enumerate(FIELDS[name], start=1):
            added = message.field.add(name=field, number=number, label=Field.LABEL_OPTIONAL)
            if isinstance(kind, str):
                added.type, added.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind.removeprefix('*')}"
                added.label = Field.LABEL_REPEATED if kind.startswith("*") else Field.LABEL_OPTIONAL
            else:
                added.type = kind
    return file


POOL: Final = descriptor_pool.DescriptorPool()
POOL.AddSerializedFile(_file().SerializeToString())


def message(name: str) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ScaledObjectRef: Final = message("ScaledObjectRef")
IsActiveResponse: Final = message("IsActiveResponse")
GetMetricSpecResponse: Final = message("GetMetricSpecResponse")
MetricSpec: Final = message("MetricSpec")
GetMetricsRequest: Final = message("GetMetricsRequest")
GetMetricsResponse: Final = message("GetMetricsResponse")
MetricValue: Final = message("MetricValue")
