"""Floor 4: getting, and proving.

Lives here: what was meant (resolve) and whom to ask for it (catalogs, finder, forks, first_contact), what to do (plan),
one blob's way (transfer) and what survives a kill (partial), the loop over all of it (pull, session, watch, sources),
releases on a stick (bundle_*), reading blocks again (blocks, verify), and audit's rules and facts.

Must not live here: libtorrent's objects, printing, the engine.

Start reading: pull.py, then transfer.py; the crash order is in transfer.py and partial.py.
"""
