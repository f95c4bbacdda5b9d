"""The registry as an HTTP service: an ASGI application that lists, serves and mirrors what publishers prove to it.

Holds no power: whatever it answers, clients check by themselves; what comes in, `samara.registry.publications` proves.
FastAPI, Starlette, uvicorn, Jinja2, prometheus_client and segno stop here.

    service      what every route shares: index, settings, ports to the rooms above
    settings     what the operator decides
    app          the application: routes in their order, middleware, errors
    guard        before every route: addresses, rates (limits), bodies; observe: numbers, counts (metrics), lines (logs)
    problems     errors as problem+json; openapi: the document that tells of them; heads: HEAD wherever there is GET
    api_*        /v1: search and models (model_views), publishers, publish, blobs and manifests
    blob_files   bytes of blobs, also for the other routes: byte_ranges, codings, downloads, sending
    manifests    parsed once; kept: what else is made once
    tracker      /announce and /scrape over samara.registry.tracker
    hub          what clients of the Hub expect
    pages        what people see
    operations   /healthz, /readyz, /metrics
    server       uvicorn, and what it lacks: sendfile (wire_files), bounds on slow clients (wire, wire_limits)

Fetching is done in the room `fetcher`: it comes in through `ports`. Start reading: service.py, then app.py.
"""
