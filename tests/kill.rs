//! A process that drives a card and is killed, at any moment: the card does nothing for it any more, and the next one
//! finds it as new. Fifty times a day; `VFNIC_KILLS=1000 cargo test --release --test kill` before a release.
#![forbid(unsafe_code)]

mod common;
#[path = "../sim/tests/dice/mod.rs"]
mod dice;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Station, frame};
use dice::Dice;
use vfnic::{MacAddr, Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::serve::{CardVf, Limits, Server};
use vfnic_sim::{Card, ViolationKind};

/// Where the child finds its VF.
const SOCKET: &str = "VFNIC_KILL_SOCKET";
/// TIMEOUT: how long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The child: opens the VF and sends and receives until it is killed. Without its variable it is no test.
#[test]
fn child() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let spec = format!("vfio-user:{}", Path::new(&socket).display());
    let port = Port::open_with(&spec, PortConfig::default()).expect("the card is served");
    let mut pair = port.start().expect("starts").remove(0);
    let mut batch = port.batch(64);
    let own = port.mac().0;
    let end = Instant::now() + 3 * PATIENCE;
    for number in 0.. {
        if Instant::now() > end {
            panic!("nobody killed it");
        }
        let made = frame(MacAddr::BROADCAST, own, number, 64 + number as usize % 1400);
        if batch.push_bytes(&made).is_ok() {
            pair.tx.send(&mut batch).expect("the server is there");
        }
        batch.clear();
        pair.rx.receive(&mut batch).expect("the server is there");
        batch.clear();
        if number % 64 == 0 {
            port.poll_control().expect("the server is there");
        }
    }
}

struct Bed {
    dir: PathBuf,
    card: Arc<Card>,
    server: Option<Server>,
}

impl Bed {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("vfnic-kill-{}", std::process::id()));
        let card = Card::builder(Model::X540).vfs(2).threaded().build();
        let card = Arc::new(card.expect("a card"));
        // VF 1 stays with this process: only VF 0 is served.
        let functions = CardVf::all(&card).into_iter().take(1).collect();
        let server = Server::start(&dir, functions, Limits::default()).expect("a server");
        Self {
            dir,
            card,
            server: Some(server),
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("vf0.sock")
    }

    fn child(&self) -> Child {
        Command::new(std::env::current_exe().expect("this test"))
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(SOCKET, self.socket())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Memory that `child` shares with the card.
fn shared(child: &Child) -> Vec<File> {
    let dir = format!("/proc/{}/fd", child.id());
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let target = std::fs::read_link(&path).ok()?;
            // What a descriptor of such memory is called, whoever made it.
            let memory = target.to_string_lossy().starts_with("/memfd:");
            memory.then(|| File::open(path).ok()).flatten()
        })
        .collect()
}

/// What is in it.
fn contents(memory: &[File]) -> Vec<Vec<u8>> {
    let all = |file: &File| {
        let len = file.metadata().expect("open").len();
        let mut bytes = vec![0; usize::try_from(len).expect("mapped")];
        file.read_exact_at(&mut bytes, 0).expect("its own length");
        bytes
    };
    memory.iter().map(all).collect()
}

/// Opens `spec` as soon as its last owner's death is known.
fn reopen(spec: &str) -> Port {
    let begin = Instant::now();
    loop {
        match Port::open_with(spec, PortConfig::default()) {
            Ok(port) => return port,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for `what`, looking after the neighbour.
fn wait(neighbour: &mut Station, mut what: impl FnMut(&mut Station) -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        neighbour.port.poll_control().expect("there");
        if what(neighbour) {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    false
}

/// Frames to everybody, the dead as well.
fn flood(neighbour: &mut Station) {
    let own = neighbour.mac();
    let frames: Vec<_> = (0..32)
        .map(|number| frame(MacAddr::BROADCAST, own, number, 1000))
        .collect();
    neighbour.try_send(&frames);
}

#[test]
fn h17_a_process_killed_at_any_moment_leaves_a_card_that_works() {
    let kills: u64 = std::env::var("VFNIC_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(50);
    let bed = Bed::new();
    let spec = format!("vfio-user:{}", bed.socket().display());
    let mut neighbour = Station::new(&bed.card, 1, PortConfig::default());
    assert!(wait(&mut neighbour, |station| station.port.link().is_up()));
    let (mut dice, mut in_traffic) = (Dice::new(1), 0);
    for kill in 0..kills {
        neighbour.receive();
        let mut child = bed.child();
        // Half of them while they open and configure, half in full traffic.
        if kill % 2 == 0 {
            std::thread::sleep(Duration::from_micros(dice.below(40_000)));
        } else {
            let came = wait(&mut neighbour, |station| !station.receive().is_empty());
            assert!(came, "kill {kill}: the child sends nothing");
            std::thread::sleep(Duration::from_micros(dice.below(3_000)));
        }
        let memory = shared(&child);
        if kill % 2 == 1 {
            assert!(!memory.is_empty(), "kill {kill}: no memory to look at");
            // The positive control: while it lives, the card writes there.
            let before = contents(&memory);
            flood(&mut neighbour);
            let changed = wait(&mut neighbour, |station| {
                station.receive();
                contents(&memory) != before
            });
            assert!(changed, "kill {kill}: the card writes nothing");
        }
        child.kill().expect("it runs");
        child.wait().expect("it is dead");
        in_traffic += u32::from(!neighbour.receive().is_empty());
        // The next one gets it, and it works.
        let port = reopen(&spec);
        let at_rest = bed.card.vf_stats(0).expect("there");
        let mut next = Station::of(port, Vec::new());
        let as_it_was = contents(&memory);
        flood(&mut neighbour);
        std::thread::sleep(Duration::from_micros(500));
        assert!(
            contents(&memory) == as_it_was,
            "kill {kill}: the card writes to the dead one's memory"
        );
        let still = bed.card.vf_stats(0).expect("there");
        assert_eq!(
            (at_rest.taken, at_rest.delivered),
            (still.taken, still.delivered),
            "kill {kill}: the card went on for the dead"
        );
        next.pairs = next.port.start().expect("starts");
        let begin = Instant::now();
        while !next.port.link().is_up() {
            next.port.poll_control().expect("there");
            assert!(begin.elapsed() < PATIENCE, "no link");
        }
        neighbour.receive();
        let sent = [frame(neighbour.mac(), next.mac(), 7, 300)];
        next.send(&sent);
        assert!(
            wait(&mut neighbour, |station| station.receive() == sent),
            "kill {kill}: nothing arrives from the next one"
        );
        drop(next);
        for violation in bed.card.take_violations() {
            assert!(
                !matches!(
                    violation.kind,
                    ViolationKind::DmaFault { .. } | ViolationKind::UnmapWhileEnabled { .. }
                ),
                "kill {kill}: {violation}"
            );
        }
    }
    println!("{kills} kills, {in_traffic} of them in traffic");
    assert!(
        in_traffic > 0,
        "the positive control: some were killed in traffic"
    );
}
