"""The two that are compared: how each is started, given data, and asked."""

import dataclasses
import os
import pathlib
import string
import subprocess
import tempfile
import time

import requests

from .data import regrouped

CONFIG = pathlib.Path(__file__).with_name("loki.yaml")


@dataclasses.dataclass(frozen=True)
class Question:
    """One request: the path and its parameters."""

    path: str
    params: dict

    def with_query(self, query):
        return Question(self.path, {**self.params, "query": query})


class Peer:
    """A running server with tenants; every dataset is a tenant of its own."""

    def __init__(self, url):
        self.url = url
        self.session = requests.Session()
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=16))

    def push(self, tenant, streams):
        body = {"streams": [{"stream": s.labels, "values": [[str(at), line, *([meta] if meta else [])] for at, line, meta in s.entries]} for s in streams]}
        for _ in range(20):
            answer = self.session.post(f"{self.url}/loki/api/v1/push", json=body, headers={"X-Scope-OrgID": tenant}, timeout=30)
            if answer.status_code not in (429, 500, 503):
                break
            time.sleep(0.2)
        assert answer.status_code == 204, f"{self.url}: {answer.status_code} {answer.text}"
        # Loki asks its ingesters only about the last hours; what is flushed is found at any age.
        self.session.post(f"{self.url}/flush", timeout=30)

    def push_in_parts(self, tenant, streams, parts):
        """Pushes in the order of time, in so many requests, each acknowledged before the next: as many segments."""
        entries = sorted(((entry, s.labels) for s in streams for entry in s.entries), key=lambda one: one[0][0])
        for part in range(parts):
            some = entries[part * len(entries) // parts : (part + 1) * len(entries) // parts]
            self.push(tenant, regrouped((labels, entry) for entry, labels in some))

    def merges(self):
        """How many segments compaction has written so far."""
        lines = requests.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("rankline_compaction_merges_total"))

    def ask(self, tenant, question, headers=None):
        """(status, body)."""
        headers = {"X-Scope-OrgID": tenant, **(headers or {})}
        answer = self.session.get(f"{self.url}{question.path}", params=question.params, headers=headers, timeout=60)
        answer.encoding = "utf-8"
        return answer.status_code, answer.text


class Loki(Peer):
    """A Loki in one process, over a folder of its own."""

    def __init__(self, binary, folder, ports):
        super().__init__(f"http://127.0.0.1:{ports[0]}")
        config = folder / "loki.yaml"
        config.write_text(string.Template(CONFIG.read_text()).substitute(http=ports[0], grpc=ports[1], folder=folder))
        self.log = folder / "loki.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([binary, f"-config.file={config}"], stdout=log, stderr=log, cwd=folder, env=dict(os.environ))
        self.wait_ready()

    def wait_ready(self):
        for _ in range(300):
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                if requests.get(f"{self.url}/ready", timeout=2).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.2)
        raise AssertionError(f"Loki did not become ready:\n{self.log.read_text()[-2000:]}")

    def stop(self):
        self.process.kill()
        self.process.wait()


def peers(options, stack):
    """The two that the options of a comparison name, or new ones that end with `stack`."""
    from support import Server, free_port

    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if options.loki_url:
        theirs = Peer(options.loki_url)
    elif os.environ.get("LOKI"):
        theirs = Loki(os.environ["LOKI"], folder, (free_port(), free_port()))
        stack.callback(theirs.stop)
    else:
        raise SystemExit("LOKI names no Loki binary and --loki-url no server: there is nothing to compare with")
    if options.url:
        return Peer(options.url), theirs
    ours = Server("memory://", folder / "ours", ("--tenants-required", "true", "--query-max-series", "100000"))
    stack.callback(ours.kill)
    return Peer(ours.url), theirs
