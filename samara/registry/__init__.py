"""Floor 2: what exists and who vouches for it.

Lives here: SAMARA_HOME's folders (home), the SQL index (index and its parts index_*, tables, schema, migrations), the
blob store (store) and how half files take their room (allocation), the crash order's primitives (durable), HTTP for
what nobody trusts (http/; web: small files by it), and trust/: keys, identities, pins, catalogs, signatures.

Must not live here: hashing of models, BitTorrent. SQLAlchemy, Alembic, tuf, securesystemslib and urllib3 stop here.

Start reading: index.py, then store.py, then trust/__init__.py and http/__init__.py.
"""
