"""Random pushes, JSON and OTLP, with whatever people send in labels, metadata and attributes: what is answered, and what
is stored of them, compared with a real Loki.

`LOKI=/path/to/loki python3 -m differential.pushes --seed 1 --pushes 500` (from `tests/`). With `--save` each difference
is written to `found_pushes/`.
"""

import argparse
import contextlib
import copy
import json
import pathlib
import random
import re
import sys
import time

from .compare import differs
from .data import NS
from .servers import Question, peers

FOUND = pathlib.Path(__file__).with_name("found_pushes")
LOKI_PUSH, OTLP_PUSH = "/loki/api/v1/push", "/otlp/v1/logs"
CATEGORIZED = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}

SERVICE_NAMES = ["service_name", "service", "app", "application", "app_name", "name", "app_kubernetes_io_name", "container", "container_name", "k8s_container_name", "component", "workload", "job", "k8s_job_name"]
LABELS = [*SERVICE_NAMES, "a", "rank", "level", "detected_level", "__x__", "_", "host_name"]
ODD_LABELS = ["a.b", "1a", "", "a b", "ü", "a-b", "A", "__stream_shard__", "__error__", "le"]
VALUES = ["x", "train", "7", "", " ", "ü", "unknown_service", "a\"b", "a\nb", "{}", "error", "v" * 2048]
ODD_VALUES = [5, 1.5, True, False, "v" * 2049, "\u0000"]
LEVEL_NAMES = ["level", "LEVEL", "Level", "severity", "SEVERITY", "Severity", "lvl", "LVL", "Lvl", "log.level", "severity_text", "SEVERITY_TEXT", "detected_level", "severity_number", "log_level", "loglevel"]
LEVELS = ["error", "ERROR", "Err", "err", "eror", "info", "INFO", "Info", "inf", "information", "warn", "WARN", "warning", "wrn", "WaRnInG", "debug", "dbg", "DEBUG", "trace", "trc", "TRC", "fatal", "FATAL", "critical", "crit", "panic", "notice", "emerg", "unknown", "", "5", "30", "x", "e", "I", "warn ", " error"]
TEXTS = [
    "%s", "%s: it broke", "[%s] x", "level=%s msg=x", 'level="%s" msg=x', "lvl=%s", "severity=%s a=b", "LEVEL=%s", "msg=%s", '{"level":"%s"}', '{"LEVEL":"%s","a":1}', '{"severity":"%s"}',
    '{"lvl":"%s"}', '{"log":{"level":"%s"}}', '{"log.level":"%s"}', '{"msg":"%s"}', '{"level":%s}', '{"level":{"a":"%s"}}', '{"a":1,"level":"%s"', ' {"level":"%s"}', "a=1 level=%s", "2026-01-10 %s worker", "x%sx",
    "the %s was here", "<%s>", "%s=1", "no such thing", "", " ", "\ufeff%s", "E0110 10:00:00.000000 1 x.cc:1] %s", "(%s)", "%s\n%s", "msg=\"level=%s\"", "detected_level=%s", "Level: %s",
]  # fmt: skip
RESOURCES = [
    "service.name", "service.namespace", "service.instance.id", "deployment.environment", "deployment.environment.name", "cloud.region", "cloud.availability_zone", "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name",
    "k8s.container.name", "container.name", "k8s.replicaset.name", "k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name", "host.name", "a.b", "a-b", "ü.x", "1x", "", "__x", "app", "job", "level",
    "service_name", "a b", "A.B",
]  # fmt: skip
SEVERITIES = ["INFO", "Error", "warn", "FATAL2", "", "x", "Debug3", "trace", "Information"]


class Pushes:
    """Makes requests: `(path, body)`, with times a little before `now`."""

    def __init__(self, rng, now):
        self.rng, self.now = rng, now

    def pick(self, choices):
        return self.rng.choice(choices)

    def often(self, share=0.5):
        return self.rng.random() < share

    def some(self, make, most):
        return [make() for _ in range(self.rng.randint(0, most))]

    def request(self):
        if self.often():
            return LOKI_PUSH, {"streams": [self.stream() for _ in range(self.pick([1, 1, 2]))]}
        return OTLP_PUSH, {"resourceLogs": [self.resource() for _ in range(self.pick([1, 1, 2]))]}

    def at(self):
        return self.now - self.rng.randrange(60) * NS - self.rng.randrange(NS)

    # -- Loki's own form

    def stream(self):
        odd = self.often(0.12)
        names = self.rng.sample(LABELS + (ODD_LABELS if odd else []), self.pick([0, 1, 1, 2, 3, 4]))
        values = VALUES + (ODD_VALUES if self.often(0.08) else [])
        labels = {name: self.pick(values) for name in names}
        if self.often(0.03):
            labels = {f"l{n:02}": "x" for n in range(self.pick([14, 15, 16, 17]))}
        return {"stream": labels, "values": self.some(self.entry, 3)}

    def entry(self):
        entry = [str(self.at()), self.line()]
        if self.often():
            entry.append(self.metadata())
        return entry

    def line(self):
        text = self.pick(TEXTS)
        return text.replace("%s", self.pick(LEVELS)) if self.often(0.97) else "x" * self.pick([262144, 262145])

    def metadata(self):
        names = LEVEL_NAMES + ["a", "trace_id", "app", "service_name", "rank"] + (ODD_LABELS if self.often(0.2) else [])
        values = LEVELS + VALUES + (ODD_VALUES if self.often(0.05) else [])
        return {self.pick(names): self.pick(values) for _ in range(self.rng.randint(0, 3))}

    # -- OTLP

    def value(self, depth=0):
        forms = [
            lambda: {"stringValue": self.pick(VALUES + LEVELS)}, lambda: {"stringValue": self.pick(VALUES + LEVELS)}, lambda: {"intValue": self.pick(["5", 7, "-1", "0"])}, lambda: {"doubleValue": self.pick([1.5, 3.0, 1e-9])},
            lambda: {"boolValue": self.often()}, lambda: {"bytesValue": self.pick(["YWJj", "", "//79"])}, lambda: {},
            lambda: {"arrayValue": {"values": self.some(lambda: self.value(depth + 1), 2)}}, lambda: {"kvlistValue": {"values": self.some(lambda: self.attribute(["a", "a.b", "c-d", "level", ""], depth + 1), 3)}},
        ]  # fmt: skip
        return self.pick(forms[: 7 if depth > 2 else None])()

    def attribute(self, names, depth=0):
        return {"key": self.pick(names), "value": self.value(depth)}

    def resource(self):
        resource = {}
        if self.often(0.9):
            resource["resource"] = {"attributes": self.some(lambda: self.attribute(RESOURCES), 4)}
            if self.often(0.05):
                resource["resource"]["droppedAttributesCount"] = 2
        if self.often(0.2):
            resource["schemaUrl"] = "https://example.org/1"
        return {**resource, "scopeLogs": [self.scope() for _ in range(self.pick([1, 1, 2]))]}

    def scope(self):
        scope = {}
        if self.often(0.4):
            scope["scope"] = {"name": self.pick(["", "lib", "a.b"]), "version": self.pick(["", "1.2"]), "attributes": self.some(lambda: self.attribute(["x", "a.b", "level"]), 2)}
            if self.often(0.2):
                scope["scope"]["droppedAttributesCount"] = 1
        return {**scope, "logRecords": self.some(self.record, 3)}

    def record(self):
        record = {"timeUnixNano": str(self.at())}
        if self.often(0.15):
            record["observedTimeUnixNano"] = str(self.at())
            if self.often():
                record["timeUnixNano"] = "0"
        if self.often(0.85):
            record["body"] = {"stringValue": self.line()} if self.often(0.7) else self.value()
        if self.often(0.4):
            record["severityNumber"] = self.pick([0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 99])
        if self.often(0.4):
            record["severityText"] = self.pick(SEVERITIES)
        if self.often():
            record["attributes"] = self.some(lambda: self.attribute([*LEVEL_NAMES, "a", "a.b", "service.name", "event", "1x", ""]), 3)
        if self.often(0.2):
            record["traceId"] = self.pick(["5b8efff798038103d269b633813fc60c", "", "00000000000000000000000000000000"])
            record["spanId"] = self.pick(["eee19b7ec3c1b174", ""])
        if self.often(0.1):
            record["flags"] = self.pick([0, 1, 257])
        if self.often(0.1):
            record["droppedAttributesCount"] = 3
        if self.often(0.05):
            record["eventName"] = "device.app"
        return record


def sent(peer, tenant, path, body):
    """What a peer answers to a push; OTLP's errors as they are, in protobuf."""
    answer = peer.session.post(f"{peer.url}{path}", json=body, headers={"X-Scope-OrgID": tenant}, timeout=30)
    return answer.status_code, answer.content.decode(errors="replace").strip()


def stored(peer, tenant, now):
    """Everything a tenant has, in categories."""
    params = {"query": '{service_name=~".+"}', "start": now - 3600 * NS, "end": now + 60 * NS, "limit": 1000, "direction": "forward"}
    status, text = peer.ask(tenant, Question("/loki/api/v1/query_range", params), CATEGORIZED)
    # What came without a time has got that of its arrival.
    return status, re.sub(r'\["(\d+)"', lambda time: f'["{min(int(time[1]), now)}"', text)


def compared(ours, theirs, tenant, path, body, now):
    """Why two peers differ about a push, as (kind, text, Loki's answers); None if they do not."""
    mine, right = sent(ours, tenant, path, body), sent(theirs, tenant, path, body)
    if right[0] >= 500 or re.search("label name is empty|at least one label pair", right[1]):
        return None
    if mine[0] != right[0]:
        return "push status", f"{mine[0]} {mine[1][:300]}\n    is not {right[0]} {right[1][:300]}"
    left, right = stored(ours, tenant, now), stored(theirs, tenant, now)
    return differs(left, right)


def smaller(body):
    """Bodies with one piece less."""
    if isinstance(body, dict):
        for key in list(body):
            # An entry without a time gets that of its arrival: it could not be compared again.
            if "imeUnixNano" in key:
                continue
            less = copy.copy(body)
            del less[key]
            yield less
            for inner in smaller(body[key]):
                yield {**body, key: inner}
    elif isinstance(body, list):
        for place, item in enumerate(body):
            yield body[:place] + body[place + 1 :]
            for inner in smaller(item):
                yield body[:place] + [inner] + body[place + 1 :]


def shrunk(ours, theirs, tenants, path, body, now, kind, budget=150):
    """The smallest body found with the same kind of difference."""
    progress = True
    while progress and budget > 0:
        progress = False
        for less in smaller(body):
            budget -= 1
            if budget <= 0:
                break
            found = compared(ours, theirs, next(tenants), path, less, now)
            if found and found[0] == kind:
                body, progress = less, True
                break
    return body


def save(theirs, tenant, path, body, now):
    """Writes a push that was answered or stored otherwise, with Loki's answers."""
    status, _ = sent(theirs, tenant, path, body)
    answer = json.loads(stored(theirs, tenant, now)[1])
    answer["data"].pop("stats", None)
    case = {"path": path, "body": body, "now": now, "status": status, "stored": answer}
    FOUND.mkdir(exist_ok=True)
    number = 1 + max([int(known.stem) for known in FOUND.glob("*.json")], default=0)
    (FOUND / f"{number:04}.json").write_text(json.dumps(case, ensure_ascii=False, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pushes", type=int, default=300)
    parser.add_argument("--most", type=int, default=20, help="stop after this many differences")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--url", help="a server of this repository that demands tenants")
    parser.add_argument("--loki-url", help="a Loki with tenants")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        ours, theirs = peers(options, stack)
        now, told = time.time_ns(), 0
        make = Pushes(random.Random(options.seed), now)
        tenants = (f"p{options.seed}-{now}-{number}" for number in range(10**9))
        for _ in range(options.pushes):
            path, body = make.request()
            found = compared(ours, theirs, next(tenants), path, body, now)
            if not found:
                continue
            told += 1
            body = shrunk(ours, theirs, tenants, path, body, now, found[0])
            found = compared(ours, theirs, next(tenants), path, body, now) or found
            print(f"--- {found[0]}\n{path} {json.dumps(body, ensure_ascii=False)[:1500]}\n    {found[1]}", flush=True)
            if options.save:
                save(theirs, next(tenants), path, body, now)
            if told >= options.most:
                break
        print(f"{told} differences")
        return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
