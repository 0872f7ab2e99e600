"""Stores on this machine: a web server with faults by choice, and folders copied to memory://."""

import http.server
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec

Fault = Callable[["Handler", str, int], bool]
"""Is told the handler, the path and how often it was asked for; answers itself, or gives False."""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, with ranges, and lets a fault answer instead."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, server_: "Web", **kwargs: Any) -> None:
        self.web = server_
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self._answer(lambda path: self._send(Path(self.directory) / path))

    def do_HEAD(self) -> None:
        self._answer(lambda path: super(Handler, self).do_HEAD())

    def _answer(self, send: Callable[[str], object]) -> None:
        path = urllib.parse.unquote(self.path).lstrip("/")
        with self.web.lock:
            self.web.asked[path] += 1
            self.web.got += [path] if self.command == "GET" else []
            asked = self.web.asked[path]
            self.web.now[self.command] += 1
            self.web.most |= self.web.now
        time.sleep(self.web.seconds)
        try:
            if not (self.web.fault and self.web.fault(self, path, asked)):
                send(path)
        finally:
            with self.web.lock:
                self.web.now[self.command] -= 1

    def _send(self, file: Path) -> None:
        asked = self.headers.get("Range")
        if not asked or not file.is_file() or not self.web.ranges:
            super().do_GET()
            self.web.sent += file.stat().st_size if file.is_file() else 0
            return
        data = file.read_bytes()
        start, _, end = asked.removeprefix("bytes=").partition("-")
        part = data[int(start) : int(end) + 1 if end else None]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)
        self.web.sent += len(part)

    def send_header(self, keyword: str, value: str) -> None:
        if self.web.dates or keyword != "Last-Modified":
            super().send_header(keyword, value)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Web:
    """A running server."""

    def __init__(self, folder: Path, fault: Fault | None, ranges: bool, seconds: float) -> None:
        self.seconds = seconds
        self.fault, self.ranges, self.lock = fault, ranges, threading.Lock()
        self.asked, self.got, self.now, self.most = (
            Counter[str](),
            list[str](),
            Counter[str](),
            Counter[str](),
        )
        self.dates, self.sent = True, 0
        handler = partial(Handler, directory=str(folder), server_=self)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def web(
    folder: Path, fault: Fault | None = None, *, ranges: bool = True, seconds: float = 0
) -> Iterator[Web]:
    """Serve a folder while inside: its URL, how often each path was asked for, which were got, the most at
    one moment by command, the bytes of files that were sent, and whether it says when files changed.

    Each request takes so many seconds more; `fault` may answer it, `ranges` says whether parts are given.
    """
    served = Web(folder, fault, ranges, seconds)
    served.server.daemon_threads = True
    thread = threading.Thread(target=served.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        served.server.server_close()


def in_memory(folder: Path, name: str) -> str:
    """The URL of a copy of a folder in this process's memory, apart from all others."""
    store, name = fsspec.filesystem("memory"), f"{uuid.uuid4()}/{name}"
    for file in folder.rglob("*"):
        if file.is_file():
            store.pipe_file(f"/{name}/{file.relative_to(folder)}", file.read_bytes())
    return f"memory://{name}"


def unavailable(times: int, status: int = 503, only: str = "") -> Fault:
    """Answers with a status, so many times for each path that ends with `only`."""

    def fault(handler: Handler, path: str, asked: int) -> bool:
        if asked > times or not path.endswith(only):
            return False
        handler.send_error(status)
        return True

    return fault
