"""A publisher on the loopback: serves files by path, with Range, and misbehaves as told."""

import contextlib
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Publisher:
    """`files` by path; `faults` by path: a list of names, one for each request, of what goes wrong with it."""

    def __init__(self):
        self.files, self.faults, self.asked, self.ranges = {}, {}, Counter(), []
        self.address = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        publisher = self.server.publisher
        path = self.path.lstrip("/")
        publisher.asked[path] += 1
        fault = publisher.faults.get(path, []).pop(0) if publisher.faults.get(path) else ""
        content = publisher.files.get(path)
        if content is None:
            return self.send_error(404)
        if fault.isdigit():
            return self.send_error(int(fault))
        if fault == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/etc/passwd")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start, asked = 0, self.headers.get("Range")
        if asked:
            publisher.ranges.append((path, asked))
        if asked and fault != "no range":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
        body = content[start:]
        if fault == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "drop":  # half of it, and the line is dead
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
        elif fault == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.stalled.wait(5)
            self.close_connection = True
        else:
            self.wfile.write(body)


@contextlib.contextmanager
def serving():
    """A `Publisher` whose files can be had at `publisher.address` while the block runs."""
    publisher = Publisher()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.publisher, server.stalled = True, publisher, threading.Event()
    publisher.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield publisher
    finally:
        server.stalled.set()
        server.shutdown()
        server.server_close()
        thread.join()
