"""Floor 4: getting, and proving.

Lives here: what was meant (resolve; held: what is here, names: by asking others) and whom to ask for it (catalogs,
finder, forks, first_contact), what to do (plan) and what need not be fetched (gather, reuse, adopt), one blob's way
(transfer) and what survives a kill (partial), the loop over all of it (pull, session, watch, sources), mending (repair,
in_place), releases on a stick (bundle_*) and for other programs (export), reading blocks again (blocks, verify), what
differs (diff), audit's rules and facts, and tidying up (housekeeping, space_facts, clean).

Must not live here: libtorrent's objects, printing, the engine.

Start reading: pull.py, then transfer.py; the crash order is in transfer.py and partial.py.
"""
