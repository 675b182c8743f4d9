"""Whether two answers are one: nothing is forgiven but the last digits of a number and what Loki leaves to chance."""

import json
import math
import re


def differs(ours, theirs, query=""):
    """Why two answers differ, as (kind, text); None if they do not. An answer is (status, body text)."""
    if forgiven(ours, theirs, query):
        return None
    if ours[0] != theirs[0]:
        return "status", f"status {ours[0]} is not {theirs[0]}: {ours[1][:300]} / {theirs[1][:300]}"
    if ours[0] != 200:
        left, right = error_text(ours[1]), error_text(theirs[1])
        return None if left == right else ("message", f"{left}\n    is not\n    {right}")
    left, right = json.loads(ours[1]), json.loads(theirs[1])
    if sorted(left.get("warnings") or []) != sorted(right.get("warnings") or []):
        return "warnings", f"{left.get('warnings')} is not {right.get('warnings')}"
    left, right = left.get("data"), right.get("data")
    if isinstance(left, str) or isinstance(right, str):
        return None if left == right or plain(left) == plain(right) else ("text", f"{left!r}\n    is not\n    {right!r}")
    if left["resultType"] != right["resultType"]:
        return "type", f"{left['resultType']} is not {right['resultType']}"
    if left["resultType"] == "scalar":
        return None if number_equal(left["result"][1], right["result"][1]) else ("values", f"{left} is not {right}")
    return series_differ(left["result"], right["result"])


def plain(text):
    """A query without what is printed otherwise on purpose: what Loki rounds or leaves out though the meaning changes."""
    text = re.sub(r"([=<>])\d[\d.]*[kKMGTP]?i?B", r"\1size", str(text))
    return re.sub(r"\bby\s*\(\)|\bon\s*\(\)|\bignoring\s*\(\)|group_(left|right)[ ,()\w]*|[()\s]", "", text)


def forgiven(ours, theirs, query):
    """The differences of docs/differences-from-loki.md that a status or a body shows."""
    if theirs[0] >= 500:
        # a mistake that Loki finds only when it evaluates, and the sharded approx_topk it does not do by default
        return ours[0] >= 400 or "approx_topk is not enabled" in theirs[1]
    if ours[0] == 200 and "expecting IDENTIFIER or )" in theirs[1] and re.search(r"group_(left|right) \(", query):
        return True
    # Loki builds the stages of a pipeline when the first chunk is read: with nothing to read, a bad stage passes.
    late = ours[0] == 400 and ours[1].startswith("parse error : stage ") and theirs[0] == 200
    if late and "ip: invalid pattern" in ours[1]:
        return True
    return late and ("absent_over_time" in query or json.loads(theirs[1])["data"].get("result") == [])


def error_text(text):
    """The words without the hint behind them. Which series a failed pipeline names is chance: the first that any of many
    workers comes to."""
    if text.startswith("pipeline error: "):
        return "pipeline error"
    try:
        text = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        pass
    return re.sub(r"\nhint: .*$", "", text).rstrip()


def name(one):
    """The labels as text; what a template or a function of it says when it has made too much is worded differently."""
    text = json.dumps(one.get("metric", one.get("stream")), sort_keys=True, ensure_ascii=False)
    return re.sub(r"the result is longer than \d+ bytes|runtime error: makeslice: len out of range|[^:]*negative Repeat count", "too much", text)


def has_empty_values(series):
    return any(value == "" for one in series for value in one.get("metric", {}).values())


def series_differ(left, right):
    ours, theirs = {name(one): one for one in left}, {name(one): one for one in right}
    if len(ours) != len(left):
        return "labels", "a label set is answered twice"
    if same_but_the_cut(left, right):
        return None
    if ours.keys() != theirs.keys() and has_empty_values([*left, *right]):
        # docs/differences-from-loki.md: sharded queries lose labels without a value
        return None
    if ours.keys() != theirs.keys():
        extra, missing = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
        return "labels", "\n    ".join(["too much:", *extra[:4], "missing:", *missing[:4]])
    for key, one in ours.items():
        other = theirs[key]
        if "stream" in one:
            if one["values"] != other["values"]:
                if same_but_ties(one["values"], other["values"]):
                    continue
                kind = "order" if sorted(one["values"], key=str) == sorted(other["values"], key=str) else "entries"
                return kind, f"{key}\n    {first_difference(one['values'], other['values'])}"
        else:
            mine = one.get("values") or [one["value"]]
            right_ones = other.get("values") or [other["value"]]
            if len(mine) != len(right_ones) or any(a[0] != b[0] or not number_equal(a[1], b[1]) for a, b in zip(mine, right_ones, strict=True)):
                return "values", f"{key}\n    {first_difference(mine, right_ones)}"
    if [name(one) for one in left] != [name(one) for one in right]:
        return "series order", f"{[name(o) for o in left][:6]}\n    is not {[name(o) for o in right][:6]}"
    return None


def same_but_ties(left, right):
    """Entries of several streams at one time come in the order of Loki's hashes of these streams."""
    return [v[0] for v in left] == [v[0] for v in right] and sorted(left, key=str) == sorted(right, key=str)


def same_but_the_cut(left, right):
    """A limit may cut among entries of one time: which of them are answered is up to the order of streams."""
    if not left or not right or "stream" not in left[0] or "stream" not in right[0]:
        return False
    mine, others = ({(name(one), *map(str, value)) for one in side for value in one["values"]} for side in (left, right))
    different = {entry[1] for entry in mine ^ others}
    return len(mine) == len(others) and len(different) == 1 and different <= {f({e[1] for e in mine}) for f in (min, max)}


def first_difference(left, right):
    for place, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return f"[{place}] {a} is not {b}"
    return f"{len(left)} values, not {len(right)}: {left[len(right):][:3]} / {right[len(left):][:3]}"


def number_equal(left, right):
    if not (isinstance(left, str) and isinstance(right, str)):
        return False
    a, b = float(left), float(right)
    return left == right or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-300)
