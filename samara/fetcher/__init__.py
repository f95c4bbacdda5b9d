"""Floor 4: getting, and proving.

Lives here: what was meant (resolve; held: what is here, names: by asking others) and whom to ask for it (catalogs,
finder, forks, first_contact); a pull from end to end (pull, options), its connections (session), its loop (fetching,
watch, control) and threads; one blob's way (transfer, over a carrier: the swarm, or mirrors/ alone; what is here and
proven: blob_progress, its file and crash order: data_file, who lied: blame), what survives a kill (partial), what
follows an arrival (arrivals) and the names of what is whole (showing); what to do (plan) and what need not be fetched
(gather, reuse, adopt); sources judged (scores, governor, sources) and noted (contacts, recording, explain); what is
handed on early (stream, fit). Mending (repair, in_place), releases on a stick (bundle_*) and for other programs
(export), reading blocks again (blocks, verify), what differs (diff), what else is needed (companions), audit's rules
and facts, and tidying up (housekeeping, space_facts, clean).

What a registry fetches by itself: providing puts together mirroring and pull_through over one intake (its thread:
intake_loop, intake_seeds; one blob's: intake_blob; what readers see: coming; what a blob is: descriptions, and whose
word is tried first: description_turns), within bounds (keeping, keeping_rules, kept).

Must not live here: libtorrent's objects, printing, the engine.

Start reading: pull.py, then fetching.py and transfer.py; the crash order is in data_file.py and partial.py.
"""
