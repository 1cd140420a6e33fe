"""The protocol's JSON and headers, without input or output: what server and apps say to each other, parsed and built.

The spellings of the protocol (camelCase, header names, opcodes) live here and in the doors of the server; inside, the
words are those of `perdure.model`.
"""
