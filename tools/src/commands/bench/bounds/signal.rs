//! Commands that go on for long, told to end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use rustix::process::{Pid, Signal, kill_process};
use vfnic::{Port, PortConfig};
use vfnic_hw::Model;

use super::bed::{End, NEVER};
use super::record;
use crate::apps::has_signal;
use crate::dice::Dice;
use crate::traffic::latency_histogram;

/// The commands that have something to do still when they are told to end; MODEL is one, DIR a directory.
pub(super) const COMMANDS: [&str; 10] = [
    SERVE,
    "fwd sim:MODEL/0 sim:MODEL/1",
    "gen --device sim:MODEL --to 02:00:00:00:00:01 --rate 100k",
    "sink --device sim:MODEL",
    "echo --device sim:MODEL",
    "capture --device sim:MODEL",
    "stats --device sim:MODEL --watch 1s",
    "soak --model MODEL --duration 1m",
    "demo --model MODEL --duration 1m",
    "watch --device sim:MODEL",
];
const SERVE: &str = "sim serve --model MODEL --socket-dir DIR";

/// For how many microseconds one is under way when it is told. The first of several signals may be caught before the rest of
/// what catches it is there.
const UNDER_WAY: (u64, u64) = (2_000, 300_000);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_micros(200);

/// What a command is called.
pub(super) fn name(command: &str) -> &str {
    if command == SERVE {
        return "sim serve";
    }
    command.split(' ').next().unwrap_or(command)
}

/// Times from the signal to the end.
pub(super) fn times(
    command: &str,
    models: &[Model],
    repeat: u32,
    dice: &mut Dice,
) -> anyhow::Result<Histogram<u64>> {
    let mut took = latency_histogram();
    let dir = std::env::temp_dir().join(format!("vfnic-bounds-{}", std::process::id()));
    for number in 0..repeat as usize {
        let model = models[number % models.len()];
        let pause = Duration::from_micros(dice.between(UNDER_WAY.0, UNDER_WAY.1));
        record(&mut took, once(command, model, &dir, pause)?);
    }
    Ok(took)
}

fn once(command: &str, model: Model, dir: &Path, pause: Duration) -> anyhow::Result<Duration> {
    let arguments = command.split(' ').map(|word| match word {
        "DIR" => dir.to_owned(),
        _ => PathBuf::from(word.replace("MODEL", model.name())),
    });
    let running = Command::new(std::env::current_exe().context("where this program is")?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start it")?;
    let mut running = Running(running);
    running.until_it_catches_signals()?;
    let client = (command == SERVE).then(|| Client::on(&dir.join("vf0.sock")));
    let mut client = client.transpose()?;
    match &mut client {
        Some(client) => client.traffic(pause)?,
        None => std::thread::sleep(pause),
    }
    let begin = Instant::now();
    kill_process(Pid::from_child(&running.0), Signal::TERM).context("cannot signal it")?;
    let status = running.end()?;
    let took = begin.elapsed();
    ensure!(
        status.code().is_some(),
        "SIGTERM killed it ({status}) instead of telling it to end"
    );
    if command == SERVE {
        // It removes its sockets itself.
        std::fs::remove_dir(dir).with_context(|| format!("{}", dir.display()))?;
    }
    Ok(took)
}

/// A command under way; not beyond this.
struct Running(Child);

impl Running {
    /// Before that a signal ends it at once, and nothing is learnt.
    fn until_it_catches_signals(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let path = format!("/proc/{}/status", self.0.id());
        loop {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            if has_signal(&status, "SigCgt:", Signal::TERM.as_raw()) {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("it ended by itself: {status}");
            }
            ensure!(begin.elapsed() < NEVER, "it does not begin");
            std::thread::sleep(LOOK);
        }
    }

    fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            ensure!(begin.elapsed() < NEVER, "it does not end");
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of a served card.
struct Client(End);

impl Client {
    fn on(socket: &Path) -> anyhow::Result<Self> {
        let begin = Instant::now();
        let spec = format!("vfio-user:{}", socket.display());
        loop {
            match Port::open_with(&spec, PortConfig::default()) {
                Ok(port) => {
                    let own = port.mac().0.0;
                    return Ok(Self(End::start(port, own)?));
                }
                // It is not served yet.
                Err(error) => ensure!(begin.elapsed() < NEVER, "{error}"),
            }
            std::thread::sleep(LOOK);
        }
    }

    fn traffic(&mut self, time: Duration) -> anyhow::Result<()> {
        let begin = Instant::now();
        Ok(self.0.turn_until(|| begin.elapsed() >= time)?)
    }
}
