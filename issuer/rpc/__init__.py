"""The only folder that speaks our gRPC and protobuf.

A method is ``async (message, call) -> message`` (``methods.py``) and imports no gRPC package; ``pipeline.py`` puts the
same numbered steps around each of them; ``server.py`` is the adapter that puts them behind grpc.aio.
"""
