//! Who a new process is and what it may use, looked up before the fork: users by name, limits, cores. Applies nothing.

use std::ffi::{CString, OsString};
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};
use rustix::thread::{CpuSet, sched_getaffinity};
use thiserror::Error;

use super::limits;
use crate::config::{Affinity, Confinement, Limit};
use crate::units::{Slot, Workers};

/// The most groups a worker's user may be in (NGROUPS_MAX is 65536; who is in more than this is not read back).
pub(super) const MAX_GROUPS: usize = 1024;

/// Why workers cannot be who they should be.
#[derive(Debug, Error)]
pub enum StandingError {
    /// Nobody has this name.
    #[error("app.user: there is no user {0:?}")]
    NoUser(String),
    /// No group has this name.
    #[error("app.group: there is no group {0:?}")]
    NoGroup(String),
    /// A number without an entry has no first group.
    #[error("app.user: {0} has no entry in /etc/passwd; write app.group too")]
    NoFirstGroup(u32),
    /// Only root can become somebody else.
    #[error("app.user, app.group: only root can run workers as somebody else; start tuningfork as root, or as {0:?}")]
    NotRoot(String),
    /// More groups than are read back.
    #[error("app.user: {0:?} is in more than {MAX_GROUPS} groups")]
    TooManyGroups(String),
}

/// What the new process takes on between fork and exec.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) person: Option<Person>,
    pub(super) umask: Option<libc::mode_t>,
    pub(super) limits: Vec<(libc::__rlimit_resource_t, libc::rlimit)>,
    pub(super) cpus: Option<libc::cpu_set_t>,
    /// The limit of open files is the one we were started with, not one that was asked for.
    pub(super) keeps_open_files: bool,
    /// It is one of us, who bind sockets: workers need no right to ports below 1024.
    pub(super) binds: bool,
}

/// Names and values.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub(super) uid: libc::uid_t,
    pub(super) gid: libc::gid_t,
    pub(super) groups: Vec<libc::gid_t>,
    /// Whether its groups are others than ours. Only root can take them.
    pub(super) regroups: bool,
    /// Whether it is somebody else than us, and less than root.
    pub(super) drops: bool,
}

impl Person {
    /// The one whom `confinement` names; `None` if it names nobody.
    pub(super) fn of(confinement: &Confinement) -> Result<Option<(Self, Variables)>, StandingError> {
        let Confinement { user, group, .. } = confinement;
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let (uid, entry) = match user {
            Some(name) => find_user(name)?,
            None => (geteuid(), User::from_uid(geteuid()).ok().flatten()),
        };
        let gid = match (group, &entry) {
            (Some(name), _) => find_group(name)?,
            (None, Some(entry)) => entry.gid,
            (None, None) => return Err(StandingError::NoFirstGroup(uid.as_raw())),
        };
        let name = entry.as_ref().map_or_else(|| uid.to_string(), |entry| entry.name.clone());
        let is_us = uid == geteuid() && gid == getegid();
        if !is_us && !geteuid().is_root() {
            return Err(StandingError::NotRoot(name));
        }
        let groups = match &entry {
            Some(entry) => all_groups(&entry.name, gid),
            None => vec![gid.as_raw()],
        };
        if groups.len() > MAX_GROUPS {
            return Err(StandingError::TooManyGroups(name));
        }
        let home = entry.map(|entry| {
            let home = ("HOME".into(), entry.dir.into_os_string());
            vec![home, ("USER".into(), name.clone().into()), ("LOGNAME".into(), name.into())]
        });
        // A root that stays root keeps what root has; only its groups change.
        let drops = geteuid().is_root() && !uid.is_root();
        Ok(Some((Self { uid: uid.as_raw(), gid: gid.as_raw(), groups, regroups: !is_us, drops }, home.unwrap_or_default())))
    }
}

/// Our home, as the password database has it.
#[must_use]
pub fn home() -> Option<PathBuf> {
    User::from_uid(geteuid()).ok().flatten().map(|entry| entry.dir)
}

/// A user's name, or the number of one who has none.
pub(super) fn name_of(uid: libc::uid_t) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |entry| entry.name)
}

/// By name, or by a number, which needs no entry.
pub(super) fn find_user(name: &str) -> Result<(Uid, Option<User>), StandingError> {
    let missing = || StandingError::NoUser(name.to_owned());
    match (User::from_name(name), name.parse::<u32>()) {
        (Ok(Some(entry)), _) => Ok((entry.uid, Some(entry))),
        (_, Ok(number)) => Ok((Uid::from_raw(number), User::from_uid(Uid::from_raw(number)).ok().flatten())),
        (_, Err(_)) => Err(missing()),
    }
}

/// The same of a group.
pub(super) fn find_group(name: &str) -> Result<Gid, StandingError> {
    match (Group::from_name(name), name.parse::<u32>()) {
        (Ok(Some(entry)), _) => Ok(entry.gid),
        (_, Ok(number)) => Ok(Gid::from_raw(number)),
        (_, Err(_)) => Err(StandingError::NoGroup(name.to_owned())),
    }
}

/// The user's groups, of which `gid` is the first.
fn all_groups(name: &str, gid: Gid) -> Vec<libc::gid_t> {
    let found = CString::new(name).ok().and_then(|name| getgrouplist(&name, gid).ok()).unwrap_or_else(|| vec![gid]);
    let mut groups: Vec<_> = found.into_iter().map(Gid::as_raw).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

impl Standing {
    /// That of `confinement`, whose person was looked up.
    pub(super) fn new(confinement: &Confinement, person: Option<Person>) -> Self {
        let configured = &confinement.limits;
        let unlimited = libc::RLIM_INFINITY;
        let both = |limit: Limit| match limit {
            Limit::Unlimited => libc::rlimit { rlim_cur: unlimited, rlim_max: unlimited },
            Limit::At(most) => libc::rlimit { rlim_cur: most, rlim_max: most },
        };
        let others = [
            (libc::RLIMIT_NPROC, configured.processes),
            (libc::RLIMIT_CORE, configured.core),
            (libc::RLIMIT_AS, configured.address_space),
        ];
        let files = (libc::RLIMIT_NOFILE, configured.open_files.map_or_else(limits::at_start, both));
        let set = others.into_iter().filter_map(|(resource, limit)| Some((resource, both(limit?))));
        Self {
            person,
            umask: confinement.umask,
            limits: std::iter::once(files).chain(set).collect(),
            cpus: None,
            keeps_open_files: configured.open_files.is_none(),
            binds: false,
        }
    }

    /// What the supervisor itself has.
    pub(super) fn ours() -> Self {
        Self {
            person: None,
            umask: None,
            limits: vec![(libc::RLIMIT_NOFILE, limits::at_start())],
            cpus: None,
            keeps_open_files: true,
            binds: true,
        }
    }

    /// The same on these cores.
    pub(super) fn on(mut self, cores: Option<&[usize]>) -> Self {
        self.cpus = cores.map(cpu_set);
        self
    }
}

/// The cores a worker should keep to; `None` for all.
#[must_use]
pub fn cores(affinity: Affinity, slot: Slot, workers: Workers) -> Option<Vec<usize>> {
    let allowed = sched_getaffinity(None).ok()?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    affinity.share(&allowed, slot, workers).map(<[usize]>::to_vec)
}

#[expect(unsafe_code, reason = "libc's macros on a plain bit set")]
fn cpu_set(cores: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is an array of bits, for which zeros are valid; CPU_SET ignores what is beyond it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cores.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
            libc::CPU_SET(*cpu, &mut set);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confined(user: Option<&str>, group: Option<&str>) -> Result<Option<Person>, StandingError> {
        let confinement =
            Confinement { user: user.map(str::to_owned), group: group.map(str::to_owned), ..Confinement::default() };
        Person::of(&confinement).map(|found| found.map(|(person, _)| person))
    }

    #[test]
    fn nobody_named_is_nobody_else() {
        assert_eq!(confined(None, None).unwrap(), None);
    }

    #[test]
    fn whoever_we_are_needs_no_rights() {
        let us = confined(Some(&geteuid().to_string()), Some(&getegid().to_string())).unwrap().unwrap();
        assert_eq!((us.uid, us.gid, us.drops), (geteuid().as_raw(), getegid().as_raw(), false));
    }

    #[test]
    fn names_that_are_not_there_are_named() {
        assert_eq!(confined(Some("no-such-user"), None).unwrap_err().to_string(), "app.user: there is no user \"no-such-user\"");
        assert_eq!(
            confined(None, Some("no-such-group")).unwrap_err().to_string(),
            "app.group: there is no group \"no-such-group\""
        );
        let error = confined(Some("3999999999"), None).unwrap_err().to_string();
        assert_eq!(error, "app.user: 3999999999 has no entry in /etc/passwd; write app.group too");
    }
}
