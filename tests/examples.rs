//! The examples do what they say: each runs here as it is, and fails when a frame does not come back.
#![forbid(unsafe_code)]
#![expect(
    clippy::duplicate_mod,
    reason = "each example is a program of its own, with its own copy of what they share"
)]

#[path = "../driver/examples/adaptive_poller.rs"]
mod adaptive_poller;
#[path = "../driver/examples/bond.rs"]
mod bond;
#[path = "../driver/examples/fan_out.rs"]
mod fan_out;
#[path = "../driver/examples/firewall.rs"]
mod firewall;
#[path = "../driver/examples/handed_fds.rs"]
mod handed_fds;
#[path = "../driver/examples/http_server.rs"]
mod http_server;
#[path = "../driver/examples/kubernetes_pod.rs"]
mod kubernetes_pod;
#[path = "../driver/examples/mio_loop.rs"]
mod mio_loop;
#[path = "../driver/examples/multi_queue.rs"]
mod multi_queue;
#[path = "../driver/examples/poll_loop.rs"]
mod poll_loop;
#[path = "../driver/examples/tokio_stream.rs"]
mod tokio_stream;
#[path = "../driver/examples/two_ports.rs"]
mod two_ports;

#[test]
fn a_plain_poll_loop() {
    poll_loop::main().expect("all frames came back");
}

#[test]
fn an_adaptive_poller() {
    adaptive_poller::main().expect("all frames came back");
}

#[test]
fn a_thread_for_each_queue() {
    multi_queue::main().expect("all frames came back, over both queues");
}

#[test]
fn one_queue_for_several_threads() {
    fan_out::main().expect("all frames came back, each worker had its share");
}

#[test]
fn in_a_mio_loop() {
    mio_loop::main().expect("all frames came back");
}

#[test]
fn in_a_tokio_program() {
    tokio_stream::main().expect("all frames came back");
}

#[test]
fn two_ports_in_one_space() {
    two_ports::main().expect("all frames came back");
}

#[test]
fn two_vfs_as_one() {
    bond::main().expect("another took over");
}

#[test]
fn a_firewall_between_two_ports() {
    firewall::main().expect("only what the rules allow came through");
}

#[test]
fn in_a_pod_or_not() {
    kubernetes_pod::main().expect("a port was served");
}

/// In a container whose devices are not there (Kata's have other addresses): the first of the plugin's list is named, and the
/// other form of the variable is not taken for a list.
#[test]
fn in_a_pod_whose_devices_are_absent() {
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "in_a_pod_or_not", "--nocapture"])
        .env("PCIDEVICE_INTEL_COM_VFNIC_WAN", "0000:77:10.2,0000:77:10.0")
        .env(
            "PCIDEVICE_INTEL_COM_VFNIC_WAN_INFO",
            r#"{"0000:77:10.0":{"vfio":{"dev-mount":"/dev/vfio/9"}},"0000:77:10.2":{}}"#,
        )
        .output()
        .expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    assert!(
        error.contains("0000:77:10.2") && !error.contains("0000:77:10.0"),
        "{error}"
    );
}

/// In a process of its own this same test is the child.
#[test]
fn fds_of_a_privileged_parent() {
    let arguments = ["--exact", "fds_of_a_privileged_parent", "--nocapture"];
    handed_fds::run(&arguments).expect("all frames came back from the child");
}

/// Asked by this machine's own stack where a TAP interface can be had, by another VF's otherwise.
#[test]
fn a_web_server_with_an_ip_stack_of_its_own() {
    http_server::main().expect("the page came");
}
