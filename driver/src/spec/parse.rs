//! A cursor over a spec: small steps, and errors that say where.

use super::SpecError;

/// Where in a spec the reading is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    hint: &'static str,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str, hint: &'static str) -> Self {
        Self { text, at: 0, hint }
    }

    pub(super) fn skip(mut self, bytes: usize) -> Self {
        self.at = self.at.saturating_add(bytes);
        self
    }

    /// Behind a word and the one character that ends it.
    pub(super) fn behind(self, word: &str) -> Self {
        self.skip(word.len()).skip(1)
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub(super) fn error(&self, what: impl Into<String>) -> SpecError {
        SpecError::new(self.text, self.at, what, self.hint)
    }

    fn seen(&self) -> String {
        match self.rest().chars().next() {
            Some(found) => format!("`{}`", found.escape_debug()),
            None => "the end".to_owned(),
        }
    }

    pub(super) fn expect(&mut self, wanted: char, place: &str) -> Result<(), SpecError> {
        if self.rest().starts_with(wanted) {
            *self = self.skip(wanted.len_utf8());
            return Ok(());
        }
        Err(self.error(format!("`{wanted}` wanted {place}, found {}", self.seen())))
    }

    pub(super) fn end(&self, after: &str) -> Result<(), SpecError> {
        if self.rest().is_empty() {
            return Ok(());
        }
        Err(self.error(format!(
            "nothing wanted after {after}, found {}",
            self.seen()
        )))
    }

    fn digits(&self, is_digit: fn(&u8) -> bool) -> &'a str {
        let count = self.rest().bytes().take_while(is_digit).count();
        &self.rest()[..count]
    }

    /// A hexadecimal number of at most `width` digits, or `*`.
    pub(super) fn number_or_star(
        &mut self,
        what: &str,
        width: usize,
        most: u32,
    ) -> Result<Option<u32>, SpecError> {
        if self.rest().starts_with('*') {
            *self = self.skip(1);
            return Ok(None);
        }
        let digits = self.digits(u8::is_ascii_hexdigit);
        if digits.is_empty() {
            return Err(self.error(format!(
                "{what}: a hexadecimal number wanted, found {}",
                self.seen()
            )));
        }
        match u32::from_str_radix(digits, 16) {
            Ok(value) if value <= most && digits.len() <= width => {
                *self = self.skip(digits.len());
                Ok(Some(value))
            }
            _ => Err(self.error(format!("{what}: `{}` is above {most:x}", short(digits)))),
        }
    }

    /// A decimal number up to `most`.
    pub(super) fn decimal(&mut self, what: &str, most: u16) -> Result<u16, SpecError> {
        let digits = self.digits(u8::is_ascii_digit);
        if digits.is_empty() {
            return Err(self.error(format!("{what}: a number wanted, found {}", self.seen())));
        }
        match digits.parse() {
            Ok(value) if value <= most => {
                *self = self.skip(digits.len());
                Ok(value)
            }
            _ => Err(self.error(format!("{what}: `{}` is above {most}", short(digits)))),
        }
    }
}

/// Digits are ASCII, so they can be cut anywhere.
fn short(digits: &str) -> &str {
    digits.get(..12).unwrap_or(digits)
}
