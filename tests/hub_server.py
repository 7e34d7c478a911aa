"""A model hub on 127.0.0.1: the part of the protocol that downloading a file and pushing a folder of small files speaks, and no more.

    with HubServer() as server:
        commit = server.publish("org/name", {"config.json": b"..."}, revision="main")

HEAD and GET of /{org}/{name}/resolve/{revision}/{file} answer with ETag, X-Repo-Commit and Content-Length, or with 404 and X-Error-Code.
POST of /api/validate-yaml (a card's head; any is let pass), /api/repos/create, and /api/models/{org}/{name}/ with branch/{branch},
preupload/{revision} and commit/{revision}, makes a repository, a branch and a commit; whoever writes has to send the token `WRITER`.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

WRITER = "hf_writer"


class HubServer:
    """Serves repositories from memory until the `with` block ends or `stop` is called.

    Attributes:
        url: the endpoint, `http://127.0.0.1:port`.
        requests: (method, file) of every request so far, in order; of a POST, what comes after the repository.
        messages: of the commits that were pushed.
        before: called with (method, file) before each answer; a test can publish there, between two requests of one download.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.messages: list[str] = []
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

    def push(self, path: str, body: bytes) -> tuple[int, dict[str, object]]:
        """Return status and JSON of a POST."""
        if path == "repos/create":
            asked = json.loads(body)
            repository = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            if repository in self._revisions:
                return 409, {"error": "You already created this model repo", "url": f"{self.url}/{repository}"}
            self.publish(repository, {".gitattributes": b""})
            return 200, {"url": f"{self.url}/{repository}"}
        if path == "validate-yaml":
            return 200, {"errors": [], "warnings": []}
        _, org, name, what, revision = path.split("/")
        revisions = self._revisions[f"{org}/{name}"]
        if what == "branch":
            status = 409 if revision in revisions else 200
            revisions.setdefault(revision, revisions["main"])
            return status, {"error": "Reference already exists"} if status == 409 else {}
        if what == "preupload":
            listed = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return 200, {"files": listed}
        lines = [json.loads(line) for line in body.splitlines()]
        self.messages.append(lines[0]["value"]["summary"])
        files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines[1:]}
        commit = self.publish(f"{org}/{name}", self._files[revisions[revision]] | files, revision)
        return 200, {"commitUrl": f"{self.url}/{org}/{name}/commit/{commit}", "commitOid": commit}


class _Handler(BaseHTTPRequestHandler):
    """Answers one request and closes the connection, as HTTP/1.0 does: no connection outlives its test."""

    hub: HubServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        path = unquote(self.path.split("?")[0]).removeprefix("/api/")
        self.hub.requests.append(("POST", path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        allowed = self.headers.get("Authorization") == f"Bearer {WRITER}"
        status, answer = self.hub.push(path, body) if allowed else (401, {"error": "Invalid username or password."})
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

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


def local_hub(tmp_path, monkeypatch):
    """Yield a local hub, and make the client know it and an empty cache only: for fixtures."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with HubServer() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
        for switch in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
            monkeypatch.setattr(constants, switch, True)
        yield running
    getattr(huggingface_hub, "close_session", lambda: None)()
