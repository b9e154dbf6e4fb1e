"""A hub on this machine: the few answers that huggingface_hub asks for, from a folder, and ways to answer wrongly."""

import contextlib
import hashlib
import http.server
import json
import threading
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".pt", ".bin")
"""What is kept by LFS, and served from another address."""


class Hub:
    """A repository, `org/tiny`, at one commit.

    Attributes:
        files: content by path, as it is listed.
        sent: content by path, where what is sent is not what is listed.
        cut: bytes by path, behind which the connection is closed, once.
        down: paths that are refused once they were cut.
        refused: (status, error code) by path, or of "api".
        asked: (path, range of bytes) of every file that was asked for.
    """

    id = "org/tiny"

    def __init__(self, folder, **more):
        self.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())} | more
        self.sent, self.cut, self.refused, self.asked, self.down = {}, {}, {}, [], set()
        self.gated = False
        self.card = {"license": "mit"}

    @property
    def commit(self):
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def listed(self):
        return {
            "id": self.id,
            "sha": self.commit,
            "gated": "manual" if self.gated else False,
            "cardData": self.card,
            "tags": ["license:apache-2.0"],
            "siblings": [sibling(path, content) for path, content in self.files.items()],
        }


def sibling(path, content):
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found = {"rfilename": path, "size": len(content), "blobId": blob}
    if path.endswith(LARGE):
        found["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
    return found


class Answers(http.server.BaseHTTPRequestHandler):
    """HTTP/1.0: a connection for each question."""

    hub: Hub

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        api, files, large = f"/api/models/{self.hub.id}", f"/{self.hub.id}/resolve/{self.hub.commit}/", "/large/"
        if path.startswith("/api/"):
            known = (api, f"{api}/revision/main", f"{api}/revision/{self.hub.commit}")
            if refused := self.hub.refused.get("api"):
                self.refuse(*refused)
            elif not path.startswith(api):
                self.refuse(404, "RepoNotFound")
            elif path not in known:
                self.refuse(404, "RevisionNotFound")
            else:
                self.send(200, json.dumps(self.hub.listed()).encode())
        elif path.startswith(files) and path.endswith(LARGE):
            self.send_response(302)
            self.send_header("Location", large + path.removeprefix(files))
            self.end_headers()
        else:
            self.file(path.removeprefix(files).removeprefix(large))

    def file(self, path):
        content, span = self.hub.sent.get(path, self.hub.files.get(path)), self.headers.get("Range")
        self.hub.asked.append((path, span))
        if refused := self.hub.refused.get(path):
            self.refuse(*refused)
        elif content is None:
            self.refuse(404, "EntryNotFound")
        elif span:
            begin = int(span.removeprefix("bytes=").rstrip("-"))
            self.send(206, content[begin:], **{"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"})
        else:
            if (cut := self.hub.cut.pop(path, None)) is not None and path in self.hub.down:
                self.hub.refused[path] = (503,)
            self.send(200, content, cut)

    def send(self, status, content, cut=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content[:cut])

    def refuse(self, status, code=""):
        self.send(status, b"", **({"X-Error-Code": code} if code else {}))

    def log_message(self, *_):
        """Nothing is printed."""


@contextlib.contextmanager
def serving(hub):
    """The address at which it answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Answers,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
