"""Floor 2: what exists and who vouches for it.

Lives here: SAMARA_HOME's folders (home), the SQL index (index and its parts index_*, tables, schema, migrations; what
it tells: records, holdings; as a whole: upkeep, backup; several machines on one: stores, store_id, own_rows), the blob
store (store, sweep) and how half files take their room (allocation), the crash order's primitives (durable), HTTP for
what nobody trusts (http/; web: small files by it; registries: whom to ask), and trust/: keys, identities, pins,
catalogs, signatures.

The registry that others use: what it lists (listings, and its queries: listed_publishers, listed_models, listed_blobs,
repositories, block_sharing, swarm_samples, overview; search and its parts search_*, listing_words), what its operator
bars (barred), which bytes strangers get (giving), which names look alike (lookalikes), how all that gets there
(publications/) and is taken down (takedowns), a BitTorrent tracker (tracker/), and all that over HTTP (service/).
pyproject.toml says who imports whom. last_audit is how audit tells whoever watches it.

Must not live here: hashing of models, BitTorrent's transfers. SQLAlchemy, Alembic, tuf, securesystemslib, urllib3 and
the web framework stop here.

Start reading: index.py, then store.py, then trust/__init__.py and http/__init__.py; of the registry listings.py,
publications/__init__.py and service/__init__.py.
"""
