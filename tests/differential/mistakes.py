"""Queries with mistakes in them: what people mistype, and what no grammar allows."""

import re

TOKENS = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|[\w.]+|[=!|<>~]{1,2}|\s+|.', re.S)
STRAY = ["|", "=", "==", "!", "{", "}", "(", ")", "[", "]", "[5m]", ",", '"x"', "`", '"', "5", "5s", "5kb", "by", "on", "bool", "offset", "offset 5m", "and", "or", "json", "logfmt", "unwrap", "rate", "sum", "ip(", "--strict", "--bad", "'a'", "a", "a-b", "ä", "é=1", "vector(1)", "=~", "!~", "|=", "|>", "!>", "-", "+", "@", ":", ";", "\\", "0x1F", "1_0", "1e", ".", "#c\n", "/*", "//", "$__interval", "[$__range]", "@ end()", "🙂", "\x00", "1h", "5M", "9EB", "inf", "NaN", "group_left"]
WHOLE = [
    "", " ", "{", "}", "{}", "{a}", "{a=}", "{a=1}", "{a='x'}", '{a="x"', '{a="x",}', '{"a"="x"}', '{a="x" b="y"}', '{a="x"} |', '{a="x"} | |', '{a="x"} |= ', '{a="x"} |= x',
    '{a=~"("}', '{a=~"(?=x)"}', '{a=~".*"}', '{a=""}', '{a!="x"}', '{a="x"} |~ "("', '{a="x"} |~ "a{1001}"', '{a="x"} | regexp "(?P<x"', '{a="x"} | regexp "x"', '{a="x"} | pattern "x"',
    '{a="x"} | pattern "<a><b>"', '{a="x"} | pattern "<a> <a>"', '{a="x"} |> "<a>"', '{a="x"} | json a="["', '{a="x"} | json a=b', '{a="x"} | logfmt a', '{a="x"} | logfmt --x', '{a="x"} | unpack a',
    '{a="x"} | line_format "{{"', '{a="x"} | line_format "{{.a"', '{a="x"} | line_format "{{nosuch}}"', '{a="x"} | line_format x', '{a="x"} | label_format a', '{a="x"} | label_format a=b,a=c', '{a="x"} | label_format __error__=a',
    '{a="x"} | label_format a="{{"', '{a="x"} | drop', '{a="x"} | keep a=', '{a="x"} | a', '{a="x"} | a=', '{a="x"} | a > "5"', '{a="x"} | a == "5"', '{a="x"} | a =~ 5', '{a="x"} | a > 5x', '{a="x"} | a > ip("1.1.1.1")',
    '{a="x"} | a=ip("x")', '{a="x"} |~ ip("1.1.1.1")', '{a="x"} |= ip("x")', '{a="x"} | unwrap b', "rate()", 'rate({a="x"})', 'rate({a="x"}[])', 'rate({a="x"}[5])', 'rate({a="x"}[5m)', 'rate({a="x"}[1.5m])', 'rate({a="x"}[5m] [5m])',
    'rate({a="x"}[5m] offset)', 'rate({a="x"}[5m] offset 5)', 'rate({a="x"}[5m] offset 1m offset 1m)', 'rate({a="x"}[5m]) offset 5m', 'rate({a="x"}[5m]) by (a)', 'rate(0.5, {a="x"}[5m])', 'rate({a="x"}[5m] @ 1)', 'rate({a="x"}[0s])', 'rate({a="x"}[-5m])',
    'rate({a="x"}[5m:1m])', 'sum_over_time({a="x"}[5m])', 'count_over_time({a="x"} | unwrap b [5m])', 'quantile_over_time({a="x"} | unwrap b [5m])', 'quantile_over_time("x", {a="x"} | unwrap b [5m])', 'sum_over_time({a="x"} | unwrap b [5m]) by (a)',
    'rate({a="x"} | unwrap foo(b) [5m])', 'rate({a="x"} | unwrap b | json [5m])', 'rate({a="x"} | unwrap b | unwrap c [5m])', "sum()", 'sum({a="x"})', 'sum(rate({a="x"}[5m])', 'sum by a (rate({a="x"}[5m]))', 'sum by (a,) (rate({a="x"}[5m]))',
    'sum by (a) (rate({a="x"}[5m])) by (b)', 'sum(3, rate({a="x"}[5m]))', 'topk(rate({a="x"}[5m]))', 'topk(0, rate({a="x"}[5m]))', 'topk(-1, rate({a="x"}[5m]))', 'topk(1.5, rate({a="x"}[5m]))', 'topk(x, rate({a="x"}[5m]))', 'sort by (a) (rate({a="x"}[5m]))',
    'approx_topk(3, rate({a="x"}[5m])) by (a)', "sum(1)", "1 +", "+ 1", "1 + {", '1 + {a="x"}', '{a="x"} + {a="x"}', "1 or 2", 'rate({a="x"}[5m]) or 1', '1 and rate({a="x"}[5m])', 'rate({a="x"}[5m]) + on a rate({a="x"}[5m])',
    'rate({a="x"}[5m]) + group_left rate({a="x"}[5m])', 'rate({a="x"}[5m]) and on(a) group_left rate({a="x"}[5m])', 'rate({a="x"}[5m]) + bool 1', 'rate({a="x"}[5m]) == bool bool 1', "vector()", "vector(x)", 'vector("1")', "vector(vector(1))", "label_replace()",
    'label_replace(rate({a="x"}[5m]), "a", "b", "c")', 'label_replace(rate({a="x"}[5m]), "a", "b", "c", "(")', 'label_replace({a="x"}, "a", "b", "c", "d")', "foo(1)", 'increase({a="x"}[5m])', 'count_values("a", rate({a="x"}[5m]))', "1 == 2 == 3", "-vector(1)", "!{a=\"x\"}",
    '{a="x"} != ', '{a="\\q"}', '{a="\\xff"}', '{a="x"} |= "a" or', '{a="x"} |= or "a"', '{a="x"} |= "a" and "b"', '{a="x"} | a="b" or', '{a="x"} | (a="b"', '{a="x"} | a="b" and and c="d"', '({a="x"}', '({a="x"}) |= "a"', '{a="x"}}', '{a="x"}[5m]', '{a="x"} [5m] | json',
    "rate", "sum", "by", "rate{", '{rate="x"}', '{by="x"}', '{a="x"} | by="x"', '{a.b="x"}', '{a-b="x"}', '{1a="x"}', "{ä=\"x\"}", '{a="x"} | ä="x"', '{a="x"} | json | | logfmt', '{a="x"} |json|', '{a="x"} | decolorize x', "0x1F", "1_000", "1e", "1.2.3", "5m", "5KB", '"x"', "`x", '"x',
]  # fmt: skip


class Mistakes:
    """Makes invalid queries out of valid ones (a few stay valid: these are asked too)."""

    def __init__(self, rng):
        self.rng = rng

    def whole(self):
        return self.rng.choice(WHOLE)

    def of(self, query):
        tokens = TOKENS.findall(query)
        for _ in range(self.rng.choice([1, 1, 1, 2])):
            at = self.rng.randrange(len(tokens) + 1)
            change = self.rng.randrange(5)
            if change == 0:
                del tokens[at : at + 1]
            elif change == 1:
                tokens.insert(at, self.rng.choice(STRAY))
            elif change == 2:
                tokens[at : at + 1] = [self.rng.choice(STRAY)]
            elif change == 3:
                tokens[at : at + 2] = reversed(tokens[at : at + 2])
            else:
                del tokens[at:]
        return "".join(tokens)
