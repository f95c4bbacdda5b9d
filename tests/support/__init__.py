"""Real parts for tests of the main job: releases, homes, seeders, liars, mirrors, `samara` processes. No test in here.

    world       blobs, homes, publishing; what a home must look like when nothing is left over
    swarms      seeders and liars as libtorrent sessions in this process
    pulls       one pull in a thread of this process
    processes   `samara` as a process of its own, read line by line
    mounts      disks of a test's own: small, full, read-only
    kills       SIGKILL at a step, for processes that die in the middle of their work
    mirrors     an HTTP server with ranges that can lie, refuse or stop early

Everything that waits takes a limit and fails with what it has seen so far; nothing sleeps. Loopback addresses only.
"""
