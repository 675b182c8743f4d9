"""Every endpoint with the parameters people send, right and wrong: statuses, and the words of what is refused.

`LOKI=/path/to/loki python3 -m differential.params --seed 1 --requests 1000` (from `tests/`).
"""

import argparse
import contextlib
import json
import random
import re
import sys

from . import data
from .servers import peers

S = data.START // data.NS
TIMES = [str(S), str(data.START), f"{S}.5", f"{S}.1234567", "2026-01-10T00:00:00Z", "2026-01-10T01:00:00.5+01:00", "2026-01-10", "now", "-1", "0", str(S * 1000), "1e9", "x", "", " ", f"{S + 600}", str(data.START + 600 * data.NS), "99999999999999999999", "0x10", f"{S}s"]
ENDS = [str(S + 600), str(data.START + 600 * data.NS), f"{S + 600}.5", "2026-01-10T00:10:00Z"]
DURATIONS = ["60", "60s", "1m", "1m30s", "0.5", "1.5s", "1h", "1d", "500ms", "0", "-1", "-5m", "x", "", "1e2", "NaN", "5 m", "1m1m", "9999999999", "0s", "1y", "inf", "1us"]
LIMITS = ["1", "10", "0", "-1", "x", "", "1.5", "1e2", "50001", "99999999999999999999", "+5", "05", " 5"]
DIRECTIONS = ["forward", "backward", "FORWARD", "Backward", "up", "", "0", "1"]
LOGS = ['{job="json"}', '{job=~".+"} | json', '{job="number"} |= "n"']
SELECTORS = [*LOGS, "{}", "", "x", '{job=""}', '{job=~".*"}', '{job="json"', "rate({job=\"json\"}[5m])", '{job="json"}&', '{job="nothing"}']
METRICS = ['count_over_time({job="json"}[5m])', "1", "vector(1)", 'sum(rate({job=~".+"}[1m]))']
QUERIES = [*SELECTORS, *METRICS]
ENDPOINTS = {
    "/loki/api/v1/query_range": ("query", ["start", "end", "since", "step", "interval", "limit", "direction"]),
    "/loki/api/v1/query": ("query", ["time", "limit", "direction"]),
    "/loki/api/v1/labels": (None, ["start", "end", "since", "query"]),
    "/loki/api/v1/label": (None, ["start", "end", "since"]),
    "/loki/api/v1/label/app/values": (None, ["start", "end", "since", "query"]),
    "/loki/api/v1/label/a-b/values": (None, ["start", "end"]),
    "/loki/api/v1/series": ("match[]", ["start", "end", "since", "match[]"]),
    "/loki/api/v1/index/stats": ("query", ["start", "end", "since"]),
    "/loki/api/v1/index/volume": ("query", ["start", "end", "since", "limit", "targetLabels", "aggregateBy"]),
    "/loki/api/v1/index/volume_range": ("query", ["start", "end", "since", "step", "limit", "targetLabels", "aggregateBy"]),
    "/loki/api/v1/detected_fields": ("query", ["start", "end", "since", "limit", "line_limit", "step"]),
    "/loki/api/v1/detected_field/n/values": ("query", ["start", "end", "since", "limit", "line_limit"]),
    "/loki/api/v1/detected_labels": ("query", ["start", "end", "since"]),
    "/loki/api/v1/patterns": ("query", ["start", "end", "since", "step"]),
    "/loki/api/v1/format_query": ("query", []),
    "/api/prom/query": ("query", ["start", "end", "since", "limit", "direction", "regexp"]),
    "/api/prom/label": (None, ["start", "end"]),
    "/api/prom/label/app/values": (None, ["start", "end"]),
    "/api/prom/series": ("match[]", ["start", "end"]),
}
VALUES = {"start": TIMES, "end": TIMES, "time": TIMES, "since": DURATIONS, "step": DURATIONS, "interval": DURATIONS, "limit": LIMITS, "line_limit": LIMITS, "direction": DIRECTIONS, "match[]": SELECTORS, "query": QUERIES, "targetLabels": ["app", "app,job", "", "a b", "nothing"], "aggregateBy": ["series", "labels", "x", ""], "regexp": ["a", "(", ""]}  # fmt: skip


def requests_of(rng):
    """Endless (method, path, parameters): mostly one thing is odd."""
    while True:
        path = rng.choice(list(ENDPOINTS))
        required, names = ENDPOINTS[path]
        params = {"start": rng.choice(TIMES[:6]), "end": rng.choice(ENDS)}
        if required and rng.random() < 0.95:
            params[required] = rng.choice(LOGS if rng.random() < 0.7 else VALUES[required])
        for name in rng.sample(names, min(len(names), rng.choice([0, 1, 1, 2]))):
            params[name] = rng.choice(VALUES[name])
        yield rng.choice(["GET", "GET", "POST"]), path, params


def asked(peer, tenant, method, path, params):
    where = {"params": params} if method == "GET" else {"data": params}
    answer = peer.session.request(method, f"{peer.url}{path}", headers={"X-Scope-OrgID": tenant}, timeout=60, **where)
    answer.encoding = "utf-8"
    return answer.status_code, answer.text


def differ(ours, theirs):
    """Why two answers differ; None if they do not. What is answered in full is compared by the other modules."""
    if theirs[0] >= 500 and ours[0] >= 400:
        return None
    theirs = (theirs[0], theirs[1].replace("rpc error: code = Code(400) desc = ", ""))
    if ours[0] != theirs[0]:
        return f"{ours[0]} {ours[1][:200]!r}\n    is not {theirs[0]} {theirs[1][:200]!r}"
    if ours[0] != 200:
        same = ours[1].strip() == theirs[1].strip() or "max_query_lookback" in theirs[1]
        return None if same else f"{ours[1].strip()!r}\n    is not {theirs[1].strip()!r}"
    left, right = shape(ours[1]), shape(theirs[1])
    return None if left == right else f"{left} is not {right}"


def shape(text):
    """The keys of an answer and how much it holds."""
    body = json.loads(text)
    found = body.get("data") if isinstance(body, dict) else body
    if isinstance(found, dict) and "result" in found:
        samples = found["result"] if isinstance(found["result"], list) else []
        return found["resultType"], sorted(json.dumps(one.get("metric") or one.get("stream"), sort_keys=True) + str(len(one.get("values", []))) for one in samples if isinstance(one, dict))
    if isinstance(found, list):
        return len(found)
    return sorted(body) if isinstance(body, dict) else len(body)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--url", help="a server of this repository that demands tenants")
    parser.add_argument("--loki-url", help="a Loki with tenants")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        ours, theirs = peers(options, stack)
        rng, told, tenant = random.Random(options.seed), set(), "params"
        streams = data.Data(rng).streams()
        ours.push(tenant, streams)
        theirs.push(tenant, streams)
        make = requests_of(rng)
        for _ in range(options.requests):
            method, path, params = next(make)
            found = differ(asked(ours, tenant, method, path, params), asked(theirs, tenant, method, path, params))
            if not found or (kind := re.sub(r"[\d.]+", "0", path + found)) in told:
                continue
            told.add(kind)
            print(f"--- {method} {path} {params}\n    {found}", flush=True)
        print(f"{len(told)} kinds of difference")
        return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
