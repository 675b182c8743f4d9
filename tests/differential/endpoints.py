"""What is asked beside queries: labels, series, volumes, statistics, detected fields and labels, and the shape of entries
with `categorize-labels`. Answers in full, over random data, compared with a real Loki.

`LOKI=/path/to/loki python3 -m differential.endpoints --seed 1 --requests 500` (from `tests/`).
"""

import argparse
import contextlib
import itertools
import json
import random
import re
import sys
import time

from . import data
from .compare import differs
from .queries import Queries
from .servers import Question, peers

API = "/loki/api/v1"
CATEGORIZED = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
END = data.START + data.SPAN
TARGETS = ["app", "job", "app,job", "level,missing", "i", "service_name", "detected_level", "app,app"]
FIELDS = ["n", "d", "b", "msg", "level", "detected_level", "trace_id", "app", "status", "a_b", "v", "took", "size", "missing", "_x", "_1st", "code", "job", "g"]
LABELS = ["app", "job", "i", "env", "level", "service_name", "detected_level", "missing", "n", "__name__"]


class Requests:
    """Endless requests: path, parameters, headers."""

    def __init__(self, rng):
        self.rng = rng
        self.queries = Queries(rng)

    def pick(self, choices):
        return self.rng.choice(choices)

    def selector(self):
        return str(self.queries.selector())

    def log(self):
        return self.selector() if self.rng.random() < 0.4 else str(self.queries.log())

    def span(self):
        start = data.START + self.pick([0, 0, 0, 60, 123]) * data.NS + self.pick([0, 0, 1])
        return {"start": start, "end": self.pick([END, END + 1, END - 60 * data.NS, data.START + 300 * data.NS])}

    def make(self):
        kind = self.pick([self.labels, self.values, self.series, self.series, self.volume, self.stats, self.fields, self.fields, self.field_values, self.detected_labels, self.entries, self.entries])
        return kind()

    def labels(self):
        return f"{API}/labels", {**ALL, **self.pick([{}, {"query": self.selector()}])}, {}

    def values(self):
        return f"{API}/label/{self.pick(LABELS)}/values", {**ALL, **self.pick([{}, {"query": self.selector()}])}, {}

    def series(self):
        return f"{API}/series", {**ALL, "match[]": [self.selector() for _ in range(self.pick([1, 1, 2, 3]))]}, {}

    def volume(self):
        params = {"query": self.selector(), **ALL, **self.pick([{}, {"targetLabels": self.pick(TARGETS)}]), **self.pick([{}, {"aggregateBy": self.pick(["labels", "series"])}])}
        return f"{API}/index/volume", params, {}

    def stats(self):
        return f"{API}/index/stats", {"query": self.selector(), **ALL}, {}

    def fields(self):
        return f"{API}/detected_fields", {"query": self.log(), **self.span(), "line_limit": self.pick([1000, 1000, 5]), "limit": 1000}, {}

    def field_values(self):
        return f"{API}/detected_field/{self.pick(FIELDS)}/values", {"query": self.log(), **self.span(), "line_limit": 1000, "limit": 1000}, {}

    def detected_labels(self):
        return f"{API}/detected_labels", {**self.pick([{}, {"query": self.selector()}]), **ALL}, {}

    def entries(self):
        params = {"query": str(self.queries.log()), **self.span(), "limit": 1000, "direction": self.pick(["forward", "backward"])}
        return f"{API}/query_range", params, CATEGORIZED


# Loki's index knows chunks, not entries: only what is asked about all of them is the same everywhere.
ALL = {"start": data.START - data.NS, "end": END + data.NS}


def normal(path, text):
    """The answer without what depends on how entries are stored, and without an order where none is promised."""
    body = json.loads(text)
    if path.endswith("/stats"):
        return {key: body.get(key) for key in ("streams", "entries")}
    found = body.get("data", body) if isinstance(body, dict) else body
    if "/volume" in path:
        return sorted(json.dumps(one["metric"], sort_keys=True) for one in found["result"])
    return ordered(found)


def ordered(found):
    if isinstance(found, dict):
        return {key: value if key == "jsonPath" else ordered(value) for key, value in sorted(found.items())}
    if isinstance(found, list):
        return sorted((ordered(one) for one in found), key=lambda one: json.dumps(one, sort_keys=True))
    return found


def differ(path, params, ours, theirs):
    if path.endswith("/query_range"):
        found = differs(ours, theirs, params["query"])
        return found and f"{found[0]}: {found[1]}"
    if theirs[0] >= 500 and ours[0] >= 400:
        return None
    if ours[0] == 400 and ours[1].startswith("parse error : stage ") and theirs[0] == 200:
        # docs/differences-from-loki.md: with nothing to read, a bad stage passes
        return None
    if ours[0] != theirs[0]:
        return f"{ours[0]} {ours[1][:300]!r}\n    is not {theirs[0]} {theirs[1][:300]!r}"
    if ours[0] != 200:
        return None
    left, right = normal(path, ours[1]), normal(path, theirs[1])
    if left == right:
        return None
    if isinstance(left, list) and isinstance(right, list):
        return f"too much: {[one for one in left if one not in right][:6]}\n    missing: {[one for one in right if one not in left][:6]}"
    return f"{only(left, right)}\n    is not {only(right, left)}"


def only(one, other):
    """What the first has and the second has not, of the fields of an object."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one
    left = {}
    for key, value in one.items():
        if value != other.get(key):
            known = other.get(key)
            left[key] = [item for item in value if not isinstance(known, list) or item not in known] if isinstance(value, list) else value
    return left


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many datasets, from --seed on")
    parser.add_argument("--requests", type=int, default=500, help="for each dataset")
    parser.add_argument("--url", help="a server of this repository that demands tenants")
    parser.add_argument("--loki-url", help="a Loki with tenants")
    options = parser.parse_args()
    told = 0
    with contextlib.ExitStack() as stack:
        ours, theirs = peers(options, stack)
        for seed in range(options.seed, options.seed + options.seeds):
            rng, kinds, tenant = random.Random(seed), set(), f"endpoints-{seed}-{time.time_ns()}"
            streams = data.Data(rng).streams()
            ours.push(tenant, streams)
            theirs.push(tenant, streams)
            make = Requests(rng)
            for path, params, headers in itertools.islice(iter(make.make, None), options.requests):
                question = Question(path, params)
                answers = ours.ask(tenant, question, headers), theirs.ask(tenant, question, headers)
                found = differ(path, params, *answers)
                if not found or (kind := re.sub(r"[\d.]+", "0", path + found)) in kinds:
                    continue
                kinds.add(kind)
                print(f"--- seed {seed}: {path} {params}\n    {found}", flush=True)
            print(f"seed {seed}: {len(kinds)} kinds of difference", flush=True)
            told += len(kinds)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
