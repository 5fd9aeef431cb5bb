//! Confinement: what a confined process cannot do any more, and which commands are confined.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vfnic_tools::confine::Keep;

/// Set in the process that tries what is forbidden.
const CHILD: &str = "VFNIC_SANDBOX_CHILD";

/// The child: one line for each thing it tries, before and after. Without its variable it is no test.
#[test]
fn child() {
    let (Some(keep), Some(dir)) = (
        std::env::var_os(CHILD),
        std::env::var_os("VFNIC_SANDBOX_DIR"),
    ) else {
        return;
    };
    let (dir, outside) = (Path::new(&dir).join("in"), Path::new(&dir).join("out"));
    let attempts = || {
        let word = |good: bool| if good { "ok" } else { "refused" };
        [
            ("open", std::fs::File::open("/proc/self/status").is_ok()),
            ("create", std::fs::write(dir.join("new"), "x").is_ok()),
            ("socket", std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
            ("listen", std::net::TcpListener::bind("127.0.0.1:0").is_ok()),
            ("unix", std::os::unix::net::UnixDatagram::unbound().is_ok()),
            ("exec", Command::new("/bin/true").status().is_ok()),
            ("list", std::fs::read_dir("/").is_ok()),
        ]
        .map(|(what, good)| format!("{what} {}", word(good)))
    };
    println!("\nbefore {}", attempts().join(" "));
    vfnic_tools::confine::arm();
    vfnic_tools::confine::enter(match keep.to_str() {
        Some("create") => Keep::CreateBelow(&dir),
        Some("remove") => Keep::RemoveBelow(&dir),
        _ => Keep::Nothing,
    });
    println!("after {}", attempts().join(" "));
    // In a thread that is older than nobody.
    let inside = std::thread::spawn(|| std::fs::File::open("/proc/self/status").is_err());
    println!("thread {}", inside.join().expect("threads work"));
    let sum: u64 = vec![1_u8; 1 << 24]
        .iter()
        .map(|byte| u64::from(*byte))
        .sum();
    println!("memory {sum}");
    println!(
        "elsewhere {}",
        std::fs::write(outside.join("new"), "x").is_ok()
    );
    println!("removed {}", std::fs::remove_file(dir.join("mine")).is_ok());
    println!(
        "taken {}",
        std::fs::remove_file(outside.join("mine")).is_ok()
    );
}

/// What the child says with this kept: by the line's first word.
fn told(keep: &str) -> impl Fn(&str) -> String {
    let dir = std::env::temp_dir().join(format!("vfnic-sandbox-{keep}-{}", std::process::id()));
    for part in ["in", "out"] {
        std::fs::create_dir_all(dir.join(part)).expect("a directory");
        std::fs::write(dir.join(part).join("mine"), "x").expect("a file");
    }
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "sandbox::child",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, keep)
        .env("VFNIC_SANDBOX_DIR", &dir)
        .output()
        .expect("a process");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    std::fs::remove_dir_all(dir).expect("there");
    move |word| {
        out.lines()
            .find_map(|line| line.strip_prefix(word))
            .unwrap_or_else(|| panic!("no `{word}` in {out}"))
            .trim()
            .to_owned()
    }
}

const ATTEMPTS: [&str; 7] = ["open", "create", "socket", "listen", "unix", "exec", "list"];

fn all(verdict: &str) -> String {
    ATTEMPTS.map(|what| format!("{what} {verdict}")).join(" ")
}

#[test]
fn a_confined_process_gets_no_file_no_socket_and_no_program() {
    let line = told("nothing");
    assert_eq!(line("before "), all("ok"), "the positive control");
    assert_eq!(line("after "), all("refused"));
    assert_eq!(line("thread "), "true");
    assert_eq!(line("memory "), (1 << 24).to_string());
    for word in ["elsewhere ", "removed ", "taken "] {
        assert_eq!(line(word), "false", "{word}");
    }
}

#[test]
fn one_that_has_files_to_write_writes_them_where_it_said() {
    let line = told("create");
    assert_eq!(line("before "), all("ok"), "the positive control");
    assert_eq!(
        line("after "),
        all("refused").replace("create refused", "create ok")
    );
    assert_eq!(line("thread "), "true");
    assert_eq!(line("removed "), "false");
    // Where is Landlock's to say.
    if has_landlock() {
        assert_eq!(line("elsewhere "), "false");
    }
}

#[test]
fn one_that_has_files_to_remove_removes_them_where_it_said() {
    let line = told("remove");
    assert_eq!(line("after "), all("refused"));
    assert_eq!(line("elsewhere "), "false");
    assert_eq!(line("removed "), "true");
    if has_landlock() {
        assert_eq!(line("taken "), "false");
    }
}

/// Whether this kernel confines file accesses: what the command says of it.
fn has_landlock() -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(["-v", "demo", "--duration", "1ms"])
        .env_remove("VFNIC_LOG")
        .output()
        .expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("confined by Landlock"),
        "it says so: {error}"
    );
    assert!(error.contains("confined by seccomp"), "it says so: {error}");
    !error.contains("not confined by Landlock")
}

/// A command under way, stopped in the end.
struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_vfnic"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        Self(child.expect("the command runs"))
    }

    /// Whether it comes under a seccomp filter within a while.
    fn is_confined(&self, patience: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            let path = format!("/proc/{}/status", self.0.id());
            let status = std::fs::read_to_string(path).unwrap_or_default();
            if status.lines().any(|line| line == "Seccomp:\t2") {
                // Every thread of it.
                let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id()));
                return threads.expect("it runs").all(|thread| {
                    let path = thread.expect("it runs").path().join("status");
                    std::fs::read_to_string(path).is_ok_and(|text| text.contains("Seccomp:\t2"))
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this test itself runs under a filter, as in a container: then nothing can be told from that.
fn already_confined() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2"))
}

#[test]
fn every_command_that_goes_on_for_long_is_confined() {
    if already_confined() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("vfnic-served-{}", std::process::id()));
    let serve = format!(
        "sim serve --model i350 --metrics 127.0.0.1:0 --socket-dir {}",
        dir.display()
    );
    for command in [
        "soak --duration 1m",
        "soak --overload --duration 1m",
        "demo --duration 1m",
        "fwd sim:82599/0 sim:82599/1 --duration 1m",
        "gen --device sim:82599 --to 02:00:00:00:00:01 --rate 1000 --duration 1m",
        "sink --device sim:x540 --duration 1m",
        "echo --device sim:x550 --duration 1m",
        "capture --device sim:i350 --duration 1m",
        "stats --device sim:i350 --watch 1s --metrics 127.0.0.1:0",
        "watch --device sim:82576",
        "ping --device sim:82599 --address 192.0.2.9/24 192.0.2.1 --count 100",
        "bench throughput --duration 1m",
        "bench rfc2544 --trial 1m",
        "bench latency --duration 1m",
        "bench bounds --bound drop --repeat 100000",
        &serve,
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let running = Running::start(&arguments);
        assert!(running.is_confined(Duration::from_secs(20)), "{command}");
    }
    // Nobody was there to remove the sockets.
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn unless_told_otherwise() {
    if already_confined() {
        return;
    }
    let mut running = Running::start(&["--no-sandbox", "soak", "--duration", "1m"]);
    let out = running.0.stdout.take().expect("piped");
    let mut line = String::new();
    BufReader::new(out)
        .read_line(&mut line)
        .expect("it says that it begins");
    assert!(line.starts_with("seed"), "{line}");
    assert!(!running.is_confined(Duration::from_millis(200)));
}
