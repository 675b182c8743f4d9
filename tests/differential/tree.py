"""Texts with structure: what is generated can be made smaller without ceasing to be well formed."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Node:
    """A piece of text made of pieces. Two nodes of one sort may stand for each other; an optional one may be absent."""

    sort: str
    parts: tuple
    optional: bool = False

    def __str__(self):
        return "".join(map(str, self.parts))

    def nodes(self):
        return [part for part in self.parts if isinstance(part, Node)]

    def descendants(self, sort):
        """The nearest nodes of a sort below this one."""
        for child in self.nodes():
            if child.sort == sort:
                yield child
            else:
                yield from child.descendants(sort)

    def smaller(self):
        """Trees with one piece less, the largest cuts first."""
        yield from self.descendants(self.sort)
        for place, part in enumerate(self.parts):
            if isinstance(part, Node) and part.optional:
                yield self.with_part(place, None)
        for place, part in enumerate(self.parts):
            if isinstance(part, Node):
                for less in part.smaller():
                    yield self.with_part(place, dataclasses.replace(less, optional=part.optional))

    def with_part(self, place, part):
        replaced = () if part is None else (part,)
        return dataclasses.replace(self, parts=self.parts[:place] + replaced + self.parts[place + 1 :])


def node(sort, *parts):
    return Node(sort, parts)


def optional(sort, *parts):
    return Node(sort, parts, optional=True)


def joined(separator, nodes):
    """Nodes with a separator between them, as parts; each but the first may be absent together with its separator."""
    nodes = list(nodes)
    rest = [optional("rest", separator, one) for one in nodes[1:]]
    return nodes[:1] + rest
