import asyncio
import os

import websockets


async def main() -> None:
    headers = {"authorization": f"Bearer {os.environ['VENDOR_KEY']}"}
    async with websockets.connect("wss://api.example.com/ws", additional_headers=headers) as socket:
        await socket.send("hello")
        print(await socket.recv())
        sent = os.urandom(300_000)
        await socket.send(sent)
        print(await socket.recv() == sent[::-1])
        await (await socket.ping())
    print(socket.close_code)


asyncio.run(main())
