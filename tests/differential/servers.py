"""The two that are compared: how each is started, given data, and asked."""

import dataclasses
import os
import pathlib
import string
import subprocess
import time

import requests

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

    def ask(self, tenant, question):
        """(status, body)."""
        answer = self.session.get(f"{self.url}{question.path}", params=question.params, headers={"X-Scope-OrgID": tenant}, timeout=60)
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
