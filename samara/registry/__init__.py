"""Floor 2: what exists and who vouches for it.

Lives here: SAMARA_HOME's folders (home), the SQL index (index and its parts index_*, tables, schema, migrations; as a
whole: upkeep, backup), the blob store (store) and how half files take their room (allocation), the crash order's
primitives (durable), HTTP for what nobody trusts (http/; web: small files by it; registries: whom to ask), and trust/:
keys, identities, pins, catalogs, signatures.

The registry that others use: what it lists (listings, and its queries: listed_publishers, listed_blobs, repositories,
block_sharing, swarm_samples, overview; search and its parts search_*, listing_words), how it gets there
(publications/), a BitTorrent tracker (tracker/), and all that over HTTP (service/). These import each other in this
order only. last_audit is how audit tells whoever watches it.

Must not live here: hashing of models, BitTorrent's transfers. SQLAlchemy, Alembic, tuf, securesystemslib, urllib3 and
the web framework stop here.

Start reading: index.py, then store.py, then trust/__init__.py and http/__init__.py; of the registry listings.py,
publications/__init__.py and service/__init__.py.
"""
