"""How the gRPC server treats its connections, and which method answers which call."""

from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.connection_flags import GrpcKeepalive
from predictor.edge.grpc_messages import unary

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_HANDSHAKE_MS = 10_000  # for a connection that says nothing; the library gives 120 s
_IDLE_MS = 600_000  # without a call; clients connect again by themselves
_MAX_STREAMS = 1024  # calls in flight of one connection; the client keeps the rest back


def server_options(
    keepalive: GrpcKeepalive, *, max_receive_bytes: int, max_send_bytes: int, max_connections: int
) -> list[tuple[str, int]]:
    """The library's options."""
    options = [
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", max_send_bytes),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.max_concurrent_streams", _MAX_STREAMS),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", keepalive.grpc_keepalive_time),
        ("grpc.keepalive_timeout_ms", keepalive.grpc_keepalive_timeout),
        ("grpc.keepalive_permit_without_calls", keepalive.grpc_keepalive_permit_without_calls),
        ("grpc.http2.max_pings_without_data", keepalive.grpc_http2_max_pings_without_data),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            keepalive.grpc_http2_min_recv_ping_interval_without_data,
        ),
        ("grpc.http2.max_ping_strikes", keepalive.grpc_http2_max_ping_strikes),
    ]
    for name, value in (
        ("grpc.max_connection_age_ms", keepalive.grpc_max_connection_age),
        ("grpc.max_connection_age_grace_ms", keepalive.grpc_max_connection_age_grace),
    ):
        if value is not None:
            options.append((name, value))
    return [(name, int(value)) for name, value in options]


def service_handler(servicer: Any) -> grpc.GenericRpcHandler:
    """The service's methods, each of which gets a message, or is not called."""
    return grpc.method_handlers_generic_handler(
        _SERVICE.full_name,
        {
            method.name: unary(
                GetMessageClass(method.input_type),
                getattr(servicer, method.name),
                GetMessageClass(method.output_type),
            )
            for method in _SERVICE.methods
        },
    )
