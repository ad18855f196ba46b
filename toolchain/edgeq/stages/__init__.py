"""The verbs of the command line: each reads the records of the one before and writes the next.

They live in a package of their own, as ``edgeq.stages.build`` and the like are the
functions of the public interface.
"""
