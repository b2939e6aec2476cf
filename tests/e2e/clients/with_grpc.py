import os

import grpc

held = (("authorization", f"Bearer {os.environ['VENDOR_KEY']}"),)
options = {"metadata": held, "timeout": 60}
with grpc.secure_channel("grpc.example.com", grpc.ssl_channel_credentials()) as channel:
    print(channel.unary_unary("/test.Echo/Unary")(b"one", **options).decode())
    print(b" ".join(channel.unary_stream("/test.Echo/Stream")(b"many", **options)).decode())
    print(b" ".join(channel.stream_stream("/test.Echo/Chat")(iter([b"a", b"b"]), **options)).decode())
    try:
        channel.unary_unary("/test.Echo/Fail")(b"", **options)
    except grpc.RpcError as error:
        print(error.code().name, error.details(), dict(error.trailing_metadata())["x-why"])
