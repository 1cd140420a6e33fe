"""The engine decides.

Every decision is a generator over plain data: it yields `Read`s and receives rows, yields mutations and receives
nothing, and returns its result. It does no I/O and knows no clock and no randomness: a store drives it inside one
transaction, and `Turn` hands it time, ids and chance. The same decision therefore runs on SQLite, on another
database, or against a table of answers in a test.
"""
