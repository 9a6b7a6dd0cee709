"""A video service imitated over real HTTP: offline, free, in compressed time, with faults on demand.

    async with serve(Simulation(speed=60)) as base_url: ...
    batchgen simulate --port 0 --speed 60 --ledger simulator.db

One package per imitated service, such as `aimlapi/`, holds that service's API: paths, wire format, status words,
prices. All else is shared and knows no API. A request passes `server.py`, `calls.py` and the API's handler;
`service.py` decides what becomes of it, and `ledger.py` has what a test holds a client's own books against.
"""
