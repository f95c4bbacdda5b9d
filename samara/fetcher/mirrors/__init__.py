"""Bytes from HTTP mirrors: who fetches which pieces of a blob, at the same time as the swarm does.

    board        which pieces are missing, and who is at them (pure)
    piece        one piece held against the torrent's hash, and the evidence when it is wrong (pure)
    spans        who gets how much, and what the idle take from the slow (pure)
    blob         one blob's mirrors, board, tasks and beginnings of pieces (pure)
    verdicts     what answers and failures say of a mirror, and what is told of it (pure)
    handing_out  which mirror an idle connection asks, and for which pieces (decides, does nothing)
    worker       one connection in a thread of its own: a span of pieces from one URL, each proven, then handed on
    crew         all workers and the one box for what they say
    pool         all of it together: hand-overs, bans, new work (one thread calls it)
    direct       takes the place of the swarm where no peers are wanted: writes proven pieces itself

Must not live here: HTTP itself (`samara.registry.http`), what a score is (`samara.fetcher.scores`), crash order
(`samara.fetcher.data_file`). Start reading: pool.py.
"""
