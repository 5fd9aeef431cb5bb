//! The VF's end of the mailbox: one request at a time, legacy procedure (ixgbevf.md §6.4a, igbvf.md §5.3).
//!
//! Three of the control register's bits are cleared by every read of it, whoever reads and for whatever reason. So it
//! is read in one place, which gathers them; nothing else may read that register. Messages that are not the answer to
//! the pending request become notices, never replies.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
    )
)]

mod message;

use std::collections::VecDeque;
use std::time::Duration;

use vfnic_hw::regs::Reg;

pub(crate) use message::{Notice, Reply, Request, Word0};

use crate::error::{MailboxError, Stage};
use crate::registers::{Gone, Registers};
use crate::wait::{Patience, Ticker};

// ixgbevf.md §6.1 and igbvf.md §5.1: the two families agree bit for bit.
const REQ: u32 = 1 << 0;
const ACK: u32 = 1 << 1;
const VFU: u32 = 1 << 2;
const PFSTS: u32 = 1 << 4;
const PFACK: u32 = 1 << 5;
const RSTI: u32 = 1 << 6;
const RSTD: u32 = 1 << 7;
/// What a read clears.
const READ_CLEARS: u32 = PFSTS | PFACK | RSTD;

/// Notices kept; a PF that sends more than that between two looks is flooding, and the oldest say the least.
const MOST_NOTICES: usize = 16;
/// Foreign messages read while one request waits; a PF that sends more gets no more of our time for this request.
const MOST_FOREIGN: u32 = 64;

/// Where a family has its mailbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) control: Reg,
    pub(crate) memory: Reg,
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Gone,
    Mailbox(MailboxError),
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<MailboxError> for Failure {
    fn from(error: MailboxError) -> Self {
        Self::Mailbox(error)
    }
}

/// What the control register says about the PF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PfState {
    /// The PF is in reset.
    pub(crate) in_reset: bool,
    /// It has been in reset since this was last asked.
    pub(crate) was_reset: bool,
    /// A message is waiting.
    pub(crate) message: bool,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Mailbox {
    place: Place,
    /// Read-to-clear bits seen and not yet used up.
    seen: u32,
    /// A request timed out, so a late reply may still come: nothing is sent until the next handshake.
    dead: bool,
    /// Number of the handshake that the messages belong to.
    life: u32,
    /// The PF answers acknowledgements with stray refusals although it knows this VF.
    nags: bool,
    /// Stray refusals seen since the last reply that proved that the PF knows this VF.
    strays: u32,
    notices: VecDeque<Notice>,
    /// Time for one request, from taking the lock to having the reply.
    budget: Duration,
}

impl Mailbox {
    pub(crate) fn new(place: Place, budget: Duration) -> Self {
        Self {
            place,
            seen: 0,
            dead: false,
            life: 0,
            nags: false,
            strays: 0,
            notices: VecDeque::new(),
            budget,
        }
    }

    /// Number of handshakes begun.
    pub(crate) const fn life(&self) -> u32 {
        self.life
    }

    /// Begins a new life: whatever the old one still had coming is nobody's any more.
    pub(crate) fn begin_life(&mut self) {
        self.life = self.life.wrapping_add(1);
        self.dead = false;
        self.nags = false;
        self.strays = 0;
        self.seen = 0;
        self.notices.clear();
    }

    /// The only read of the control register.
    fn look(&mut self, regs: &Registers) -> Result<u32, Gone> {
        let value = regs.read(self.place.control.addr())?;
        self.seen |= value & READ_CLEARS;
        Ok(value)
    }

    fn take(&mut self, bit: u32) -> bool {
        let there = self.seen & bit != 0;
        self.seen &= !bit;
        there
    }

    /// How the PF is. Uses up the mark of a finished reset.
    pub(crate) fn pf_state(&mut self, regs: &Registers) -> Result<PfState, Gone> {
        let value = self.look(regs)?;
        Ok(PfState {
            in_reset: value & RSTI != 0,
            was_reset: self.take(RSTD),
            message: self.seen & PFSTS != 0,
        })
    }

    /// Next message that nobody asked for.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether this PF sends stray refusals for no reason.
    pub(crate) const fn nags(&self) -> bool {
        self.nags
    }

    fn note(&mut self, word: Word0) {
        let notice = Notice::decode(word);
        if notice == Notice::Stray {
            self.strays = self.strays.saturating_add(1);
        }
        if self.notices.len() == MOST_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// Takes the buffer, unless the PF holds it until `end`.
    async fn lock(
        &mut self,
        regs: &Registers,
        ticker: &Ticker,
        limit: Duration,
    ) -> Result<bool, Gone> {
        let control = self.place.control.addr();
        let got = ticker
            .poll_until(
                Patience::new(Duration::from_micros(500), limit),
                || -> Result<_, Gone> {
                    regs.write(control, VFU);
                    Ok((self.look(regs)? & VFU != 0).then_some(()))
                },
            )
            .await?;
        Ok(got.is_ok())
    }

    /// Reads `len` words; the buffer must be ours. Hands it back with the acknowledgement, which is one write.
    fn read_words(&mut self, regs: &Registers, len: usize) -> Result<Reply, Gone> {
        let mut words = [0; vfnic_hw::mailbox::WORDS];
        for (index, word) in (0..).zip(words.iter_mut().take(len)) {
            *word = regs.read(self.place.memory.at(index))?;
        }
        self.take(PFSTS);
        regs.write(self.place.control.addr(), ACK);
        Ok(Reply { words })
    }

    /// Reads a pending message, if there is one, as a notice. Gives up when the PF holds the buffer for longer than
    /// `limit`; the message then stays pending.
    pub(crate) async fn collect(
        &mut self,
        regs: &Registers,
        ticker: &Ticker,
        limit: Duration,
    ) -> Result<(), Gone> {
        if self.seen & PFSTS == 0 || !self.lock(regs, ticker, limit).await? {
            return Ok(());
        }
        let reply = self.read_words(regs, 1)?;
        self.note(reply.word0());
        Ok(())
    }

    /// Sends `request` and waits for its reply. A refusal is a reply.
    pub(crate) async fn ask(
        &mut self,
        regs: &Registers,
        ticker: &Ticker,
        request: &Request,
    ) -> Result<Reply, Failure> {
        let name = request.name;
        if self.dead {
            return Err(MailboxError::Timeout {
                request: name,
                stage: Stage::Dead,
                waited: Duration::ZERO,
            }
            .into());
        }
        let start = ticker.now();
        let end = start.saturating_add(self.budget);
        let mut stage = Stage::Locked;
        let mut foreign = 0;
        while self.post(regs, ticker, request, end).await? {
            stage = Stage::NotTaken;
            match self
                .reply(regs, ticker, request, end, &mut stage, &mut foreign)
                .await?
            {
                Answer::Reply(reply) => return self.judge(request, reply),
                Answer::Overwritten if foreign < MOST_FOREIGN => {
                    log::debug!("the PF wrote over {name} before reading it; sent again");
                }
                Answer::Overwritten | Answer::Silence => break,
                Answer::PfReset => return Err(MailboxError::PfReset { request: name }.into()),
            }
        }
        self.dead = true;
        Err(MailboxError::Timeout {
            request: name,
            stage,
            waited: ticker.now().saturating_sub(start),
        }
        .into())
    }

    /// Writes `request` and rings. False when the PF did not let go of the buffer in time.
    async fn post(
        &mut self,
        regs: &Registers,
        ticker: &Ticker,
        request: &Request,
        end: Duration,
    ) -> Result<bool, Gone> {
        if !self
            .lock(regs, ticker, end.saturating_sub(ticker.now()))
            .await?
        {
            return Ok(false);
        }
        if self.seen & PFSTS != 0 {
            // A message that came before belongs to nobody's request: it is read now, or it would be taken for the
            // reply. It is not acknowledged: that would give the buffer away, and some PFs answer it with one more
            // message.
            let word = regs.read(self.place.memory.addr())?;
            self.note(Word0(word));
        }
        self.seen &= !(PFSTS | PFACK);
        for (index, word) in (0..).zip(request.words()) {
            regs.write(self.place.memory.at(index), *word);
        }
        regs.write(self.place.control.addr(), REQ);
        Ok(true)
    }

    /// Waits for the reply to `request`, which was posted.
    async fn reply(
        &mut self,
        regs: &Registers,
        ticker: &Ticker,
        request: &Request,
        end: Duration,
        stage: &mut Stage,
        foreign: &mut u32,
    ) -> Result<Answer, Gone> {
        loop {
            let left = end.saturating_sub(ticker.now());
            let seen = ticker
                .poll_until(
                    Patience::new(Duration::from_micros(500), left),
                    || -> Result<_, Gone> {
                        let value = self.look(regs)?;
                        if self.seen & PFACK != 0 {
                            *stage = Stage::NotAnswered;
                        }
                        // A reset throws requests away; waiting on would only end in a timeout.
                        if value & RSTI != 0 || self.seen & RSTD != 0 {
                            return Ok(Some(false));
                        }
                        Ok((self.seen & PFSTS != 0).then_some(true))
                    },
                )
                .await?;
            match seen {
                Err(_) => return Ok(Answer::Silence),
                Ok(false) => return Ok(Answer::PfReset),
                Ok(true) => {}
            }
            if !self
                .lock(regs, ticker, end.saturating_sub(ticker.now()))
                .await?
            {
                return Ok(Answer::Silence);
            }
            let reply = self.read_words(regs, request.reply_len())?;
            if reply.word0().answers(request.kind()) {
                return Ok(Answer::Reply(reply));
            }
            *foreign = foreign.saturating_add(1);
            if reply.word0().answers_overwritten() {
                return Ok(Answer::Overwritten);
            }
            self.note(reply.word0());
            if *foreign >= MOST_FOREIGN {
                return Ok(Answer::Silence);
            }
        }
    }

    /// What a reply says about the PF's memory of this VF, whatever else it says.
    fn judge(&mut self, request: &Request, reply: Reply) -> Result<Reply, Failure> {
        let word = reply.word0();
        if word.is_clear_to_send() {
            // A stray refusal and then a proper reply: this PF means nothing by the stray ones.
            self.nags |= self.strays > 0;
            self.strays = 0;
            self.notices.retain(|notice| *notice != Notice::Stray);
        } else if word.is_nack() && request.kind() != RESET {
            return Err(MailboxError::Forgotten {
                request: request.name,
            }
            .into());
        }
        Ok(reply)
    }
}

/// The reset handshake is the one reply that never carries CTS (ixgbevf.md §6.5, igbvf.md §6.1).
const RESET: u16 = 1;

/// How waiting for a reply ended.
enum Answer {
    Reply(Reply),
    /// The PF never saw the request, only its own words over it.
    Overwritten,
    PfReset,
    Silence,
}

#[cfg(test)]
mod tests;
