"""A relay on a free port between a client and a server, so that the server can be slow, or away.

    proxy = Proxy("http://127.0.0.1:7480", delay_s=0.2)   # each request arrives so much later
    proxy.end()     # connections end, and new ones are refused
    proxy.begin()   # the server is back, on the same port
"""
import select
import socket
import threading
import urllib.parse


class Proxy:
    def __init__(self, url, delay_s=0):
        url = urllib.parse.urlsplit(url)
        self.target, self.delay_s = (url.hostname, url.port), delay_s
        self.threads, self.connections, self.listener = [], [], None
        self.ended = threading.Event()
        self.port = 0
        self.begin()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def begin(self):
        self.ended.clear()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.thread(self.accept, self.listener)

    def thread(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        self.threads.append(thread)

    def accept(self, listener):
        while True:
            try:
                client = listener.accept()[0]
                server = socket.create_connection(self.target)
            except OSError:
                return
            self.connections += [client, server]
            self.thread(self.carry, client, server)

    def carry(self, client, server):
        """A client that waits for its answer sends nothing meanwhile, so a delay here is one of the request."""
        try:
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(1 << 18)
                    if not data:
                        return
                    if end is client:
                        self.ended.wait(self.delay_s)
                    (server if end is client else client).sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            client.close()
            server.close()

    def end(self):
        self.ended.set()
        for end in [self.listener, *self.connections]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.listener.close()
        self.connections = []
        for thread in self.threads:
            thread.join(5)
        self.threads = []
