"""A model hub on 127.0.0.1: the part of the download protocol that `huggingface_hub.hf_hub_download` speaks, and no more.

    with HubServer() as server:
        commit = server.publish("org/name", {"config.json": b"..."}, revision="main")

HEAD and GET of /{org}/{name}/resolve/{revision}/{file} answer with ETag, X-Repo-Commit and Content-Length, or with 404 and X-Error-Code.
"""

import hashlib
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote


class HubServer:
    """Serves repositories from memory until the `with` block ends or `stop` is called.

    Attributes:
        url: the endpoint, `http://127.0.0.1:port`.
        requests: (method, file) of every request so far, in order.
        before: called with (method, file) before each answer; a test can publish there, between two requests of one download.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda method, file: None
        self._revisions: dict[str, dict[str, str]] = {}  # repository -> branch, tag or commit -> commit
        self._files: dict[str, dict[str, bytes]] = {}  # commit -> file -> bytes
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def publish(self, repository: str, source: Path | Mapping[str, bytes], revision: str = "main") -> str:
        """Commit the files of a folder, or of a dict, to a branch or tag and return the commit: 40 hex digits."""
        files = dict(source) if isinstance(source, Mapping) else {path.name: path.read_bytes() for path in sorted(source.iterdir())}
        revisions = self._revisions.setdefault(repository, {})
        commit = hashlib.sha1(repr((repository, len(self._files), files)).encode()).hexdigest()  # noqa: S324 - as git names commits
        self._files[commit] = files
        revisions[revision] = revisions[commit] = commit
        return commit

    def find(self, repository: str, revision: str, file: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one answer."""
        if repository not in self._revisions:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in self._revisions[repository]:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        commit = self._revisions[repository][revision]
        headers = {"X-Repo-Commit": commit}
        if file not in self._files[commit]:
            return 404, headers | {"X-Error-Code": "EntryNotFound"}, b""
        body = self._files[commit][file]
        return 200, headers | {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'}, body


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and closes the connection, as HTTP/1.0 does: no connection outlives its test."""

    hub: HubServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = [unquote(part) for part in self.path.split("?")[0].strip("/").split("/")]
        if len(parts) != 5 or parts[2] != "resolve":
            self.send_error(400, f"this hub knows /org/name/resolve/revision/file only, not {self.path}")
            return
        org, name, _, revision, file = parts
        self.hub.before(self.command, file)
        self.hub.requests.append((self.command, file))
        status, headers, body = self.hub.find(f"{org}/{name}", revision, file)
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; `HubServer.requests` holds what came."""
