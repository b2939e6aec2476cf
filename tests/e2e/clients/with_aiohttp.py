import asyncio
import os

import aiohttp


async def main() -> None:
    headers = {"authorization": f"Bearer {os.environ['VENDOR_KEY']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post("https://api.example.com/aiohttp", data=b"body") as answer:
            print(await answer.text(), end="")


asyncio.run(main())
