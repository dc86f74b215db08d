#!/usr/bin/env python3
"""bridge.py PORT PID -- let the host of the lab whose process 1 is PID reach 127.0.0.1:PORT of this machine.

The hosts of `hosts` have networks without a way out, and the S3 server listens on this machine's loopback only. A socket
belongs to the network in which it was made, whoever uses it afterwards: so this listens on 127.0.0.1:PORT over there, and
connects from here. The address is the same on both sides, so that endpoint and signatures are too. Prints "ready".
"""
import asyncio
import ctypes
import os
import signal
import socket
import sys

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
BLOCK_BYTES = 1 << 18

libc = ctypes.CDLL(None, use_errno=True)


def enter_network(pid):
    with open(f"/proc/{pid}/ns/net") as network:
        if libc.setns(network.fileno(), CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network of process {pid} (root may)")


def listen_in_network_of(pid, port):
    own = os.getpid()
    with open(f"/proc/{own}/ns/net") as home:
        enter_network(pid)
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        libc.setns(home.fileno(), CLONE_NEWNET)
    return listener


async def copy(reader, writer):
    """To the end of one direction; the other goes on."""
    try:
        while block := await reader.read(BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def serve(listener, port):
    async def connected(reader, writer):
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer))
        for each in (writer, server_writer):
            each.close()

    server = await asyncio.start_server(connected, sock=listener)
    print("ready", flush=True)
    await server.serve_forever()


def main():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody else knows of us
    port, pid = int(sys.argv[1]), int(sys.argv[2])
    asyncio.run(serve(listen_in_network_of(pid, port), port))


if __name__ == "__main__":
    main()
