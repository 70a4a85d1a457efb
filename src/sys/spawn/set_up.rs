//! The new process's side of a spawn, from fork to execve. Only async-signal-safe calls on memory that was allocated before: other threads
//! of the supervisor may have held the allocator's lock when it forked.

use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use super::{FIRST_FD, PID_DIGITS, Prepared};
use crate::sys::standing::{MAX_GROUPS, Person, Standing};

/// Steps that can fail, by the numbers the new process reports.
pub(super) const STEPS: [&str; 10] = [
    "",
    "the supervisor ended",
    "the working directory",
    "passing descriptors",
    "execve",
    "setting a limit",
    "becoming the user",
    "giving up capabilities",
    "what the process is after becoming the user is not what was asked for",
    "setting no_new_privs",
];
const PARENT: u8 = 1;
pub(super) const CHDIR: u8 = 2;
const DESCRIPTORS: u8 = 3;
pub(super) const EXECVE: u8 = 4;
const LIMIT: u8 = 5;
const PERSON: u8 = 6;
const CAPABILITIES: u8 = 7;
const VERIFIED: u8 = 8;
const NO_NEW_PRIVS: u8 = 9;

/// _LINUX_CAPABILITY_VERSION_3 (capget(2)).
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Beyond the last capability of any kernel so far; the kernel answers EINVAL from its own last one on.
const CAPABILITIES_MAX: libc::c_int = 64;

/// The right to ports below 1024 (capabilities(7)).
const CAP_NET_BIND_SERVICE: libc::c_ulong = 10;

/// The header of capget(2) and capset(2).
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// Effective, permitted and inheritable, in two halves.
type Capabilities = [[u32; 3]; 2];

/// The child's side. Tells the errno through `failed` when execve does not happen.
#[expect(unsafe_code, reason = "system calls between fork and execve")]
pub(super) unsafe fn become_program(
    prepared: &Prepared,
    argv: &[*const libc::c_char],
    env: &[*mut libc::c_char],
    failed: RawFd,
) -> ! {
    // SAFETY: only async-signal-safe calls; descriptors and pointers are valid as the caller promises.
    unsafe {
        let failed = libc::fcntl(failed, libc::F_DUPFD_CLOEXEC, prepared.above);
        let mut step = set_up(prepared, env);
        if step == 0 {
            libc::execve(prepared.path.as_ptr(), argv.as_ptr(), env.as_ptr().cast());
            step = EXECVE;
        }
        let [a, b, c, d] = (*libc::__errno_location()).to_ne_bytes();
        let failure = [step, a, b, c, d];
        libc::write(failed, failure.as_ptr().cast(), failure.len());
        libc::_exit(127)
    }
}

/// In the order in which each step is still allowed. 0, or the number of the step that failed; errno tells the error.
#[expect(unsafe_code, reason = "system calls between fork and execve")]
unsafe fn set_up(prepared: &Prepared, env: &[*mut libc::c_char]) -> u8 {
    // SAFETY: as in `become_program`.
    unsafe {
        libc::setpgid(0, 0);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        // What systemd may send to the whole control group when a supervisor hangs (WatchdogSignal=): its workers still serve.
        libc::signal(libc::SIGSTKFLT, libc::SIG_IGN);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        let step = take_standing(&prepared.standing);
        if step != 0 {
            return step;
        }
        // After the change of user, which clears it (prctl(2)).
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 || libc::getppid() != prepared.supervisor {
            return PARENT;
        }
        if let Some(umask) = prepared.standing.umask {
            libc::umask(umask);
        }
        if libc::chdir(prepared.directory.as_ptr()) != 0 {
            return CHDIR;
        }
        pass_descriptors(prepared, env)
    }
}

#[expect(unsafe_code, reason = "system calls between fork and execve")]
unsafe fn pass_descriptors(prepared: &Prepared, env: &[*mut libc::c_char]) -> u8 {
    // SAFETY: as in `become_program`.
    unsafe {
        if libc::dup2(prepared.stdin.as_raw_fd(), 0) < 0 {
            return DESCRIPTORS;
        }
        if let Some((out, err)) = prepared.streams
            && (libc::dup2(out, 1) < 0 || libc::dup2(err, 2) < 0)
        {
            return DESCRIPTORS;
        }
        let mut next = FIRST_FD;
        for fd in &prepared.fds {
            if libc::dup2(fd.as_raw_fd(), next) < 0 {
                return DESCRIPTORS;
            }
            next += 1;
        }
        libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if let Some((entry, at)) = prepared.pid_at {
            write_pid(*env.get_unchecked(entry), at);
        }
        0
    }
}

/// Limits, cores, then the user: each needs rights that the next may take away.
#[expect(unsafe_code, reason = "system calls between fork and execve")]
unsafe fn take_standing(standing: &Standing) -> u8 {
    // SAFETY: as in `become_program`.
    unsafe {
        for (resource, limit) in &standing.limits {
            // That of our start may be more than we still may give.
            let as_at_start = *resource == libc::RLIMIT_NOFILE && standing.keeps_open_files;
            if libc::setrlimit(*resource, &raw const *limit) != 0 && !as_at_start {
                return LIMIT;
            }
        }
        if let Some(cpus) = &standing.cpus {
            // Cores that went away since they were counted are no reason not to serve.
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const *cpus);
        }
        if !standing.binds {
            // Who has it from systemd (AmbientCapabilities=) would hand it on at execve. Kernels without ambient capabilities refuse.
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_LOWER, CAP_NET_BIND_SERVICE, 0, 0);
        }
        standing.person.as_ref().map_or(0, |person| become_person(person))
    }
}

/// Raw system calls: glibc's would tell threads that are not there.
#[expect(unsafe_code, reason = "system calls between fork and execve")]
unsafe fn become_person(person: &Person) -> u8 {
    let Person { uid, gid, groups, regroups, drops } = person;
    // SAFETY: as in `become_program`.
    unsafe {
        if *regroups
            && (libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) != 0
                || libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) != 0)
        {
            return PERSON;
        }
        if *drops {
            for capability in 0..CAPABILITIES_MAX {
                if libc::prctl(libc::PR_CAPBSET_READ, capability) == 1 && libc::prctl(libc::PR_CAPBSET_DROP, capability) != 0 {
                    return CAPABILITIES;
                }
            }
            if libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) != 0 {
                return PERSON;
            }
            let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
            let nothing: Capabilities = [[0; 3]; 2];
            // What is not inheritable is not ambient either (capabilities(7)).
            if libc::syscall(libc::SYS_capset, &raw const header, nothing.as_ptr()) != 0 {
                return CAPABILITIES;
            }
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return NO_NEW_PRIVS;
        }
        if is_person(person) { 0 } else { VERIFIED }
    }
}

/// Reads back what the kernel made of it.
#[expect(unsafe_code, reason = "system calls between fork and execve")]
unsafe fn is_person(person: &Person) -> bool {
    let mut users = [0; 3];
    let mut groups = [0; 3];
    let mut others: [libc::gid_t; MAX_GROUPS] = [0; MAX_GROUPS];
    let mut capabilities: Capabilities = [[0; 3]; 2];
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    // SAFETY: as in `become_program`; the kernel writes into arrays of the size it is told.
    unsafe {
        let [real, effective, saved] = &mut users;
        libc::getresuid(real, effective, saved);
        let [real, effective, saved] = &mut groups;
        libc::getresgid(real, effective, saved);
        let count = libc::syscall(libc::SYS_getgroups, MAX_GROUPS, others.as_mut_ptr());
        let told = libc::syscall(libc::SYS_capget, &raw const header, capabilities.as_mut_ptr()) == 0;
        let bound = (0..CAPABILITIES_MAX).any(|capability| libc::prctl(libc::PR_CAPBSET_READ, capability) == 1);
        *libc::__errno_location() = libc::EPERM;
        let is_user = users == [person.uid; 3] && groups == [person.gid; 3];
        let Some(others) = usize::try_from(count).ok().and_then(|count| others.get(..count)) else { return false };
        let same = others.len() == person.groups.len() && others.iter().all(|group| person.groups.contains(group));
        let is_powerless = told && capabilities == [[0; 3]; 2] && !bound;
        is_user && (same || !person.regroups) && (is_powerless || !person.drops)
    }
}

/// Writes our pid as decimal digits over the room kept for it.
#[expect(unsafe_code, reason = "formats into memory allocated before the fork")]
unsafe fn write_pid(entry: *mut libc::c_char, at: usize) {
    let mut digits = [0_u8; PID_DIGITS.len()];
    let mut rest = std::process::id();
    let mut length = 0;
    while rest > 0 && length < digits.len() {
        digits[length] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        length += 1;
    }
    // SAFETY: `entry` holds `at` bytes, then as many as `digits` has, then NUL.
    unsafe {
        for (place, digit) in digits[..length].iter().rev().enumerate() {
            entry.cast::<u8>().add(at + place).write(*digit);
        }
        entry.cast::<u8>().add(at + length).write(0);
    }
}
