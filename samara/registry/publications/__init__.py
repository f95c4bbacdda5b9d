"""How a publication gets into a registry: proven by the TUF workflow, whole or not at all. Serves no HTTP.

    accept        the way in: everything proven, then one transaction
    judge         is this catalog its publisher's next one? Keeps nothing
    claims        whose is a name? Keeps nothing
    mirrors       that mirrors don't lead into private networks
    refusals      why not: one error with a reason
    listing_rows  what a catalog's names mean, as rows
    accepted      the catalogs that got in, proven again whenever they are read
    own, sync     what comes in by that door beside what is pushed: this machine's own, another registry's
    upstream      that other registry as it answers, bounded; following: again and again (follow_status: how it stands)

Start reading: accept.py.
"""
