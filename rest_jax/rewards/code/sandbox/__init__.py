"""Runs programs that a language model wrote, as if they were hostile.

A candidate is Python source that runs in a process of its own, forked from a
small server that has never seen a test, an expected output or another
candidate. What goes in is the program and one input; what comes out is bytes.
They are judged elsewhere.

Covered, in both tiers: reading anything but the interpreter's own libraries;
writing any file; making processes, sockets, shared memory; signals to, or
tracing of, other processes; endless loops, sleep, output, memory, threads,
recursion; the address space of whoever decides.

Not covered: bugs of the kernel in the system calls that are allowed
(seccomp.py lists them); side channels; what the interpreter's libraries hold.
In tier B also: whether a path exists, and its size (stat is no access that
Landlock governs). docs/sandbox.md has the whole list, and what each
deployment needs.

  trusted, in the caller's process          supervisor.py, executions.py,
                                            starvation.py, codec.py, probe.py
  the server, before and between programs   server.py, namespaces.py,
                                            privileges.py, landlock.py
  the forked child                          child.py, seccomp.py
    of a program                            candidate.py, remote_objects.py
    of trusted test source                  judge.py, handles.py,
                                            shared_objects.py
    of both                                 channel.py, arguments.py,
                                            known_types.py, raised_errors.py
"""
