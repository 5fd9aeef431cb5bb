//! The line that shows a run as it goes.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One line on standard error, overwritten at every update; nothing at all where that is not a terminal.
#[derive(Debug)]
pub struct LiveLine(ProgressBar);

impl LiveLine {
    /// A line, or with `quiet` none.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is a constant; should a later version of the library not take it, its default shows the text as well.
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows `text` instead of what was there.
    pub fn show(&self, text: String) {
        self.0.set_message(text);
        self.0.tick();
    }
}

impl Drop for LiveLine {
    /// Takes the line away, so that what follows starts on a clean one.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
