"""From a difference to the smallest one like it: less query, then fewer and plainer entries."""

from .compare import differs
from .data import regrouped


class Shrinker:
    """Asks both peers again and again; `tenant()` gives a fresh tenant name."""

    def __init__(self, ours, theirs, tenant, budget=250):
        self.ours, self.theirs, self.tenant, self.budget = ours, theirs, tenant, budget

    def differ(self, tenant, question):
        return differs(self.ours.ask(tenant, question), self.theirs.ask(tenant, question), question.params["query"])

    def shrink(self, kind, tenant, streams, question, tree):
        """The smallest (streams, question) found that still differs in the same way."""
        tree = self.query(kind, tenant, question, tree)
        question = question.with_query(str(tree))
        streams = self.streams(kind, streams, question)
        return streams, question

    def query(self, kind, tenant, question, tree):
        progress = True
        while progress and self.budget > 0:
            progress = False
            for less in tree.smaller():
                text = str(less)
                if len(text) >= len(str(tree)) or self.budget <= 0:
                    continue
                self.budget -= 1
                found = self.differ(tenant, question.with_query(text))
                if found and found[0] == kind:
                    tree, progress = less, True
                    break
        return tree

    def streams(self, kind, streams, question):
        flat = [(s.labels, entry) for s in streams for entry in s.entries]
        size = max(1, len(flat) // 2)
        while size and self.budget > 0:
            at, cut = 0, False
            while at < len(flat) and len(flat) > 1 and self.budget > 0:
                less = flat[:at] + flat[at + size :]
                self.budget -= 1
                if less and self.still(kind, regrouped(less), question):
                    flat, cut = less, True
                else:
                    at += size
            size = size // 2 if not cut or size > len(flat) else size
        return regrouped(flat)

    def still(self, kind, streams, question):
        tenant = self.tenant()
        self.ours.push(tenant, streams)
        self.theirs.push(tenant, streams)
        found = self.differ(tenant, question)
        return found is not None and found[0] == kind
