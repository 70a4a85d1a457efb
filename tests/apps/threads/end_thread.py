"""Ends one thread of another process, as if it had returned: `end_thread.py TID`. By ptrace(2): the thread, which waits in a system call, makes
exit(2) instead. x86-64 only. Ends with 77 where ptrace is not allowed or the machine is another."""

import ctypes
import os
import platform
import sys

ATTACH, DETACH, GET_REGISTERS, SET_REGISTERS = 16, 17, 12, 13
EXIT, SYSCALL_INSTRUCTION_BYTES, ALL_THREADS = 60, 2, 0x40000000
NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs").split()
LEFT_OUT = 77

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in NAMES]


def ptrace(request, thread, data=None):
    if libc.ptrace(request, thread, None, data) == -1:
        print(f"ptrace {request}: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(LEFT_OUT)


if platform.machine() != "x86_64":
    sys.exit(LEFT_OUT)
thread, registers = int(sys.argv[1]), Registers()
ptrace(ATTACH, thread)
os.waitpid(thread, ALL_THREADS)
ptrace(GET_REGISTERS, thread, ctypes.byref(registers))
registers.rip -= SYSCALL_INSTRUCTION_BYTES
registers.rax, registers.rdi, registers.orig_rax = EXIT, 0, 0xFFFFFFFFFFFFFFFF
ptrace(SET_REGISTERS, thread, ctypes.byref(registers))
ptrace(DETACH, thread)
