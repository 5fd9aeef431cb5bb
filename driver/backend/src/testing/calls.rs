//! What the calls of a test's thread come to: failures that were planned for some, and answers of a kernel of its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::rc::Rc;

/// Answers ioctls in the kernel's place: (file, number, argument) to a result or an errno.
pub(crate) type Answer = dyn Fn(&File, u32, u64) -> Result<c_int, c_int>;

thread_local! {
    static PLAN: RefCell<VecDeque<Option<i32>>> = const { RefCell::new(VecDeque::new()) };
    static DENIED: Cell<u32> = const { Cell::new(0) };
    static KERNEL: RefCell<Option<Rc<Answer>>> = const { RefCell::new(None) };
}

/// What the next calls come to, each once: an errno, or to be let through.
pub(crate) fn plan(calls: impl IntoIterator<Item = Option<i32>>) {
    PLAN.set(calls.into_iter().collect());
}

/// How many planned calls have not been made.
pub(crate) fn left() -> usize {
    PLAN.with_borrow(VecDeque::len)
}

pub(crate) fn next() -> Option<io::Error> {
    PLAN.with_borrow_mut(VecDeque::pop_front)
        .flatten()
        .map(io::Error::from_raw_os_error)
}

/// Denies the next so many openings of nodes.
pub(crate) fn deny(times: u32) {
    DENIED.set(times);
}

/// How many openings are still to be denied.
pub(crate) fn denials_left() -> u32 {
    DENIED.get()
}

/// What the opening of a node comes to, unless it is let through.
pub(crate) fn denied() -> Option<io::Error> {
    let left = DENIED.get().checked_sub(1)?;
    DENIED.set(left);
    Some(io::Error::from_raw_os_error(libc::EACCES))
}

/// Who answers this thread's ioctls from now on; `None` is the real kernel again.
pub(crate) fn set_kernel(kernel: Option<Rc<Answer>>) {
    KERNEL.set(kernel);
}

/// What this call comes to, unless it is the real kernel's to answer.
pub(crate) fn answer(file: &File, number: u32, argument: u64) -> Option<io::Result<c_int>> {
    if let Some(error) = next() {
        return Some(Err(error));
    }
    let kernel = KERNEL.with_borrow(Clone::clone)?;
    Some(kernel(file, number, argument).map_err(io::Error::from_raw_os_error))
}
