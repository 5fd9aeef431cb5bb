//! `vfnic doctor`: what stands between a host and a VF that carries frames.

mod codes;
mod function;
mod machine;

use std::fmt::Write;

use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic::DeviceSpec;

use crate::cli::{Outcome, UsageError};
use crate::host::function::{Function, Role};
use crate::host::machine::Machine;
use crate::host::{At, Host, select};
use crate::output;

pub use codes::CODES;

/// Says what stands in the way of using a VF, and what mends it
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The VF, or several: 0000:31:10.1, eth0#0-3, k8s:RESOURCE; all of them when left out
    #[arg(value_name = "SPEC")]
    spec: Option<DeviceSpec>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

const EXAMPLES: &str = "\
Examples:
  vfnic doctor
  vfnic doctor eth0#1
  vfnic doctor 0000:31:10.1 --json

Exit status: 0 nothing stands in the way, 1 something does, 2 usage,
3 it works, with warnings.";

/// How bad it is, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// In order.
    Pass,
    /// Worth knowing.
    Note,
    /// Works, not as one would want.
    Warn,
    /// Stands in the way.
    Fail,
}

/// What a verdict is based on.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// What was looked at.
    pub path: String,
    /// What it said.
    pub value: String,
    /// The system's error, when it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// One of [`CODES`]; none when it passed.
    pub code: Option<&'static str>,
    /// How bad it is.
    pub verdict: Verdict,
    /// A function's address, or `host`.
    pub about: String,
    /// In words.
    pub says: String,
    /// Why.
    pub evidence: Vec<Evidence>,
    /// What mends it: commands, or a sentence where there is none.
    pub mend: Vec<String>,
    /// Whether only the host's administrator can, because this is a guest or a container.
    pub on_host: bool,
}

impl Finding {
    fn pass(check: &'static str, about: &str, says: impl Into<String>) -> Self {
        Self {
            check,
            code: None,
            verdict: Verdict::Pass,
            about: about.to_owned(),
            says: says.into(),
            evidence: Vec::new(),
            mend: Vec::new(),
            on_host: false,
        }
    }

    fn new(verdict: Verdict, code: &'static str, about: &str, says: impl Into<String>) -> Self {
        let check = CODES
            .iter()
            .find_map(|(known, check)| (*known == code).then_some(*check))
            .unwrap_or("other");
        Self {
            code: Some(code),
            verdict,
            ..Self::pass(check, about, says)
        }
    }

    fn because(mut self, path: impl Into<String>, value: impl Into<String>) -> Self {
        self.evidence.push(Evidence {
            path: path.into(),
            value: value.into(),
            errno: None,
        });
        self
    }

    fn because_of(mut self, path: impl Into<String>, error: &std::io::Error) -> Self {
        self.evidence.push(Evidence {
            path: path.into(),
            value: error.to_string(),
            errno: error.raw_os_error(),
        });
        self
    }

    fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    verdict: Verdict,
    machine: &'a Machine,
    findings: &'a [Finding],
}

/// Runs it.
///
/// # Errors
///
/// When the spec names nothing, or the host cannot be read.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let host = args.at.host()?;
    if let Some(spec @ (DeviceSpec::Sim(_) | DeviceSpec::VfioUser(_))) = &args.spec {
        return Err(UsageError(format!(
            "`{spec}` needs no host; `vfnic probe --device {spec}` tries it"
        ))
        .into());
    }
    let machine = Machine::read(&host);
    let findings = examine(&host, &machine, args.spec.as_ref())?;
    let worst = findings
        .iter()
        .map(|finding| finding.verdict)
        .max()
        .unwrap_or(Verdict::Pass);
    if args.json {
        output::json(&Report {
            verdict: worst,
            machine: &machine,
            findings: &findings,
        })?;
    } else {
        output::text(&text(&findings, worst))?;
    }
    Ok(match worst {
        Verdict::Pass | Verdict::Note => Outcome::Good,
        Verdict::Warn => Outcome::Warned,
        Verdict::Fail => Outcome::Bad,
    })
}

fn examine(
    host: &Host,
    machine: &Machine,
    spec: Option<&DeviceSpec>,
) -> anyhow::Result<Vec<Finding>> {
    let functions = match spec {
        Some(spec) => select::functions(host, spec)?,
        None => Function::all(host)?,
    };
    let mut chosen: Vec<_> = functions
        .iter()
        .filter(|function| spec.is_some() || function.role == Role::Vf)
        .collect();
    // Without a spec, in a pod: what it was given. The other VFs of the host are somebody else's.
    if spec.is_none() && machine.container.is_some() {
        let pools = crate::host::kubernetes::pools(host);
        let given: Vec<_> = pools.iter().flat_map(|pool| &pool.devices).collect();
        if !given.is_empty() {
            chosen.retain(|function| given.iter().any(|given| given.address == function.address));
        }
    }
    let mut findings = machine::checks(host, machine, &chosen);
    if chosen.is_empty() {
        findings.extend(machine::no_vfs(&functions));
    }
    for function in chosen {
        findings.extend(function::checks(host, machine, function));
    }
    if machine.virtual_machine || machine.container.is_some() {
        // Firmware, groups, PFs and their knobs are out of a guest's reach; a virtual machine's own kernel is not.
        for finding in &mut findings {
            let own = ["module", "binding", "holder", "place"];
            let own = own.contains(&finding.check)
                || (machine.container.is_none()
                    && ["kernel", "node", "memlock", "hugepages"].contains(&finding.check));
            finding.on_host = !own && finding.verdict > Verdict::Pass;
        }
    }
    Ok(findings)
}

fn text(findings: &[Finding], worst: Verdict) -> String {
    let mut text = String::new();
    let mut about = "";
    let mut passed: Vec<&str> = Vec::new();
    let close = |text: &mut String, passed: &mut Vec<&str>| {
        if !passed.is_empty() {
            let _ = writeln!(text, "  in order: {}", passed.join(", "));
        }
        passed.clear();
    };
    for finding in findings {
        if finding.about != about {
            close(&mut text, &mut passed);
            about = &finding.about;
            let _ = writeln!(text, "{about}");
        }
        let Some(code) = finding.code else {
            passed.push(finding.check);
            continue;
        };
        let word = match finding.verdict {
            Verdict::Fail => "FAIL",
            Verdict::Warn => "WARN",
            _ => "note",
        };
        let _ = writeln!(text, "  {word} {code}: {}", finding.says);
        for evidence in &finding.evidence {
            let _ = writeln!(text, "       {}: {}", evidence.path, evidence.value);
        }
        for (at, mend) in finding.mend.iter().enumerate() {
            let head = match (at, finding.on_host) {
                (0, true) => "mend, on the host:",
                (0, false) => "mend:",
                _ => "     ",
            };
            let _ = writeln!(text, "       {head} {mend}");
        }
    }
    close(&mut text, &mut passed);
    let _ = writeln!(
        text,
        "{}",
        match worst {
            Verdict::Fail => "something stands in the way",
            Verdict::Warn => "it works, with warnings",
            Verdict::Pass | Verdict::Note => "nothing stands in the way",
        }
    );
    text.lines()
        .map(|line| output::printable(line) + "\n")
        .collect()
}
