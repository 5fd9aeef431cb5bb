//! Output compared with what it was when somebody looked at it.

use std::fs;
use std::path::Path;

/// Compares `text` with `snapshots/NAME`; with the variable VFNIC_BLESS set, that is written anew instead.
pub(crate) fn check(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/host/snapshots")
        .join(name);
    if std::env::var_os("VFNIC_BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder");
        fs::write(&file, text).expect("the snapshot is written");
    }
    let known = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; set VFNIC_BLESS=1 once", file.display()));
    assert!(
        known == text,
        "{name} has changed; look at it, and set VFNIC_BLESS=1 if it is right.\n--- was\n{known}\n--- is\n{text}"
    );
}
