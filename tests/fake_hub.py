"""A Hugging Face Hub on this machine, for tests: repositories in memory, served as `huggingface_hub` asks for them.

Large files (LFS) are redirected to another host, as by the Hub, which is `localhost` in place of `127.0.0.1`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]

_LARGE = (".safetensors", ".bin", ".parquet", ".onnx", ".h5", ".msgpack")
_API = re.compile(r"/api/(models|datasets)/([^/]+(?:/[^/]+)?)/(revision|tree|paths-info|preupload|commit)/([^/]+)(.*)")
_INFO = re.compile(r"/api/(models|datasets)/([^/]+(?:/[^/]+)?)/?")
_FILE = re.compile(r"/(datasets/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")
_LFS = re.compile(r"/(datasets/)?(.+)\.git/info/lfs/objects/batch")


@dataclass
class Repository:
    """Commits, oldest first, and who may read them."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


@dataclass
class Fault:
    """What happens to requests whose `METHOD path` a pattern matches, as often as `times` says."""

    pattern: str
    status: int = 500
    times: float = float("inf")
    cut_after: int | None = None
    """Send so many bytes of the body and close the connection, in place of a status."""


class FakeHub:
    """The server; a context manager that starts and stops it.

    Attributes:
        requests: method, path and status of every answer, in order.
        faults: see `Fault`; the first that matches is taken.
        tokens: token -> user, of those who are known here.
        allowed: users who may read gated repositories.
    """

    def __init__(self, port: int = 0) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.faults: list[Fault] = []
        self.tokens: dict[str, str] = {"hf_" + "a1B2" * 8: "me"}
        self.allowed: set[str] = set()
        self.port = port
        self.connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> FakeHub:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve at the port that was given or used the last time, or at a free one."""
        hub = self
        handler = type("Handler", (_Handler,), {"hub": hub})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """End all connections and refuse new ones, as a machine without a network does."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def endpoint(self) -> str:
        """The address for `HF_ENDPOINT`."""
        return f"http://127.0.0.1:{self.port}"

    def commit(
        self,
        name: str,
        files: Mapping[str, bytes] | Path | str,
        kind: str = "models",
        *,
        branch: str = "main",
        whole: bool = True,
    ) -> str:
        """Add a commit to a repository, made if there is none, and return its hash.

        Args:
            files: or the folder that holds them.
            whole: they are all there is; otherwise they are added to those of the last commit.
        """
        if not isinstance(files, Mapping):
            folder = Path(files)
            files = {
                file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
            }
        repository = self.repositories.setdefault((kind, name), Repository())
        before = {} if whole else repository.commits.get(repository.refs.get(branch, ""), {})
        content = {**before, **files}
        parts = [
            name,
            str(len(repository.commits)),
            *(f"{path} {_blob(data)}" for path, data in sorted(content.items())),
        ]
        commit = hashlib.sha1("\n".join(parts).encode()).hexdigest()
        repository.commits[commit] = content
        repository.refs[branch] = commit
        return commit

    def fault(self, request: str) -> Fault | None:
        """What is to go wrong with a request, counted."""
        found = next((one for one in self.faults if one.times > 0 and re.search(one.pattern, request)), None)
        if found is not None:
            found.times -= 1
        return found


def _blob(data: bytes) -> str:
    """The hash that git has for the content of a file."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, message: str, commit: str = "", url: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.commit, self.url = status, code, commit, url


class _Handler(BaseHTTPRequestHandler):
    """One connection; see the methods for what the Hub answers."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: see `FakeHub.requests`."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    # --- answers ------------------------------------------------------------------------------------------------

    def _answer(self, made: Callable[[str, bytes], None]) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        fault = self._fault = self.hub.fault(f"{self.command} {path}")
        try:
            if fault is not None and fault.cut_after is None:
                raise _RefusedError(fault.status, "", f"status {fault.status} was asked for")
            made(path, body)
        except _RefusedError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused), "X-Repo-Commit": refused.commit}
            self._send(refused.status, json.dumps({"error": str(refused), "url": refused.url}).encode(), headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.hub.requests.append((self.command, self.path, status))
        sent, known = body, {"Content-Type": "application/json", **(headers or {})}
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if status == 200 and ranged and self.command == "GET":
            start, stop = int(ranged[1]), int(ranged[2] or len(body) - 1) + 1
            sent, status = body[start:stop], 206
            known["Content-Range"] = f"bytes {start}-{start + len(sent) - 1}/{len(body)}"
        self.send_response(status)
        for name, value in known.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self._fault is not None and self._fault.cut_after is not None:
            sent = sent[: self._fault.cut_after]
            self.close_connection = True
        self.wfile.write(sent)

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode())

    # --- what is asked for ------------------------------------------------------------------------------------------

    def _get(self, path: str, body: bytes) -> None:
        if path == "/api/whoami-v2":
            self._json({"name": self._needed_user(), "type": "user", "orgs": [], "auth": {}})
        elif path.startswith("/cdn/"):
            data = self.hub.blobs[path.removeprefix("/cdn/")]
            self._send(200, data, {"ETag": f'"{_sha256(data)}"', "Accept-Ranges": "bytes"})
        elif found := _API.fullmatch(path):
            kind, name, what, revision, below = found.groups()
            repository = self._repository(kind, unquote(name))
            commit = self._commit(repository, unquote(revision))
            if what == "revision":
                self._json(_info(unquote(name), repository, commit))
            elif what == "tree":
                recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() in ("true", "1")
                self._json(_tree(repository.commits[commit], unquote(below).strip("/"), recursive))
        elif found := _INFO.fullmatch(path):
            repository = self._repository(found[1], unquote(found[2]))
            self._json(_info(unquote(found[2]), repository, self._commit(repository, "main")))
        elif found := _FILE.fullmatch(path):
            self._file("datasets" if found[1] else "models", *map(unquote, found.groups()[1:]))
        else:
            raise _RefusedError(404, "", f"no such page: {path}")

    def _file(self, kind: str, name: str, revision: str, file: str) -> None:
        repository = self._repository(kind, name)
        if repository.gated and self._user() not in self.hub.allowed:
            raise _RefusedError(
                403 if self._user() else 401, "GatedRepo", f"Access to {kind[:-1]} {name} is restricted."
            )
        commit = self._commit(repository, revision)
        if file not in repository.commits[commit]:
            raise _RefusedError(404, "EntryNotFound", "Entry not found", commit)
        data = repository.commits[commit][file]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_blob(data)}"', "Accept-Ranges": "bytes"}
        if not file.endswith(_LARGE):
            self._send(200, data, headers)
            return
        self.hub.blobs[_sha256(data)] = data
        place = f"http://localhost:{self.hub.port}/cdn/{_sha256(data)}"
        linked = {"X-Linked-ETag": f'"{_sha256(data)}"', "X-Linked-Size": str(len(data)), "Location": place}
        self._send(302, b"", headers | linked)

    def _post(self, path: str, body: bytes) -> None:
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := _LFS.fullmatch(path):
            self._needed_user()
            wanted = json.loads(body)["objects"]
            place = f"http://localhost:{self.hub.port}/cdn/"
            objects = [one | {"actions": {"upload": {"href": place + one["oid"]}}} for one in wanted]
            self._json({"transfer": "basic", "objects": objects})
        elif found := _API.fullmatch(path):
            kind, name, what, revision, _ = found.groups()
            repository = self._repository(kind, unquote(name))
            if what == "paths-info":
                files = repository.commits[self._commit(repository, unquote(revision))]
                form = self.headers.get("Content-Type", "").startswith("application/x-www-form")
                paths = parse_qs(body.decode())["paths"] if form else json.loads(body)["paths"]
                self._json([_entry(one, files) for one in paths if _entry(one, files)])
                return
            if self._needed_user() != unquote(name).partition("/")[0]:
                raise _RefusedError(403, "", "You don't have the rights to write to this repository.")
            if what == "preupload":
                paths = [one["path"] for one in json.loads(body)["files"]]
                modes = [(one, "lfs" if one.endswith(_LARGE) else "regular") for one in paths]
                self._json({"files": [{"path": one, "uploadMode": mode, "shouldIgnore": False} for one, mode in modes]})
            elif what == "commit":
                self._write(unquote(name), kind, repository, body)
        else:
            raise _RefusedError(404, "", f"no such page: {path}")

    def _put(self, path: str, body: bytes) -> None:
        self.hub.blobs[path.removeprefix("/cdn/")] = body
        self._send(200, b"")

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or self._needed_user()
        if owner != self._needed_user():
            raise _RefusedError(403, "", f"You don't have the rights to create a model under the namespace {owner}")
        kind, name = f"{wanted.get('type') or 'model'}s", f"{owner}/{wanted['name']}"
        address = {"url": f"{self.hub.endpoint}/{name}", "name": name}
        if (kind, name) in self.hub.repositories:
            raise _RefusedError(409, "", "You already created this model repo", url=address["url"])
        self.hub.commit(name, {".gitattributes": b""}, kind)
        self.hub.repositories[kind, name].private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self._json(address)

    def _write(self, name: str, kind: str, repository: Repository, body: bytes) -> None:
        files = dict(repository.commits[repository.refs["main"]])
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif one["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.hub.commit(name, files, kind)
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}"})

    # --- who may see what -------------------------------------------------------------------------------------------

    def _user(self) -> str | None:
        return self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _needed_user(self) -> str:
        if (user := self._user()) is None:
            raise _RefusedError(401, "", "Invalid username or password.")
        return user

    def _repository(self, kind: str, name: str) -> Repository:
        found = self.hub.repositories.get((kind, name))
        if found is None or (found.private and self._user() is None):
            raise _RefusedError(404 if self._user() else 401, "RepoNotFound", "Repository not found")
        return found

    def _commit(self, repository: Repository, revision: str) -> str:
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit


def _info(name: str, repository: Repository, commit: str) -> dict[str, Any]:
    """What `/api/models/NAME` says."""
    siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
    found = {"id": name, "sha": commit, "private": repository.private, "siblings": siblings, "tags": []}
    return found | {"gated": "manual" if repository.gated else False, "disabled": False, "downloads": 0, "likes": 0}


def _entry(path: str, files: Files) -> dict[str, Any] | None:
    """What a tree says about a file or folder; None if there is none."""
    if path in files:
        data = files[path]
        found = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
        large = {"lfs": {"oid": _sha256(data), "size": len(data), "pointerSize": 130}}
        return found | (large if path.endswith(_LARGE) else {})
    if any(one.startswith(f"{path}/") for one in files):
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    return None


def _tree(files: Files, below: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders in a folder. Raises `_RefusedError` if there is none."""
    prefix = f"{below}/" if below else ""
    inside = [path for path in sorted(files) if path.startswith(prefix)]
    if below and not inside:
        raise _RefusedError(404, "EntryNotFound", f"{below} does not exist")
    folders = {
        prefix + "/".join(parts[:i])
        for path in inside
        for parts in [path[len(prefix) :].split("/")]
        for i in range(1, len(parts))
    }
    paths = [*sorted(folders), *inside]
    found = [path for path in paths if recursive or "/" not in path[len(prefix) :]]
    return [entry for path in found if (entry := _entry(path, files))]
