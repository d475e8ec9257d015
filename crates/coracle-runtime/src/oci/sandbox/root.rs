//! The files that a sandbox sees: its root, built out of sight and then changed into.
//! The worker prepares what needs the machine's own rights over files ([`Sources`]); the first process of the sandbox does the rest.
//!
//! Nothing is mounted at a path of the new root before it *is* the root: a symlink of an image then leads nowhere but into the sandbox.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use super::namespaces::{Attributes, set_attributes};
use super::spec::{Root, SecretFile, Spec};

/// The folder of a bundle's own files.
const APP: &str = "home/app";

/// What of the machine's `/etc` programs of its `/usr` need; none of it is secret.
const ETC: &[&str] = &[
    "ld.so.cache",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "localtime",
    "mime.types",
    "services",
    "protocols",
];

/// Devices that every program may have.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// What of `/proc` tells about the machine and not about the sandbox.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/modules",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/kernel",
];

/// What of `/proc` changes the machine.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The longest line of options that `mount` takes is a page; layers are named by numbers.
const LAYERS_MAX: usize = 500;

/// What a machine that cannot stack layers is said to want.
pub(super) const NO_OVERLAYFS: &str =
    "this kernel has no overlayfs: images cannot be run; `modprobe overlay`";

/// What a filesystem in memory may hold in which programs do not write: names alone.
const BARE_BYTES: u64 = 4 << 20;

/// Files that every filesystem in memory may have: at least a folder for each layer.
const FILES_MIN: u64 = 1_024;

/// Mounts that are not attached anywhere yet.
#[derive(Debug)]
pub(super) struct Sources {
    /// The layers of an image, the top one first; or the machine's folders and where they go.
    trees: Vec<(PathBuf, OwnedFd)>,
    devices: Vec<(&'static str, OwnedFd)>,
}

impl Sources {
    /// Opens what the root is made of, with the users of `owners` as owners of the files, if there is such a namespace.
    pub(super) fn open(root: &Root, owners: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let trees = match root {
            Root::Image(layers) if layers.len() > LAYERS_MAX => {
                return Err(io::Error::other(format!("the image has more than {LAYERS_MAX} layers")));
            }
            Root::Image(layers) => layers
                .iter()
                .enumerate()
                .map(|(number, layer)| Ok((PathBuf::from(number.to_string()), tree(layer, owners)?)))
                .collect::<io::Result<_>>()?,
            Root::Host(files) => host_trees(files, owners)?,
        };
        let device = |name: &&'static str| {
            let path = Path::new("/dev").join(name);
            open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
                .ok()
                .map(|tree| (*name, tree))
        };
        Ok(Self { trees, devices: DEVICES.iter().filter_map(device).collect() })
    }
}

/// A copy of the mount of a folder or file: read-only, without devices.
fn tree(path: &Path, owners: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let tree = copy(path).map_err(|error| named(error.into()))?;
    let attributes = Attributes { read_only: true, owners, ..Attributes::default() };
    set_attributes(tree.as_fd(), attributes).map_err(named)?;
    Ok(tree)
}

fn host_trees(files: &Path, owners: Option<BorrowedFd<'_>>) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    // Without the machine's owners: whoever a program runs as, it reads what everybody may.
    let host = |path: &Path| tree(path, None);
    let mut trees = vec![("usr".into(), host(Path::new("/usr"))?)];
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let path = Path::new("/").join(name);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            trees.push((name.into(), host(&path)?));
        }
    }
    for name in ETC {
        let path = Path::new("/etc").join(name);
        if path.exists() {
            trees.push((Path::new("etc").join(name), host(&path)?));
        }
    }
    trees.push((APP.into(), tree(files, owners)?));
    Ok(trees)
}

/// Makes the root of the sandbox the root of this process, and lets go of the machine's. `base` is the number of its first user on the machine.
pub(super) fn enter(spec: &Spec, sources: Sources, base: u32) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let Sources { trees, devices } = sources;
    std::env::set_current_dir(&spec.scratch)?;
    let bytes = match &spec.root {
        Root::Image(_) => spec.bounds.writable_bytes,
        Root::Host(_) => BARE_BYTES,
    };
    attach(tmpfs("0700", bytes)?, ".")?;
    std::env::set_current_dir(&spec.scratch)?;
    fs::create_dir("root")?;
    let own = Own::make()?;
    match &spec.root {
        Root::Image(_) => stack(trees, base)?,
        Root::Host(_) => lay_out(trees)?,
    }
    std::env::set_current_dir("root")?;
    rustix::process::pivot_root(".", ".")?;
    // The machine's root lies beneath the new one; nothing else of it is known from here on.
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    fill(spec, own, devices, base)?;
    if spec.read_only || matches!(spec.root, Root::Host(_)) {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount("/", flags, "")
            .map_err(|error| io::Error::other(format!("make the root read-only: {error}")))?;
    }
    Ok(())
}

/// Folders of the sandbox's own filesystem in memory, which is the same for all: each more takes time and memory.
struct Own {
    dev: OwnedFd,
    /// Nothing, to be laid over what is not for programs.
    nothing: OwnedFd,
}

impl Own {
    /// Makes them in the filesystem that this process stands in, whose root is out of reach later.
    fn make() -> io::Result<Self> {
        for name in ["dev", "nothing"] {
            folder(Path::new(name), 0o755)?;
        }
        let nothing = copy("nothing")?;
        let attributes = Attributes { read_only: true, no_exec: true, ..Attributes::default() };
        set_attributes(nothing.as_fd(), attributes)?;
        Ok(Self { dev: copy("dev")?, nothing })
    }
}

/// Stacks layers, and a writable one in memory on top, which goes with the sandbox.
fn stack(layers: Vec<(PathBuf, OwnedFd)>, base: u32) -> io::Result<()> {
    fs::create_dir("rw")?;
    let mut lower = Vec::new();
    for (number, layer) in layers {
        fs::create_dir(&number)?;
        attach(layer, &number)?;
        lower.push(number.display().to_string());
    }
    if lower.is_empty() {
        fs::create_dir("none")?;
        lower.push("none".into());
    }
    fs::create_dir("rw/up")?;
    fs::create_dir("rw/work")?;
    // What is seen of the root itself is the top one.
    let top = fs::metadata(&lower[0])?;
    fs::set_permissions("rw/up", fs::Permissions::from_mode(top.mode() & 0o7777))?;
    chown("rw/up", Some(base), Some(base))?;
    let options = format!("lowerdir={},upperdir=rw/up,workdir=rw/work", lower.join(":"));
    let options = std::ffi::CString::new(options)?;
    mount("overlay", "root", "overlay", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str()).map_err(
        |error| match error {
            rustix::io::Errno::NODEV => io::Error::other(NO_OVERLAYFS),
            _ => io::Error::other(format!("stack {} layers with overlayfs: {error}", lower.len())),
        },
    )
}

/// A root of the machine's own programs.
fn lay_out(trees: Vec<(PathBuf, OwnedFd)>) -> io::Result<()> {
    attach(tmpfs("0755", BARE_BYTES)?, "root")?;
    let root = Path::new("root");
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let Ok(target) = fs::read_link(Path::new("/").join(name)) else { continue };
        symlink(target, root.join(name))?;
    }
    for (at, tree) in trees {
        let at = root.join(at);
        let is_folder = FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode) == FileType::Directory;
        if is_folder {
            folder(&at, 0o755)?;
        } else {
            at.parent().map_or(Ok(()), |parent| folder(parent, 0o755))?;
            write(&at, "", 0o644)?;
        }
        attach(tree, &at)?;
    }
    folder(&root.join("etc"), 0o755)?;
    write(
        &root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        0o644,
    )?;
    write(&root.join("etc/group"), "root:x:0:\napp:x:1000:\nnogroup:x:65534:\n", 0o644)?;
    write(&root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n", 0o644)
}

/// Mounts what every root has, from within.
fn fill(spec: &Spec, own: Own, devices: Vec<(&'static str, OwnedFd)>, base: u32) -> io::Result<()> {
    place("/proc", 0o555)?;
    attach(filesystem("proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC)?, "/proc")?;
    place("/sys", 0o555)?;
    // Without a network of its own a sandbox sees the machine's, and need not see its devices.
    if let Ok(sys) =
        filesystem("sysfs", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_RDONLY)
    {
        attach(sys, "/sys")?;
    }
    place("/dev", 0o755)?;
    attach(own.dev, "/dev")?;
    for (name, device) in devices {
        let at = Path::new("/dev").join(name);
        write(&at, "", 0o666)?;
        attach(device, &at)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(to, Path::new("/dev").join(name))?;
    }
    fs::create_dir("/dev/pts")?;
    attach(
        filesystem("devpts", &[("ptmxmode", "0666"), ("mode", "0620")], MountAttrFlags::MOUNT_ATTR_NOEXEC)?,
        "/dev/pts",
    )?;
    fs::create_dir("/dev/shm")?;
    attach(tmpfs("1777", spec.bounds.writable_bytes)?, "/dev/shm")?;
    place("/tmp", 0o1777)?;
    attach(tmpfs("1777", spec.bounds.writable_bytes)?, "/tmp")?;
    for path in READ_ONLY {
        read_only(path)?;
    }
    mask(own.nothing)?;
    names(spec)?;
    secrets(&spec.secrets, base, spec)
}

/// Lays nothing over what is not for programs.
fn mask(nothing: OwnedFd) -> io::Result<()> {
    let mut nothing = Some(nothing);
    let mut covered = "";
    for path in MASKED {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let cover = if metadata.is_dir() {
            let cover = nothing.take().map_or_else(|| copy(covered), Ok)?;
            covered = path;
            cover
        } else {
            copy("/dev/null")?
        };
        attach(cover, path)?;
    }
    Ok(())
}

/// A mount of the same, which is not attached anywhere yet.
fn copy(path: impl AsRef<Path>) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path.as_ref(), OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

fn read_only(path: &str) -> io::Result<()> {
    let Ok(copy) = copy(path) else {
        return Ok(()); // Not every kernel has all of them.
    };
    set_attributes(copy.as_fd(), Attributes { read_only: true, no_exec: true, ..Attributes::default() })?;
    attach(copy, path)
}

/// Who is who on the network: the sandbox itself, and the hosts that it was granted.
fn names(spec: &Spec) -> io::Result<()> {
    let granted: &[(Ipv4Addr, String)] = match &spec.network {
        super::spec::Network::Own { hosts, .. } => hosts,
        // Read before the root was changed would be another machine's truth after the next change of it; the loopback suffices.
        super::spec::Network::Host => &[],
    };
    let mut hosts = format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost\n", spec.hostname);
    for (address, name) in granted {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let etc = Path::new("/etc");
    folder(etc, 0o755)?;
    write(&etc.join("hosts"), &hosts, 0o644)?;
    write(&etc.join("hostname"), format!("{}\n", spec.hostname), 0o644)?;
    // Nobody answers questions for names here: what may be reached stands in `hosts`.
    write(&etc.join("resolv.conf"), "options attempts:1 timeout:1\n", 0o644)
}

/// Secrets as files in memory, for one user alone.
fn secrets(secrets: &[SecretFile], base: u32, spec: &Spec) -> io::Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let who = super::init::identity_of(spec).map_err(io::Error::other)?;
    let (uid, gid) = (base + who.uid, base + who.gid);
    let at = Path::new("/run/secrets");
    place("/run/secrets", 0o755)?;
    attach(tmpfs("0755", 8 << 20)?, at)?;
    for SecretFile { name, value } in secrets {
        let path = at.join(name);
        write(&path, value, 0o400)?;
        chown(&path, Some(uid), Some(gid))?;
    }
    // Where OpenFaaS' functions look for theirs.
    place("/var/openfaas/secrets", 0o755)?;
    attach(copy(at)?, "/var/openfaas/secrets")?;
    for path in ["/run/secrets", "/var/openfaas/secrets"] {
        read_only(path)?;
    }
    Ok(())
}

fn tmpfs(mode: &str, bytes: u64) -> io::Result<OwnedFd> {
    // A file costs memory even if it is empty.
    let inodes = (bytes / 4096).max(FILES_MIN).to_string();
    let options = [("mode", mode), ("size", &bytes.to_string()), ("nr_inodes", &inodes)];
    filesystem("tmpfs", &options, MountAttrFlags::empty())
}

/// A filesystem that is not attached anywhere yet; never with set-user-id files.
fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let made = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            fsconfig_set_string(&context, *key, *value)?;
        }
        fsconfig_create(&context)?;
        let attributes = attributes | MountAttrFlags::MOUNT_ATTR_NOSUID;
        // The nodes of devpts are devices.
        let attributes =
            if kind == "devpts" { attributes } else { attributes | MountAttrFlags::MOUNT_ATTR_NODEV };
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    made().map_err(|error| io::Error::other(format!("make a {kind}: {error}")))
}

fn attach(mount: OwnedFd, at: impl AsRef<Path>) -> io::Result<()> {
    let at = at.as_ref();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(&mount, "", CWD, at, flags)
        .map_err(|error| io::Error::other(format!("mount at {}: {error}", at.display())))
}

/// A folder of the root itself to mount something on: what an image has there instead, such as a link to elsewhere, goes.
fn place(path: &str, mode: u32) -> io::Result<()> {
    let path = Path::new(path);
    // On the way to it a link may stay, as long as it leads to a folder of the same root.
    let way = path.ancestors().skip(1).filter(|above| !above.is_dir());
    for above in way.collect::<Vec<_>>().into_iter().rev() {
        if fs::symlink_metadata(above).is_ok() {
            fs::remove_file(above)?;
        }
        folder(above, 0o755)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
        fs::remove_file(path)?;
    }
    folder(path, mode)
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Writes a file anew, in place of whatever is there under its name.
fn write(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
    use std::io::Write as _;
    // Not there is as good.
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    file.write_all(bytes.as_ref())
}
