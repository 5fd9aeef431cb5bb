//! What a host says about its PFs and VFs, and changing it.
//!
//! Reading is [`Host`]; every root it reads from can be another folder than the system's, so that a tree collected
//! elsewhere can be looked at and tests need no machine. Changing is [`change`]: an ordered list of writes, each verified
//! by its effect, all taken back when one fails.

pub mod cards;
pub mod change;
pub mod function;
pub mod holders;
pub mod kubernetes;
pub mod links;
pub mod machine;
pub mod netlink;
pub mod nova;
pub mod routes;
pub mod select;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use vfnic::backend::{PciAddress, Sysfs};

use links::{Links, NoLinks, RecordedLinks};

/// A file that is read in full has at most this many bytes; those of /proc and /sys have far fewer.
pub(crate) const LARGEST: u64 = 1 << 20;

/// Which host to look at.
#[derive(Clone, Debug, Default, Args)]
pub struct At {
    /// Look at the files under DIR (sys, proc, dev, links.json, environ) in place of this machine's
    #[arg(long, value_name = "DIR", global = false)]
    pub root: Option<PathBuf>,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    /// What comes before `/sys`, `/proc` and `/dev`; nothing on the machine itself.
    root: PathBuf,
    sysfs: Sysfs,
    links: Box<dyn Links>,
    environment: BTreeMap<String, String>,
}

impl At {
    /// The host meant.
    ///
    /// # Errors
    ///
    /// When the folder given is none.
    pub fn host(&self) -> anyhow::Result<Host> {
        match &self.root {
            None => Ok(Host::system()),
            Some(root) if root.join("sys").is_dir() => Ok(Host::at(root)),
            Some(root) => anyhow::bail!(
                "{} holds no folder `sys`; --root wants a folder with copies of sys, proc and dev",
                root.display()
            ),
        }
    }
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            root: PathBuf::from("/"),
            sysfs: Sysfs::new("/sys"),
            links: Box::new(netlink::Kernel),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        }
    }

    /// The machine whose files are under `root`: `sys`, `proc`, `dev`; what netlink would say in `links.json`, if
    /// anything; the environment in `environ`, a `NAME=VALUE` on each line.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        let environment = text(&root.join("environ"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let record = root.join("links.json");
        let links: Box<dyn Links> = if record.exists() {
            Box::new(RecordedLinks::new(record))
        } else {
            Box::new(NoLinks)
        };
        Self {
            root: root.to_owned(),
            sysfs: Sysfs::new(root.join("sys")),
            links,
            environment,
        }
    }

    /// Whether this is the machine the program runs on, not a tree of copies.
    #[must_use]
    pub fn is_this(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Its sysfs.
    #[must_use]
    pub const fn sysfs(&self) -> &Sysfs {
        &self.sysfs
    }

    /// Its PFs' knobs.
    #[must_use]
    pub fn links(&self) -> &dyn Links {
        self.links.as_ref()
    }

    /// A variable of the environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// The environment.
    #[must_use]
    pub const fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Where `path`, as it is called on the host (`/proc/cmdline`), is found.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What a path is called on the host itself.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(&self.root) {
            Ok(rest) => format!("/{}", rest.display()),
            Err(_) => path.display().to_string(),
        }
    }

    /// The text of a file by its name on the host, trimmed; `None` when it is not there or not to be read.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        text(&self.path(path))
    }

    /// As [`read`](Self::read), with what went wrong.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn try_read(&self, path: &str) -> io::Result<String> {
        try_text(&self.path(path))
    }

    /// Whether there is such a file or folder.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a folder, ascending; none when it is not there.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
    }

    /// A function's folder, as it is called on the host.
    #[must_use]
    pub fn function_path(&self, address: PciAddress) -> String {
        format!("/sys/bus/pci/devices/{address}")
    }

    /// The interface that reaches a PF's knobs, when the PF is visible and has one.
    #[must_use]
    pub fn pf_interface(&self, pf: PciAddress) -> Option<String> {
        self.sysfs.interfaces(pf).into_iter().next()
    }
}

fn text(path: &Path) -> Option<String> {
    try_text(path).ok()
}

fn try_text(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(LARGEST)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
