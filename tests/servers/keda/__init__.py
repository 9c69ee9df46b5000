"""The client of KEDA's external scaler, generated from KEDA's proto without edits.

`externalscaler.proto` has the messages and methods of KEDA 2.20. Generate again, with grpcio-tools 1.85.1:
python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. tests/servers/keda/externalscaler.proto
"""
