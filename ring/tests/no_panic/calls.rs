//! Assembler text as a graph of calls.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// A function: its code in pieces that are entered at their beginning only.
#[derive(Debug, Default)]
struct Function {
    blocks: Vec<Block>,
    /// Which block a local label begins.
    labels: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Block {
    /// Functions called or jumped to.
    calls: Vec<String>,
    /// Local labels jumped to.
    jumps: Vec<String>,
    /// Jumps by a table.
    switches: bool,
    /// Never goes on to the next.
    ends: bool,
}

/// All code that was compiled together.
#[derive(Debug, Default)]
pub(crate) struct Program {
    functions: HashMap<String, Function>,
    /// Labels in jump tables.
    tables: Vec<String>,
}

impl Program {
    /// The text of these crates, from where this executable was built.
    pub(crate) fn beside_this_executable(crates: &[&str]) -> Self {
        let own = std::env::current_exe().expect("known");
        let own_text = own.with_extension("s");
        let mut program = Self::default();
        for name in crates {
            let text = if own
                .file_name()
                .is_some_and(|own| own.to_string_lossy().starts_with(name))
            {
                fs::read_to_string(&own_text)
            } else {
                fs::read_to_string(newest(own.parent().expect("a directory"), name))
            };
            program.add(name, &text.expect("built with --emit=asm"));
        }
        program
    }

    fn add(&mut self, name: &str, text: &str) {
        let mut functions = HashSet::new();
        for line in text.lines() {
            if let Some(symbol) = line
                .trim_start()
                .strip_prefix(".type")
                .and_then(|rest| rest.trim().strip_suffix(",@function"))
            {
                functions.insert(symbol);
            }
        }
        // Local labels are numbered anew in each file.
        let local = |label: &str| format!("{name}{label}");
        let mut current: Option<(String, Function)> = None;
        for line in text.lines() {
            if let Some(label) = line
                .strip_suffix(':')
                .filter(|label| !label.starts_with(char::is_whitespace))
            {
                let label = label.trim_matches('"');
                if functions.contains(label) {
                    self.close(&mut current);
                    let function = Function {
                        blocks: vec![Block::default()],
                        ..Function::default()
                    };
                    current = Some((label.to_owned(), function));
                } else if label.starts_with(".Lfunc_end") {
                    self.close(&mut current);
                } else if let Some((_, function)) = &mut current {
                    function.labels.insert(local(label), function.blocks.len());
                    function.blocks.push(Block::default());
                }
                continue;
            }
            let Some((operation, operand)) = instruction(line) else {
                continue;
            };
            if operation == ".long" || operation == ".quad" {
                if let Some((target, _)) = operand.split_once("-.LJTI") {
                    self.tables.push(local(target));
                }
                continue;
            }
            let Some((_, Function { blocks, .. })) = &mut current else {
                continue;
            };
            let Some(block) = blocks.last_mut() else {
                continue;
            };
            let jump = operation.starts_with('j');
            if jump || operation.starts_with("call") {
                match Target::of(operand) {
                    Target::Local(label) => block.jumps.push(local(label)),
                    Target::Symbol(symbol) => block.calls.push(symbol.to_owned()),
                    Target::Pointer => block.switches |= jump,
                }
            } else if let Some(symbol) = taken(operand, &functions) {
                // Mostly to be called, more than once.
                block.calls.push(symbol.to_owned());
            }
            let ends =
                operation.starts_with("jmp") || operation.starts_with("ret") || operation == "ud2";
            if jump || ends {
                block.ends = ends;
                blocks.push(Block::default());
            }
        }
        self.close(&mut current);
    }

    fn close(&mut self, current: &mut Option<(String, Function)>) {
        self.functions.extend(current.take());
    }

    /// The symbol of a function, by the end of its path.
    pub(crate) fn symbol(&self, path: &str) -> Option<&str> {
        // Both ways of mangling write each name behind its length.
        let mangled: String = path
            .split("::")
            .map(|name| format!("{}{name}", name.len()))
            .collect();
        let mut named = self.functions.keys().filter(|symbol| {
            symbol
                .split_once(&mangled)
                .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with("17h"))
        });
        named.next().map(String::as_str)
    }

    /// Every way from a function to one that is not here and not known to be harmless, spelled out.
    pub(crate) fn ways_out(&self, root: &str) -> Vec<String> {
        let mut from: HashMap<&str, &str> = HashMap::new();
        let mut waiting = vec![root];
        let mut ways = Vec::new();
        while let Some(symbol) = waiting.pop() {
            let Some(function) = self.functions.get(symbol) else {
                continue;
            };
            for callee in self.callees(function) {
                if !self.functions.contains_key(callee) {
                    if !harmless(callee) {
                        let way = self.way(&from, root, symbol);
                        ways.push(format!("{way} -> {}", readable(callee)));
                    }
                } else if callee != root && !from.contains_key(callee) {
                    from.insert(callee, symbol);
                    waiting.push(callee);
                }
            }
        }
        ways.sort();
        ways.dedup();
        ways
    }

    /// What a function may call. What only unwinding enters is not reached: it begins with a panic of somebody else.
    fn callees<'a>(&self, function: &'a Function) -> Vec<&'a str> {
        let mut reached = HashSet::new();
        let mut waiting = vec![0];
        let mut callees = Vec::new();
        while let Some(at) = waiting.pop() {
            let Some(block) = function.blocks.get(at).filter(|_| reached.insert(at)) else {
                continue;
            };
            callees.extend(block.calls.iter().map(String::as_str));
            waiting.extend(
                block
                    .jumps
                    .iter()
                    .filter_map(|label| function.labels.get(label)),
            );
            if block.switches {
                waiting.extend(
                    self.tables
                        .iter()
                        .filter_map(|label| function.labels.get(label)),
                );
            }
            if !block.ends {
                waiting.push(at + 1);
            }
        }
        callees
    }

    fn way<'a>(&self, from: &HashMap<&str, &'a str>, root: &str, mut symbol: &'a str) -> String {
        let mut way = vec![readable(symbol)];
        while symbol != root {
            symbol = from[symbol];
            way.push(readable(symbol));
        }
        way.reverse();
        way.join(" -> ")
    }
}

/// What is called outside the text and cannot panic: copies, and the queues' waiting for another thread.
pub(crate) fn harmless(symbol: &str) -> bool {
    ["memcpy", "memmove", "memset", "memcmp", "bcmp"].contains(&symbol)
        || readable(symbol).ends_with("thread::functions::yield_now")
}

/// Where a call or jump goes.
enum Target<'a> {
    Local(&'a str),
    Symbol(&'a str),
    Pointer,
}

impl<'a> Target<'a> {
    fn of(operand: &'a str) -> Self {
        let operand = operand.split(['#', ' ']).next().unwrap_or_default();
        match operand.strip_prefix('*') {
            None if operand.starts_with(".L") => Self::Local(operand),
            None => Self::Symbol(operand.trim_end_matches("@PLT").trim_matches('"')),
            Some(memory) => match memory.split_once("@GOTPCREL") {
                Some((symbol, _)) => Self::Symbol(symbol.trim_matches('"')),
                None => Self::Pointer,
            },
        }
    }
}

/// The function whose address is taken here.
fn taken<'a>(operand: &'a str, functions: &HashSet<&str>) -> Option<&'a str> {
    let (before, foreign) = match operand.split_once("@GOTPCREL(%rip)") {
        Some((before, _)) => (before, true),
        None => (operand.split_once("(%rip)")?.0, false),
    };
    let start = before.rfind([' ', ',', '$', '*']).map_or(0, |at| at + 1);
    let symbol = before[start..].trim_matches('"');
    (foreign || functions.contains(symbol)).then_some(symbol)
}

/// Operation and operands of a line, if it is one.
fn instruction(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix(char::is_whitespace)?.trim();
    Some(
        line.split_once(char::is_whitespace)
            .map_or((line, ""), |(operation, operand)| {
                (operation, operand.trim())
            }),
    )
}

/// The newest text of a crate in a directory.
fn newest(directory: &Path, name: &str) -> std::path::PathBuf {
    let texts = fs::read_dir(directory)
        .expect("readable")
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    texts
        .filter(|path| path.extension().is_some_and(|end| end == "s"))
        .filter(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            stem.strip_prefix(name)
                .is_some_and(|hash| hash.starts_with('-'))
        })
        .max_by_key(|path| fs::metadata(path).and_then(|about| about.modified()).ok())
        .unwrap_or_else(|| {
            panic!(
                "no text of {name} in {}: build with RUSTFLAGS=--emit=asm",
                directory.display()
            )
        })
}

/// The names in a mangled symbol.
fn readable(symbol: &str) -> String {
    let mut names = Vec::new();
    let mut rest = symbol;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        rest = &rest[at..];
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let (length, more) = rest.split_at(digits);
        match length
            .parse()
            .ok()
            .and_then(|length: usize| more.split_at_checked(length))
        {
            Some((name, more)) => {
                names.push(name.trim_start_matches('_'));
                rest = more;
            }
            None => rest = more,
        }
    }
    if names.is_empty() {
        symbol.to_owned()
    } else {
        names.join("::")
    }
}
