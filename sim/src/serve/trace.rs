//! What clients do to a function, written down: one line an access, with the registers' names.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use vfnic_hw::regs::{self, Reg, igbvf, ixgbevf};
use vfnic_hw::{Event, Family, Model, PciError};

use super::backend::{VfBackend, VfSource};
use crate::dma::Mapping;

/// Where traces go; clones write to the same place.
#[derive(Clone)]
pub struct Trace {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    start: Instant,
}

impl Trace {
    /// Traces to `out`. What cannot be written is lost; a trace never stops the card.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out: Arc::new(Mutex::new(out)),
            start: Instant::now(),
        }
    }

    /// Writes out what is buffered.
    pub fn flush(&self) {
        let _ = self
            .out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush();
    }

    fn line(&self, vf: usize, what: fmt::Arguments<'_>) {
        let time = self.start.elapsed();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(
            out,
            "{:5}.{:06} vf{vf} {what}",
            time.as_secs(),
            time.subsec_micros()
        );
    }

    /// The same functions, with everything that is done to them written down.
    #[must_use]
    pub fn over(&self, model: Model, sources: Vec<Arc<dyn VfSource>>) -> Vec<Arc<dyn VfSource>> {
        let table = match model.family() {
            Family::Igbvf => igbvf::ALL,
            Family::Ixgbevf => ixgbevf::ALL,
        };
        let traced = |(vf, source)| {
            Arc::new(Traced {
                trace: self.clone(),
                table,
                vf,
                source,
            }) as Arc<dyn VfSource>
        };
        sources.into_iter().enumerate().map(traced).collect()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Traced<S> {
    trace: Trace,
    table: &'static [Reg],
    vf: usize,
    source: S,
}

impl<S> Traced<S> {
    fn line(&self, what: fmt::Arguments<'_>) {
        self.trace.line(self.vf, what);
    }

    fn register(&self, offset: u32) -> String {
        match regs::find(self.table, offset) {
            Some((register, index)) if register.count > 1 => format!("{}({index})", register.name),
            Some((register, _)) => register.name.to_owned(),
            None => format!("{offset:#06x}"),
        }
    }
}

impl VfSource for Traced<Arc<dyn VfSource>> {
    fn open(&self) -> Result<Box<dyn VfBackend>, PciError> {
        let source = self.source.open()?;
        self.line(format_args!("opened"));
        Ok(Box::new(Traced {
            trace: self.trace.clone(),
            table: self.table,
            vf: self.vf,
            source: Closing {
                trace: self.trace.clone(),
                vf: self.vf,
                backend: source,
            },
        }))
    }
}

/// Says when the function is given back, and has the trace written out.
#[derive(Debug)]
struct Closing {
    trace: Trace,
    vf: usize,
    backend: Box<dyn VfBackend>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.trace.line(self.vf, format_args!("closed"));
        self.trace.flush();
    }
}

impl VfBackend for Traced<Closing> {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.source.backend.config_read(offset, data);
        if data.len() <= 8 {
            self.line(format_args!("config R {offset:#05x} {data:02x?}"));
        }
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.line(format_args!("config W {offset:#05x} {data:02x?}"));
        self.source.backend.config_write(offset, data);
    }

    fn bar_read(&mut self, offset: u32) -> u32 {
        let value = self.source.backend.bar_read(offset);
        self.line(format_args!("R {} {value:#010x}", self.register(offset)));
        value
    }

    fn bar_write(&mut self, offset: u32, value: u32) {
        self.line(format_args!("W {} {value:#010x}", self.register(offset)));
        self.source.backend.bar_write(offset, value);
    }

    fn vectors(&self) -> u32 {
        self.source.backend.vectors()
    }

    fn route_vectors(&mut self, events: &[Event]) -> Result<(), PciError> {
        let state = if events.is_empty() { "off" } else { "on" };
        self.line(format_args!("MSI-X {state}"));
        self.source.backend.route_vectors(events)
    }

    fn map(&mut self, mapping: Mapping) {
        self.line(format_args!(
            "map {:#x} {:#x}",
            mapping.iova(),
            mapping.len()
        ));
        self.source.backend.map(mapping);
    }

    fn unmap(&mut self, first: u64, last: u64) {
        self.line(format_args!("unmap {first:#x} to {last:#x}"));
        self.source.backend.unmap(first, last);
    }

    fn reset(&mut self) -> Result<(), PciError> {
        self.line(format_args!("reset"));
        self.source.backend.reset()
    }

    fn error_event(&self) -> Option<Event> {
        self.source.backend.error_event()
    }

    fn request_event(&self) -> Option<Event> {
        self.source.backend.request_event()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::Blank;

    /// A place that the test can read.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panicked").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn accesses_are_written_down_by_name() {
        let page = Page::default();
        let trace = Trace::new(Box::new(page.clone()));
        let sources = trace.over(
            Model::I82599,
            vec![Arc::new(Blank::default()) as Arc<dyn VfSource>],
        );
        let mut backend = sources[0].open().expect("a function");
        backend.bar_write(0x200 + 8, 5);
        assert_eq!(backend.bar_read(0x208), 5);
        backend.bar_write(0x3ffc, 1);
        drop(backend);
        let text =
            String::from_utf8(page.0.lock().expect("nobody panicked").clone()).expect("text");
        let lines: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(" vf0 "))
            .map(|(_, what)| what)
            .collect();
        let expected = [
            "opened",
            "W VFMBMEM(2) 0x00000005",
            "R VFMBMEM(2) 0x00000005",
            "W 0x3ffc 0x00000001",
            "closed",
        ];
        assert_eq!(lines, expected);
    }
}
