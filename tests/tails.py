"""A client of the live tail, as Grafana and logcli are: a WebSocket that is read in the background."""

import json
import threading
import time
import urllib.parse

import websockets.sync.client
from websockets.exceptions import ConnectionClosed


class Tail:
    """Follows a query; everything that arrives is kept with the time it arrived at."""

    def __init__(self, server, query, headers=None, reading=True, **params):
        scheme = server.url.replace("http", "ws", 1)
        url = f"{scheme}/loki/api/v1/tail?{urllib.parse.urlencode({'query': query, **params})}"
        # A small window, so that a reader that stops reading is felt by the server.
        self.connection = websockets.sync.client.connect(
            url, additional_headers=headers, compression=None, max_size=None, max_queue=1024 if reading else 4
        )
        self.socket = self.connection.__enter__()
        self.messages, self.entries, self.dropped = [], [], []
        self.closed = None
        self.thread = threading.Thread(target=self.read, daemon=True)
        if reading:
            self.thread.start()

    def read(self):
        try:
            for text in self.socket:
                assert isinstance(text, str), "a frame that is not text"
                self.take(json.loads(text))
        except ConnectionClosed as closed:
            self.closed = closed
        else:
            self.closed = self.closed or self.socket.protocol.close_exc

    def take(self, message):
        now = time.time_ns()
        self.messages.append(message)
        for stream in message.get("streams") or []:
            for value in stream["values"]:
                self.entries.append((now, int(value[0]), value[1], stream["stream"]))
        self.dropped += message.get("dropped_entries") or []

    def lines(self):
        return [line for _, _, line, _ in list(self.entries)]

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.connection.__exit__(*why)
        if self.thread.is_alive():
            self.thread.join(timeout=5)
