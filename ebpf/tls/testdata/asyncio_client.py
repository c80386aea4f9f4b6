# For each line of its standard input, asks that many times over each of 5
# connections at a time, over TLS in memory, and says so.
import asyncio, ssl, sys


async def ask(port, n):
    context = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    for _ in range(n):
        writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
    writer.close()


async def main():
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await asyncio.gather(*(ask(int(sys.argv[1]), int(line)) for _ in range(5)))
        print("done", flush=True)


asyncio.run(main())
