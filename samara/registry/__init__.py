"""Floor 2: what exists and who vouches for it.

Lives here: SAMARA_HOME's folders (home), the SQL index (index, tables, schema, migrations), the blob store (store), the
crash order's primitives (durable), and trust/: keys, identities, pins, signatures.

Small files of web servers (web).

Must not live here: hashing of models, BitTorrent. SQLAlchemy, Alembic, tuf and securesystemslib stop here.

Start reading: index.py, then store.py, then trust/__init__.py.
"""
