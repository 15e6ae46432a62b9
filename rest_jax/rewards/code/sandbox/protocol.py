"""The messages between the supervisor and its fork-server, and their meaning.

Fixed structures over a SOCK_SEQPACKET pair, with descriptors beside them; a
program's text never passes through the server.
"""

import struct

SPAWN, KILL, KILL_ASLEEP = 1, 2, 3
# kind, number, CPU seconds, wall seconds, bytes of memory, bytes of a file
REQUEST = struct.Struct('=BIddQQ')
# number, wait status, CPU seconds, peak memory in KiB, killed (0, or one of
# those below)
REPORT = struct.Struct('=IidQB')
# number of a process past its wall limit, its age in seconds, CPU seconds of
# all that run, their share of a core lately; their pidfds lie beside it.
# Answered by KILL_ASLEEP or by nothing.
QUESTION = struct.Struct('=Iddd')
MOST_DESCRIPTORS = 6  # beside one message
KILLED_BY_WALL, KILLED_BY_REQUEST, KILLED_BY_CPU = 1, 2, 3

# What a child is to do; the first item of its payload.
PROGRAM = 'program'  # run the source as a script
CALL = 'call'  # load it, call one function, write the result
SERVE = 'serve'  # load it, answer requests until the other side ends
JUDGE = 'judge'  # run test source; what it does not define is elsewhere

# What a judge, or a call, writes.
RETURNED, RAISED, ABSENT = 'returned', 'raised', 'absent'
REQUEST_TAG = 'request'  # between candidate and judge: anything else is a reply
PASSED, FAILED, LOST, BROKEN = 'passed', 'failed', 'lost', 'broken'

CHANNEL_FD, RESULT_FD = 3, 4
