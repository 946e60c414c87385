"""What a store must have: under each name, one of the digests that it may stand for by now."""


class Ledger:
    """Of one store. A name belongs to one thread, which is the only one to change it."""

    def __init__(self):
        self.allowed = {}

    def may(self, name, digest):
        """A command has begun that puts this, or, with None, takes the name away."""
        self.allowed[name] = self.allowed.get(name, frozenset([None])) | {digest}

    def must(self, name, digest):
        """It said that it is done."""
        self.allowed[name] = frozenset([digest])

    def settle(self, name, found):
        """What is there counts from now on; a fault, or None."""
        allowed = self.allowed.get(name, frozenset([None]))
        if found not in allowed:
            return f"{name} is {found}, not {' or '.join(map(str, allowed))}"
        self.allowed[name] = frozenset([found])
        return None

    def has(self, name):
        """The digest of a name that was settled, or None."""
        digest, = self.allowed.get(name, frozenset([None]))
        return digest

    def names(self):
        return [name for name, allowed in list(self.allowed.items()) if allowed != {None}]
