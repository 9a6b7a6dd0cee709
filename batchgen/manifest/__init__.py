"""Reads manifests: YAML text → nodes → header and limits → entries → expansion → requests → JobSpecs.

A chain of modules, each a step: `source` (text and positions), `nodes` (YAML, one job at a time), `header` and `limits`
(pydantic models), `expansion` and `rows` (one entry, many jobs), `entry`, `job_builder` and `request` (templates filled
in, parameters checked), `job_list` (the jobs, and what no two may share). `reader` runs the chain; `diagnostics`
collects what is wrong, with its position. Pure: no database, no network; only local files are read.
"""
