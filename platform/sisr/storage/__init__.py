"""Runs in object storage: who owns one, what it holds, and how it gets there and back. Knows no torch, and no recipe.

    <address>/<run>/lease.json                             who owns the run, and the number of its ownership: generation
    <address>/<run>/gen-000007/snapshot.json               every file of the run, and the objects it is made of
    <address>/<run>/gen-000007/status.json@1f0c...         such an object: a file, or 16 MiB of it, and its SHA-256
    <address>/<run>/stop                                   the owner wants its workers on other machines to save and end

Objects are never changed; a snapshot is replaced as a whole, by its generation's owner alone. So what is in storage is
always a run as it was at one moment, and an owner that was cut off can't touch what its successor writes.
"""
