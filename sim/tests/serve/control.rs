//! The control socket of a served card.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use vfnic_hw::Model;
use vfnic_sim::Card;
use vfnic_sim::serve::{Control, KnobError, ask, control_path};

use crate::client::*;

fn served() -> (Arc<Card>, Control, Dir) {
    let card = Arc::new(
        Card::builder(Model::X540)
            .vfs(2)
            .threaded()
            .build()
            .expect("a card"),
    );
    let dir = Dir::new();
    let control = Control::start(dir.path(), card.clone(), |value| value["more"] = 7.into())
        .expect("a control socket");
    (card, control, dir)
}

#[test]
fn a_running_card_is_changed_and_shown() {
    let (card, control, dir) = served();
    let mode = std::fs::metadata(control_path(dir.path()))
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let done = ask(dir.path(), "vf 1 mac 02:00:00:00:00:0a trust on").expect("an answer");
    assert!(done.is_ok());
    assert!(card.pf().vf(1).expect("a VF").trust);
    let shown = ask(dir.path(), "show").expect("an answer").expect("shown");
    assert_eq!(shown["vfs"][1]["mac"], "02:00:00:00:00:0a");
    assert_eq!(shown["more"], 7);
    assert!(matches!(
        ask(dir.path(), "vf 9 trust on"),
        Ok(Err(KnobError::Refused(_)))
    ));
    assert!(matches!(
        ask(dir.path(), "vf 0 trust\nmaybe"),
        Ok(Err(KnobError::Usage(_)))
    ));
    drop(control);
    assert!(!control_path(dir.path()).exists());
    assert!(ask(dir.path(), "show").is_err());
}

#[test]
fn broken_requests_hold_up_nobody() {
    let (_card, _control, dir) = served();
    let connect = || UnixStream::connect(control_path(dir.path())).expect("a connection");
    let start = Instant::now();
    // Nothing, half a line, no end, no text.
    drop(connect());
    let mut half = connect();
    half.write_all(b"show").expect("written");
    let mut endless = connect();
    let _ = endless.write_all(&[b'x'; 100_000]);
    let mut bytes = connect();
    bytes.write_all(b"\xff\xfe\n").expect("written");
    let shown = ask(dir.path(), "show").expect("an answer");
    assert!(shown.is_ok());
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    let mut rest = Vec::new();
    bytes.read_to_end(&mut rest).expect("an end");
    assert!(rest.is_empty());
}
