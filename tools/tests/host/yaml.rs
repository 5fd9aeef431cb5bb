//! As much YAML as the manifests in `deploy/` are written in: nested mappings and sequences by indentation, words,
//! quoted words, `["flow", "sequences"]`, and blocks of text behind `|`. Anything else is a panic, not a guess.

use serde_json::{Map, Value};

/// The documents of a stream.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(document).collect()
}

fn document(text: &str) -> Value {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .map(|line| (line.len() - line.trim_start().len(), line.trim_end()))
        .collect();
    let mut at = 0;
    let value = block(&lines, &mut at, 0);
    assert_eq!(at, lines.len(), "{:?}", lines.get(at));
    value
}

fn skip(lines: &[(usize, &str)], at: &mut usize) {
    while lines
        .get(*at)
        .is_some_and(|(_, line)| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        *at += 1;
    }
}

/// A mapping or sequence whose entries begin at column `indent`.
fn block(lines: &[(usize, &str)], at: &mut usize, indent: usize) -> Value {
    skip(lines, at);
    if lines
        .get(*at)
        .is_some_and(|(_, line)| line[indent..].starts_with("- "))
    {
        let mut items = Vec::new();
        while let Some((column, line)) = lines.get(*at).filter(|(column, _)| *column == indent) {
            let Some(first) = line[*column..].strip_prefix("- ") else {
                break;
            };
            // The item's mapping begins behind the dash; it is read as if the dash were blank.
            let blank = format!("{}{first}", " ".repeat(indent + 2));
            let mut copy = lines.to_vec();
            copy[*at] = (indent + 2, &blank);
            items.push(block(&copy, at, indent + 2));
            skip(lines, at);
        }
        return Value::Array(items);
    }
    let mut map = Map::new();
    loop {
        skip(lines, at);
        let Some((column, line)) = lines.get(*at) else {
            break;
        };
        if *column < indent || line[*column..].starts_with("- ") {
            break;
        }
        assert_eq!(*column, indent, "{line}");
        let (key, rest) = line
            .trim()
            .split_once(':')
            .unwrap_or_else(|| panic!("no key in `{line}`"));
        *at += 1;
        let value = match rest.trim() {
            "" => {
                skip(lines, at);
                let (below, line) = lines[*at];
                let dash = line[below..].starts_with("- ");
                assert!(below > indent || dash && below == indent, "{line}");
                block(lines, at, below)
            }
            "|" => text(lines, at, indent),
            scalar => self::scalar(scalar),
        };
        assert!(map.insert(key.to_owned(), value).is_none(), "{key} twice");
    }
    Value::Object(map)
}

fn text(lines: &[(usize, &str)], at: &mut usize, indent: usize) -> Value {
    let mut text = String::new();
    while let Some((column, line)) = lines.get(*at) {
        if *column <= indent && !line.is_empty() {
            break;
        }
        text.push_str(line.trim_start());
        text.push('\n');
        *at += 1;
    }
    Value::String(text)
}

fn scalar(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ if text.starts_with(['[', '"']) => serde_json::from_str(text).expect(text),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse::<u64>().expect(text).into()
        }
        _ => {
            assert!(
                !text.starts_with(['{', '\'', '&', '*', '!', '>', '%', '@']),
                "{text}"
            );
            text.into()
        }
    }
}
