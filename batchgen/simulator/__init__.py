"""A video service imitated over real HTTP: offline, free, in compressed time, with faults on demand.

    async with serve(Simulation(speed=60)) as base_url: ...
    batchgen simulate --port 0 --speed 60 --ledger simulator.db

One package per imitated service, such as `aimlapi/`, holds that service's API: paths, wire format, status words,
prices. All else is shared and knows no API. A request passes these modules:

- `server.py` has the socket, the routes, and the control endpoints that replace faults and read the ledger;
  `connection.py` can cut a TCP connection at any byte.
- `calls.py` checks the key and the rate limit of every request, and records it in the ledger.
- The API's handler reads the request. `service.py` decides: limits, price, how long the generation takes.
- `ledger.py` stores generations and requests in SQLite: what a test holds a client's own books against.
- `file_server.py` serves the finished videos behind signed URLs; `clips.py` keeps them as files, and `rendering.py`
  makes them.
- `faults.py` lists what can go wrong on purpose, and draws it from a seed.
"""
