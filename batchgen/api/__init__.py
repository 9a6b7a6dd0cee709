"""The Python API, and the composition root: a manifest → its job table → its service → a run → its result.

`batchgen.run("m.yaml", max_cost=50)` does what `batchgen run m.yaml --max-cost 50` does; the command line is a shell
over this package. Everything here raises the errors of `batchgen.errors`, and prints nothing. Each function has a
module of its own, so that `status` does not wait for what a run needs.
"""
