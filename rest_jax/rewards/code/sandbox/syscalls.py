"""What a candidate may ask of the kernel, by name, and the names' numbers.

Everything that is not in ALLOWED or CONDITIONAL fails with EPERM: fork and
exec, sockets, signals to others, ptrace and its kin, shared memory, mounts,
namespaces, keys, io_uring, bpf, perf, and also what Landlock does not govern
(chmod, chown, utime, extended attributes, file locks).

Numbers: x86-64 from its own table, aarch64 from the generic one; a call that
a machine does not have is None. The aarch64 column was checked by
interpreting the filter, and has not run on such a machine.
"""

# name: (x86-64, aarch64)
ALLOWED = {
  # files: Landlock decides which
  'read': (0, 63),
  'write': (1, 64),
  'open': (2, None),
  'openat': (257, 56),
  'close': (3, 57),
  'close_range': (436, 436),
  'lseek': (8, 62),
  'pread64': (17, 67),
  'pwrite64': (18, 68),
  'readv': (19, 65),
  'writev': (20, 66),
  'preadv': (295, 69),
  'pwritev': (296, 70),
  'fsync': (74, 82),
  'ftruncate': (77, 46),
  'fadvise64': (221, 223),
  'stat': (4, None),
  'fstat': (5, 80),
  'lstat': (6, None),
  'newfstatat': (262, 79),
  'statx': (332, 291),
  'statfs': (137, 43),
  'fstatfs': (138, 44),
  'access': (21, None),
  'faccessat': (269, 48),
  'faccessat2': (439, 439),
  'readlink': (89, None),
  'readlinkat': (267, 78),
  'getdents': (78, None),
  'getdents64': (217, 61),
  'getcwd': (79, 17),
  'chdir': (80, 49),
  'fchdir': (81, 50),
  'umask': (95, 166),
  'dup': (32, 23),
  'dup2': (33, None),
  'dup3': (292, 24),
  'pipe': (22, None),
  'pipe2': (293, 59),
  # memory
  'mmap': (9, 222),
  'mprotect': (10, 226),
  'munmap': (11, 215),
  'mremap': (25, 216),
  'msync': (26, 227),
  'madvise': (28, 233),
  'brk': (12, 214),
  'membarrier': (324, 283),
  # threads, and waiting
  'futex': (202, 98),
  'futex_waitv': (449, 449),
  'set_robust_list': (273, 99),
  'set_tid_address': (218, 96),
  'rseq': (334, 293),
  'gettid': (186, 178),
  'sched_yield': (24, 124),
  'sched_getaffinity': (204, 123),
  'sched_getparam': (143, 121),
  'sched_getscheduler': (145, 120),
  'sched_get_priority_max': (146, 125),
  'sched_get_priority_min': (147, 126),
  'getcpu': (309, 168),
  'exit': (60, 93),
  'exit_group': (231, 94),
  'wait4': (61, 260),
  'waitid': (247, 95),
  'poll': (7, None),
  'ppoll': (271, 73),
  'select': (23, None),
  'pselect6': (270, 72),
  'epoll_create': (213, None),
  'epoll_create1': (291, 20),
  'epoll_ctl': (233, 21),
  'epoll_wait': (232, None),
  'epoll_pwait': (281, 22),
  'epoll_pwait2': (441, 441),
  'eventfd2': (290, 19),
  # a socketpair, which asyncio's loop wakes itself with
  'recvfrom': (45, 207),
  'shutdown': (48, 210),
  'getsockname': (51, 204),
  'getpeername': (52, 205),
  # signals of its own
  'rt_sigaction': (13, 134),
  'rt_sigprocmask': (14, 135),
  'rt_sigreturn': (15, 139),
  'rt_sigpending': (127, 136),
  'rt_sigtimedwait': (128, 137),
  'rt_sigsuspend': (130, 133),
  'sigaltstack': (131, 132),
  'pause': (34, None),
  'alarm': (37, None),
  'getitimer': (36, 102),
  'setitimer': (38, 103),
  'restart_syscall': (219, 128),
  # time
  'time': (201, None),
  'gettimeofday': (96, 169),
  'clock_gettime': (228, 113),
  'clock_getres': (229, 114),
  'clock_nanosleep': (230, 115),
  'nanosleep': (35, 101),
  'times': (100, 153),
  # about itself
  'getpid': (39, 172),
  'getppid': (110, 173),
  'getuid': (102, 174),
  'geteuid': (107, 175),
  'getgid': (104, 176),
  'getegid': (108, 177),
  'getgroups': (115, 158),
  'getresuid': (118, 148),
  'getresgid': (120, 150),
  'getpgrp': (111, None),
  'getpgid': (121, 155),
  'getsid': (124, 156),
  'getpriority': (140, 141),
  'getrlimit': (97, 163),
  'setrlimit': (160, 164),
  'getrusage': (98, 165),
  'sysinfo': (99, 179),
  'uname': (63, 160),
  'getrandom': (318, 278),
}

_WORD = 0xFFFFFFFF
_CLONE_THREAD = 0x10000
# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_CLONE_NEW = 0x80 | 0x20000 | 0x2000000 | 0x4000000
_CLONE_NEW |= 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000

# Allowed where every (argument, mask, values) holds: argument & mask, an
# unsigned number of 64 bits, is one of the values.
CONDITIONAL = {
  # threads, and nothing else; no new namespace
  'clone': (
    (56, 220),
    [(0, _CLONE_THREAD | _CLONE_NEW, [_CLONE_THREAD])],
  ),
  # F_DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC, GETPIPE_SZ: not
  # F_SETOWN and F_SETSIG (signals to others), SETPIPE_SZ, locks, seals
  'fcntl': ((72, 25), [(1, _WORD, [0, 1, 2, 3, 4, 1030, 1032])]),
  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
  'ioctl': (
    (16, 29),
    [(1, _WORD, [0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451])],
  ),
  # AF_UNIX and SOCK_STREAM: with a datagram one, sendto could name a socket
  'socketpair': (
    (53, 199),
    [(0, _WORD, [1]), (1, 0xFFFFFFFF & ~0o2004000, [1])],
  ),
  'sendto': ((44, 206), [(4, None, [0])]),  # to no address
  'getsockopt': ((55, 209), [(1, _WORD, [1])]),  # SOL_SOCKET
  'prctl': ((157, 167), [(0, _WORD, [15, 16])]),  # PR_SET_NAME, PR_GET_NAME
  'prlimit64': ((302, 261), [(0, _WORD, [0])]),  # of itself
}

# glibc goes back to an older call where a newer one does not exist, but not
# where it is forbidden.
MISSING = {'clone3': (435, 435)}
FIRST_UNKNOWN = 450  # and all above, of which nothing is known here
