//! Control groups: what bounds a sandbox's memory, processor time and processes, counts them, and freezes it.
//! The spawner finds out once what the machine has (v1, v2 or both at once), its workers make a group for each sandbox.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use super::spec::Bounds;
use super::wire::{Handles, Protection, Version};

/// What one period of the processor's bandwidth is, in microseconds; the kernel's own default.
const PERIOD_US: u64 = 100_000;

/// What of a sandbox is controlled, or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Memory,
    Cpu,
    Pids,
    Freezer,
    /// The processor time that is used; v1 counts it apart from what bounds it.
    CpuTime,
}

impl Control {
    const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::Pids, Self::Freezer, Self::CpuTime];

    /// Its name as the kernel knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
            Self::CpuTime => "cpuacct",
        }
    }

    /// Whether every group of v2 has it, and not only those that were given it.
    fn is_part_of_v2(self) -> bool {
        matches!(self, Self::Freezer | Self::CpuTime)
    }

    /// The wall that it is, if it is one.
    fn protects(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory limit"),
            Self::Cpu => Some("processor limit"),
            Self::Pids => Some("process limit"),
            Self::Freezer => Some("freezer"),
            Self::CpuTime => None,
        }
    }
}

/// Where the groups of this server's sandboxes are made.
#[derive(Debug)]
pub(super) struct Cgroups {
    name: String,
    /// For each control: the folder of our groups and its version, or why there is none.
    places: Vec<(Control, Result<Place, String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    version: Version,
}

/// The groups of one sandbox.
#[derive(Debug, Clone)]
pub(super) struct Group {
    memory: Option<Place>,
    freezer: Option<Place>,
    processor: Option<Place>,
    /// Every folder once.
    places: Vec<Place>,
}

impl Cgroups {
    /// Finds what there is, and sweeps what a server of the same name has left; `name` is that of one data directory.
    pub(super) fn find(name: &str) -> Self {
        let found = Self { name: name.to_owned(), places: places_of(name) };
        for Place { folder, .. } in found.folders() {
            sweep(&folder);
        }
        found
    }

    /// What is bounded by groups, and what is not.
    pub(super) fn protections(&self) -> Vec<Protection> {
        let of = |(control, place): &(Control, Result<Place, String>)| {
            let how = match place {
                Ok(Place { version: Version::V1, .. }) => "by cgroup v1".into(),
                Ok(Place { version: Version::V2, .. }) => "by cgroup v2".into(),
                Err(why) => why.clone(),
            };
            Some(Protection { name: control.protects()?.into(), active: place.is_ok(), how })
        };
        self.places.iter().filter_map(of).collect()
    }

    /// Makes the groups of a sandbox, with its bounds.
    pub(super) fn make(&self, id: u64, bounds: &Bounds) -> io::Result<Group> {
        let group = self.group(id);
        for Place { folder, .. } in &group.places {
            fs::create_dir(folder).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(()),
                // The spawner of a server that was killed removes its folder when it goes, which may be after we have found ours.
                io::ErrorKind::NotFound => {
                    drop(places_of(&self.name));
                    fs::create_dir(folder)
                }
                _ => Err(error),
            })?;
        }
        for (control, place) in &self.places {
            if let Ok(place) = place {
                bound(*control, place.version, &place.folder.join(id.to_string()), bounds)?;
            }
        }
        Ok(group)
    }

    /// The groups of a sandbox, as they were made.
    pub(super) fn group(&self, id: u64) -> Group {
        let of = |wanted: Control| {
            let (_, place) = self.places.iter().find(|(control, _)| *control == wanted)?;
            let place = place.as_ref().ok()?;
            Some(Place { folder: place.folder.join(id.to_string()), version: place.version })
        };
        let of_it = |place: Place| Place { folder: place.folder.join(id.to_string()), ..place };
        let places = self.folders().into_iter().map(of_it).collect();
        Group {
            memory: of(Control::Memory),
            freezer: of(Control::Freezer),
            processor: of(Control::CpuTime),
            places,
        }
    }

    /// Every folder once.
    fn folders(&self) -> Vec<Place> {
        let mut places: Vec<Place> =
            self.places.iter().filter_map(|(_, place)| place.as_ref().ok().cloned()).collect();
        places.sort_by(|one, other| one.folder.cmp(&other.folder));
        places.dedup();
        places
    }

    /// Removes the folders of a server that stops; those with sandboxes stay.
    pub(super) fn remove(&self) {
        for Place { folder, .. } in self.folders() {
            // Not empty is swept by the next server.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Group {
    /// The folder that its first process is born into, where it has one of v2.
    pub(super) fn birthplace(&self) -> io::Result<Option<OwnedFd>> {
        let Some(Place { folder, .. }) = self.of_version(Version::V2).last() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Some(rustix::fs::open(folder, flags, Mode::empty())?))
    }

    /// Moves this process into those that none is born into; it has one thread.
    ///
    /// A thread that moves itself needs nobody's patience. Whoever moves a process waits until each processor has seen that,
    /// which takes longer than all other steps of a start together.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.of_version(Version::V1).try_for_each(|place| put(&place.folder, "tasks", "0"))
    }

    fn of_version(&self, version: Version) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| place.version == version)
    }

    /// What the server needs of it, with the descriptors in the order of [`Handles`].
    pub(super) fn handles(&self) -> (Handles, Vec<OwnedFd>) {
        let mut handles = Handles::default();
        let mut fds = Vec::new();
        let mut open = |folder: &Path, file: &str, write: bool| {
            let file = fs::OpenOptions::new().read(!write).write(write).open(folder.join(file));
            file.map(|file| fds.push(OwnedFd::from(file))).is_ok()
        };
        if let Some(Place { folder, version }) = &self.freezer {
            let file = match version {
                Version::V1 => "freezer.state",
                Version::V2 => "cgroup.freeze",
            };
            handles.freezer = open(folder, file, true).then_some(*version);
        }
        if let Some(Place { folder, version }) = &self.memory {
            let (usage, events) = match version {
                Version::V1 => ("memory.usage_in_bytes", "memory.oom_control"),
                Version::V2 => ("memory.current", "memory.events"),
            };
            handles.memory = open(folder, usage, false);
            handles.oom = open(folder, events, false);
        }
        if let Some(Place { folder, version }) = &self.processor {
            let file = match version {
                Version::V1 => "cpuacct.usage",
                Version::V2 => "cpu.stat",
            };
            handles.processor = open(folder, file, false).then_some(*version);
        }
        (handles, fds)
    }

    /// Lets a frozen one die: v1 keeps even a killed process frozen.
    pub(super) fn thaw(&self) {
        if let Some(Place { folder, version: Version::V1 }) = &self.freezer {
            // One that is gone needs none.
            let _ = put(folder, "freezer.state", "THAWED");
        }
    }

    /// Whether it ran out of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let Some(Place { folder, version }) = &self.memory else { return false };
        let file = if *version == Version::V1 { "memory.oom_control" } else { "memory.events" };
        fs::read_to_string(folder.join(file)).is_ok_and(|text| oom_kills(&text) > 0)
    }

    /// The most memory it had, in bytes.
    pub(super) fn memory_peak_bytes(&self) -> u64 {
        let Some(Place { folder, version }) = &self.memory else { return 0 };
        let file = if *version == Version::V1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Removes it; says whether that is done.
    pub(super) fn remove(&self) -> bool {
        let mut done = true;
        for Place { folder, .. } in &self.places {
            done &= match fs::remove_dir(folder) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
        }
        done
    }
}

/// How often a group's memory was over, as its file tells.
pub(super) fn oom_kills(text: &str) -> u64 {
    let count = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse().ok();
    text.lines().find_map(count).unwrap_or(0)
}

/// The processor time that a group has used, as its file tells: in nanoseconds by v1, in microseconds among others by v2.
pub(super) fn processor_time(version: Version, text: &str) -> Option<Duration> {
    match version {
        Version::V1 => text.trim().parse().ok().map(Duration::from_nanos),
        Version::V2 => {
            let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            used.trim().parse().ok().map(Duration::from_micros)
        }
    }
}

fn bound(control: Control, version: Version, folder: &Path, bounds: &Bounds) -> io::Result<()> {
    match (control, version) {
        (Control::Memory, Version::V1) => {
            put(folder, "memory.limit_in_bytes", &bounds.memory_bytes.to_string())?;
            // Where swap is not accounted, the file is not there; memory is bounded nevertheless.
            let _ = put(folder, "memory.memsw.limit_in_bytes", &bounds.memory_bytes.to_string());
            // What waits in sockets is counted apart; v2 counts it with the rest.
            let _ = put(folder, "memory.kmem.tcp.limit_in_bytes", &bounds.memory_bytes.to_string());
            Ok(())
        }
        (Control::Memory, Version::V2) => {
            put(folder, "memory.max", &bounds.memory_bytes.to_string())?;
            let _ = put(folder, "memory.swap.max", "0"); // As above.
            Ok(())
        }
        (Control::Cpu, _) => {
            let Some(millis) = bounds.cpu_millis else { return Ok(()) };
            let quota = u64::from(millis) * PERIOD_US / 1_000;
            match version {
                Version::V1 => put(folder, "cpu.cfs_quota_us", &quota.max(1_000).to_string()),
                Version::V2 => put(folder, "cpu.max", &format!("{} {PERIOD_US}", quota.max(1_000))),
            }
        }
        // Two more: the first process of the sandbox, and the one that becomes the program.
        (Control::Pids, _) => put(folder, "pids.max", &(u64::from(bounds.processes) + 2).to_string()),
        (Control::Freezer | Control::CpuTime, _) => Ok(()),
    }
}

fn put(folder: &Path, file: &str, text: &str) -> io::Result<()> {
    let path = folder.join(file);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::OpenOptions::new().write(true).open(&path).map_err(named)?.write_all(text.as_bytes()).map_err(named)
}

/// A hierarchy of groups that is mounted, and where in it this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    own: PathBuf,
    version: Version,
    controls: Vec<String>,
}

/// Where our groups are for each control; the folders of the groups are made.
fn places_of(name: &str) -> Vec<(Control, Result<Place, String>)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let all = hierarchies(&mounts, &groups);
    let folder = format!("coracle-{name}");
    let v2 = all.iter().find(|one| one.version == Version::V2).map(|one| V2::of(one, &folder));
    let v1_place = |control: Control| {
        let one = all
            .iter()
            .find(|one| {
                one.version == Version::V1 && one.controls.iter().any(|known| known == control.name())
            })
            .ok_or_else(|| format!("this machine mounts no cgroup with `{}`", control.name()))?;
        let parent = if one.own.is_dir() { &one.own } else { &one.mount };
        made(parent.join(&folder)).map(|folder| Place { folder, version: Version::V1 })
    };
    let place_of = |control| match v2.as_ref().and_then(|v2| v2.place(control)) {
        Some(place) => place,
        None => v1_place(control),
    };
    Control::ALL.map(|control| (control, place_of(control))).into()
}

/// Our groups in the hierarchy of v2: one folder for all controls, since a process is in one group of it alone.
struct V2 {
    /// What the machine has there.
    known: Vec<Control>,
    found: Result<V2Folder, String>,
}

#[derive(Default)]
struct V2Folder {
    folder: PathBuf,
    enabled: Vec<Control>,
    /// Why the others are not.
    why: String,
}

impl V2 {
    /// Within our own group where that may have children with every control, else beside all others; where more of them can be had.
    fn of(one: &Hierarchy, folder: &str) -> Self {
        let listed = fs::read_to_string(one.mount.join("cgroup.controllers")).unwrap_or_default();
        let is_known = |control: &Control| {
            control.is_part_of_v2() || listed.split_whitespace().any(|name| name == control.name())
        };
        let known: Vec<Control> = Control::ALL.into_iter().filter(is_known).collect();
        let mut found: Result<V2Folder, String> = Err(String::new());
        for parent in [&one.own, &one.mount] {
            let tried = V2Folder::make(parent, folder, &known);
            let is_better = match (&tried, &found) {
                (Ok(tried), Ok(found)) => tried.enabled.len() > found.enabled.len(),
                (tried, Err(_)) => tried.is_ok() || parent == &one.mount,
                (Err(_), Ok(_)) => false,
            };
            let other = if is_better { std::mem::replace(&mut found, tried) } else { tried };
            if let (Ok(other), Ok(found)) = (&other, &found)
                && other.folder != found.folder
            {
                let _ = fs::remove_dir(&other.folder); // In use by an earlier server, it is swept by nobody else.
            }
            if found.as_ref().is_ok_and(|found| found.enabled.len() == known.len()) {
                break;
            }
        }
        Self { known, found }
    }

    /// Where the groups for a control are, if it is one of v2 here.
    fn place(&self, control: Control) -> Option<Result<Place, String>> {
        self.known.contains(&control).then(|| match &self.found {
            Ok(found) if found.enabled.contains(&control) => {
                Ok(Place { folder: found.folder.clone(), version: Version::V2 })
            }
            Ok(V2Folder { why, .. }) | Err(why) => {
                Err(format!("{why}; as a service of systemd, set `Delegate=yes`"))
            }
        })
    }
}

impl V2Folder {
    fn make(parent: &Path, folder: &str, known: &[Control]) -> Result<Self, String> {
        let mut made = Self { folder: made(parent.join(folder))?, ..Self::default() };
        for control in known {
            let enable = format!("+{}", control.name());
            let enabled = match control {
                control if control.is_part_of_v2() => Ok(()),
                _ => [parent, &made.folder]
                    .into_iter()
                    .try_for_each(|of| put(of, "cgroup.subtree_control", &enable)),
            };
            match enabled {
                Ok(()) => made.enabled.push(*control),
                Err(error) => made.why = error.to_string(),
            }
        }
        Ok(made)
    }
}

fn made(folder: PathBuf) -> Result<PathBuf, String> {
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("{}: {error}", folder.display()))
        }
        _ => Ok(folder),
    }
}

/// What `/proc/self/mountinfo` and `/proc/self/cgroup` tell.
fn hierarchies(mounts: &str, groups: &str) -> Vec<Hierarchy> {
    let own_of = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controls, path) = (fields.next()?, fields.next()?);
            wanted(controls).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let of = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mount = PathBuf::from(mount.split(' ').nth(4)?);
        let mut kind = kind.split(' ');
        match kind.next()? {
            "cgroup2" => {
                let own = mount.join(own_of(&str::is_empty)?);
                Some(Hierarchy { mount, own, version: Version::V2, controls: Vec::new() })
            }
            "cgroup" => {
                let controls: Vec<String> = kind.nth(1)?.split(',').map(str::to_owned).collect();
                let is_ours =
                    |named: &str| named.split(',').any(|named| controls.iter().any(|one| one == named));
                let own = mount.join(own_of(&is_ours)?);
                Some(Hierarchy { own, version: Version::V1, controls, mount })
            }
            _ => None,
        }
    };
    mounts.lines().filter_map(of).collect()
}

/// Ends what a server left that did not end as it should, and removes its groups.
fn sweep(folder: &Path) {
    let Ok(left) = fs::read_dir(folder) else { return };
    for group in left.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let _ = put(&group, "freezer.state", "THAWED"); // Only v1 has it.
        let _ = put(&group, "cgroup.kill", "1"); // Only v2 has it.
        let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = fs::remove_dir(&group); // What still dies is swept by the next server.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_as_the_kernel_tells_them() {
        let hybrid = "\
31 25 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 25 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 25 0:30 / /tmp rw - tmpfs tmpfs rw";
        let groups = "9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/c\n";
        let found: Vec<_> = hierarchies(hybrid, groups)
            .into_iter()
            .map(|one| (one.own.display().to_string(), one.version))
            .collect();
        let expected = [
            ("/sys/fs/cgroup/memory/a/b".to_owned(), Version::V1),
            ("/sys/fs/cgroup/cpu,cpuacct/".to_owned(), Version::V1),
            ("/sys/fs/cgroup/unified/c".to_owned(), Version::V2),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn folders_that_another_spawner_took_away_are_made_again() {
        // Where there may be no groups there is nothing to take away.
        let cgroups = Cgroups::find(&format!("test-{}", std::process::id()));
        cgroups.remove();
        let bounds = Bounds { memory_bytes: 64 << 20, cpu_millis: None, processes: 8, writable_bytes: 0 };
        let group = cgroups.make(1, &bounds).unwrap();
        assert!(group.places.iter().all(|place| place.folder.is_dir()));
        assert!(group.remove());
        cgroups.remove();
    }

    #[test]
    fn all_controls_of_v2_have_one_folder_where_most_of_them_can_be_had() {
        let mount = tempfile::tempdir().unwrap();
        let (mount, own) = (mount.path().to_owned(), mount.path().join("own"));
        fs::create_dir_all(mount.join("coracle-x")).unwrap();
        fs::create_dir(&own).unwrap();
        fs::write(mount.join("cgroup.controllers"), "cpu memory\n").unwrap();
        // Our own group has processes, and may have no children with controls: it is refused there.
        for folder in [mount.clone(), mount.join("coracle-x")] {
            fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
        }
        let one =
            Hierarchy { mount: mount.clone(), own: own.clone(), version: Version::V2, controls: Vec::new() };
        let v2 = V2::of(&one, "coracle-x");
        let place = |control| v2.place(control);
        for control in [Control::Memory, Control::Cpu, Control::Freezer] {
            let expected = Place { folder: mount.join("coracle-x"), version: Version::V2 };
            assert_eq!(place(control), Some(Ok(expected)), "{control:?}");
        }
        assert_eq!(place(Control::Pids), None, "not of v2 here");
        assert!(!own.join("coracle-x").exists());
        // With nothing to be had anywhere, the freezer is in our own group, and the rest says why not.
        fs::remove_file(mount.join("cgroup.subtree_control")).unwrap();
        let v2 = V2::of(&one, "coracle-x");
        let freezer = Place { folder: own.join("coracle-x"), version: Version::V2 };
        assert_eq!(v2.place(Control::Freezer), Some(Ok(freezer)));
        assert!(v2.place(Control::Memory).unwrap().unwrap_err().contains("Delegate=yes"));
    }

    #[test]
    fn processor_time_is_read_from_both_versions() {
        let v2 = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
        assert_eq!(processor_time(Version::V1, "1500000\n"), Some(Duration::from_micros(1_500)));
        assert_eq!(processor_time(Version::V2, v2), Some(Duration::from_micros(1_500)));
        assert_eq!(processor_time(Version::V2, "nr_periods 0\n"), None);
        assert_eq!(processor_time(Version::V1, ""), None);
    }

    #[test]
    fn running_out_of_memory_is_read_from_both_versions() {
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(oom_kills(""), 0);
    }
}
