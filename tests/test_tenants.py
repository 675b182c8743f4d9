"""Queries over several tenants: what each owns counts, also where it is equal."""

import time

import requests
from support import NS


def test_equal_entries_of_two_tenants_are_two(serve):
    server = serve(None, "--tenants-required", "true")
    start = int(time.time()) - 60
    entries = [[str((start + n) * NS), f"worker {n} finished step {n} in {n}ms"] for n in range(40)]
    body = {"streams": [{"stream": {"job": "a"}, "values": entries}]}
    for tenant in ("one", "two"):
        # Twice, as a client does whose first answer was lost: one entry for each tenant.
        for _ in range(2):
            url = f"{server.url}/loki/api/v1/push"
            assert requests.post(url, json=body, headers={"X-Scope-OrgID": tenant}, timeout=10).status_code == 204

    def ask(path, tenants="one|two", **params):
        url = f"{server.url}/loki/api/v1/{path}"
        answer = requests.get(url, params=params, headers={"X-Scope-OrgID": tenants}, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    query = 'sum(count_over_time({job="a"}[5m]))'
    count = ask("query", query=query, time=start + 60)["data"]["result"][0]["value"][1]
    assert count == "80"
    by_tenant = ask("query", query='sum by (__tenant_id__) (count_over_time({job="a"}[5m]))', time=start + 60)
    assert [s["value"][1] for s in by_tenant["data"]["result"]] == ["40", "40"]
    span = {"start": start - 60, "end": start + 120, "step": 600}
    patterns = ask("patterns", query='{job="a"}', **span)["data"]
    assert [p["pattern"] for p in patterns] == ["worker <_> finished step <_> in <_>"]
    assert sum(count for _, count in patterns[0]["samples"]) == 80
    assert ask("index/stats", query='{job="a"}', start=start - 60, end=start + 120)["streams"] == 2
    alone = ask("patterns", "two", query='{job="a"}', **span)["data"]
    assert sum(count for _, count in alone[0]["samples"]) == 40
