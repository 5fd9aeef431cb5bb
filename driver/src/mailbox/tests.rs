//! The engine against a scripted PF: literal numbers from the golden trace (ixgbevf.md §18).

use std::sync::Arc;

use super::*;
use crate::fake::{FakeBar, PfScript};
use crate::wait::block_on;
use crate::wait::tests::TestClock;
use vfnic_hw::regs::ixgbevf;

const PLACE: Place = Place {
    control: ixgbevf::VFMAILBOX,
    memory: ixgbevf::VFMBMEM,
};

struct Bench {
    bar: Arc<FakeBar>,
    regs: Registers,
    ticker: Ticker,
    mailbox: Mailbox,
}

impl Bench {
    fn new(script: PfScript) -> Self {
        let bar = FakeBar::ixgbevf(script);
        Self {
            regs: Registers::new(Arc::clone(&bar) as _, ixgbevf::VFSTATUS, ixgbevf::VFMAILBOX),
            bar,
            ticker: Ticker::new(Arc::new(TestClock::default())),
            mailbox: Mailbox::new(PLACE, Duration::from_secs(1)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        block_on(
            &self.ticker,
            self.mailbox.ask(&self.regs, &self.ticker, request),
        )
    }
}

fn lpe() -> Request {
    Request::new("SET_LPE", 5, 0, &[0x5EE], 2)
}

#[test]
fn a_request_gets_its_reply() {
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0xA000_0005, 0x5EE]]));
    let reply = bench.ask(&lpe()).expect("answered");
    assert!(reply.word0().is_ack());
    assert_eq!(reply.words[1], 0x5EE);
    assert_eq!(bench.bar.requests(), [vec![0x0000_0005, 0x0000_05EE]]);
    assert!(!bench.mailbox.nags(), "it did nothing that nags");
}

#[test]
fn m3_a_refusal_is_a_reply_but_one_without_cts_means_forgotten() {
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0x6000_0005]]));
    assert!(bench.ask(&lpe()).is_ok_and(|reply| reply.word0().is_nack()));
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0x4000_0005]]));
    assert_eq!(
        bench.ask(&lpe()),
        Err(Failure::Mailbox(MailboxError::Forgotten {
            request: "SET_LPE"
        }))
    );
}

#[test]
fn the_reset_reply_has_no_cts_and_counts() {
    let reset = Request::new("RESET", 1, 0, &[], 4);
    for word in [0x8000_0001, 0x4000_0001] {
        let mut bench = Bench::new(PfScript::new().on(1, &[&[word, 1, 2, 3]]));
        assert_eq!(bench.ask(&reset).map(|reply| reply.words[3]), Ok(3));
    }
}

#[test]
fn m6_a_ping_between_request_and_reply_is_an_event_and_no_reply() {
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0x2000_0100], &[0xA000_0005, 0x5EE]]));
    assert!(bench.ask(&lpe()).is_ok());
    assert_eq!(bench.mailbox.next_notice(), Some(Notice::Look));
    assert_eq!(bench.mailbox.next_notice(), None);
}

#[test]
fn what_comes_before_a_reply_is_kept_in_order_and_up_to_a_bound() {
    let reply: &[u32] = &[0xA000_0005, 0x5EE];
    let (look, late): (&[u32], &[u32]) = (&[0x2000_0100], &[0xA000_0002]);
    let mut bench = Bench::new(PfScript::new().on(5, &[look, late, look, reply]));
    assert!(bench.ask(&lpe()).is_ok());
    let notices: Vec<_> = std::iter::from_fn(|| bench.mailbox.next_notice()).collect();
    let expected = [Notice::Look, Notice::Unknown(0xA000_0002), Notice::Look];
    assert_eq!(notices, expected);
    // As many messages of others as are put up with, the reply for the last of them or behind it.
    for (others, answered) in [(63, true), (64, false)] {
        let mut messages = vec![late; others];
        messages.push(reply);
        let mut bench = Bench::new(PfScript::new().on(5, &messages));
        assert_eq!(bench.ask(&lpe()).is_ok(), answered, "{others}");
    }
}

#[test]
fn m4_the_reply_of_another_request_is_never_taken() {
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0xA000_0002]]));
    let failure = bench.ask(&lpe()).expect_err("nobody answered SET_LPE");
    assert_eq!(
        failure,
        Failure::Mailbox(MailboxError::Timeout {
            request: "SET_LPE",
            stage: Stage::NotAnswered,
            waited: Duration::from_secs(1)
        })
    );
}

#[test]
fn m1_m2_silence_ends_at_the_bound_and_the_mailbox_stays_dead_until_a_handshake() {
    let mut bench = Bench::new(PfScript::new().deaf());
    let first = bench.ask(&lpe()).expect_err("nobody is there");
    assert!(
        matches!(first, Failure::Mailbox(MailboxError::Timeout { stage: Stage::NotTaken, waited, .. }) if waited == Duration::from_secs(1)),
        "{first:?}"
    );
    let before = bench.ticker.now();
    let second = bench.ask(&lpe()).expect_err("dead");
    assert!(
        matches!(
            second,
            Failure::Mailbox(MailboxError::Timeout {
                stage: Stage::Dead,
                ..
            })
        ),
        "{second:?}"
    );
    assert_eq!(bench.ticker.now(), before, "no second wait");
    bench
        .bar
        .script(PfScript::new().on(5, &[&[0xA000_0005, 0x5EE]]));
    bench.mailbox.begin_life();
    assert!(bench.ask(&lpe()).is_ok());
}

#[test]
fn m7_a_buffer_that_the_pf_never_lets_go_of_ends_at_the_bound() {
    let mut bench = Bench::new(PfScript::new().holding_the_buffer());
    let failure = bench.ask(&lpe()).expect_err("no lock");
    assert!(
        matches!(failure, Failure::Mailbox(MailboxError::Timeout { stage: Stage::Locked, waited, .. }) if waited == Duration::from_secs(1)),
        "{failure:?}"
    );
    assert!(bench.bar.requests().is_empty(), "nothing was written");
}

#[test]
fn m9_a_late_reply_is_read_before_the_next_request() {
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0xA000_0005, 0x5EE]]));
    bench.bar.pf_sends(&[0xA000_0005, 0xBAD]);
    let reply = bench.ask(&lpe()).expect("answered");
    assert_eq!(
        reply.words[1], 0x5EE,
        "the late one was taken for the answer"
    );
    assert_eq!(
        bench.mailbox.next_notice(),
        Some(Notice::Unknown(0xA000_0005))
    );
    assert_eq!(bench.mailbox.next_notice(), None, "and read once");
}

#[test]
fn a_request_that_the_pf_wrote_over_is_sent_again() {
    let mut bench = Bench::new(
        PfScript::new()
            .on(5, &[&[0x6000_0100]])
            .then_on(5, &[&[0xA000_0005, 0x5EE]]),
    );
    assert!(bench.ask(&lpe()).is_ok());
    assert_eq!(bench.bar.requests().len(), 2);
}

#[test]
fn a_pf_that_overwrites_for_ever_is_left_alone() {
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0x6000_0100]]));
    assert!(bench.ask(&lpe()).is_err());
    assert!(bench.bar.requests().len() <= 64);
}

#[test]
fn m10_a_reset_in_the_middle_fails_the_request_at_once() {
    let mut bench = Bench::new(PfScript::new().resetting_on(5));
    assert_eq!(
        bench.ask(&lpe()),
        Err(Failure::Mailbox(MailboxError::PfReset {
            request: "SET_LPE"
        }))
    );
    assert!(bench.ticker.now() < Duration::from_millis(1));
}

#[test]
fn m8_a_mark_that_another_read_has_cleared_is_not_lost() {
    // RSTD is there when the buffer is locked, and gone at the next read.
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0xA000_0005, 0x5EE]]));
    bench.bar.pf_was_reset();
    assert_eq!(
        bench.ask(&lpe()),
        Err(Failure::Mailbox(MailboxError::PfReset {
            request: "SET_LPE"
        }))
    );
    let state = bench.mailbox.pf_state(&bench.regs).expect("there");
    assert!(state.was_reset && !state.in_reset);
    let state = bench.mailbox.pf_state(&bench.regs).expect("there");
    assert!(!state.was_reset, "told once");
}

#[test]
fn strays_before_a_proper_reply_show_that_this_pf_nags() {
    // igbvf.md §6.7: every acknowledgement provokes a bare refusal.
    let mut bench = Bench::new(PfScript::new().on(5, &[&[0x4000_0000], &[0xA000_0005, 0x5EE]]));
    assert!(bench.ask(&lpe()).is_ok());
    assert!(bench.mailbox.nags());
    assert_eq!(bench.mailbox.next_notice(), None, "and they are no news");
    bench.mailbox.begin_life();
    assert!(
        !bench.mailbox.nags(),
        "another PF may be there after a reset"
    );
}

#[test]
fn m18_removal_in_the_middle_is_told_from_everything_else() {
    let mut bench = Bench::new(PfScript::new().removed_on(5));
    assert_eq!(bench.ask(&lpe()), Err(Failure::Gone));
}

#[test]
fn m17_a_message_flood_is_bounded() {
    let mut bench = Bench::new(PfScript::new().flooding(0x2000_0100));
    assert!(bench.ask(&lpe()).is_err());
    let mut kept = 0;
    while bench.mailbox.next_notice().is_some() {
        kept += 1;
    }
    assert!(kept <= MOST_NOTICES);
    assert!(bench.ticker.now() <= Duration::from_millis(1100));
}

#[test]
fn each_handshake_begins_a_life_with_a_number_of_its_own() {
    let mut bench = Bench::new(PfScript::new());
    let mut lives = vec![bench.mailbox.life()];
    for _ in 0..3 {
        bench.mailbox.begin_life();
        lives.push(bench.mailbox.life());
    }
    assert_eq!(lives, [0, 1, 2, 3]);
}

#[test]
fn what_the_pf_is_at_is_told_bit_by_bit() {
    let mut bench = Bench::new(PfScript::new().resetting_on(5));
    let state = |bench: &mut Bench| {
        let state = bench.mailbox.pf_state(&bench.regs).expect("there");
        (state.in_reset, state.was_reset, state.message)
    };
    assert_eq!(state(&mut bench), (false, false, false));
    bench.bar.pf_sends(&[0x2000_0100]);
    assert_eq!(state(&mut bench), (false, false, true));
    assert_eq!(state(&mut bench), (false, false, true), "until it is read");
    bench.mailbox.begin_life();
    assert!(bench.ask(&lpe()).is_err());
    assert!(state(&mut bench).0, "it is in reset");
}

/// Reads a pending message; gives the notices there are then, and whether a message still waits.
fn collected(bench: &mut Bench) -> (Vec<Notice>, bool) {
    let look = bench.mailbox.pf_state(&bench.regs);
    assert!(look.is_ok());
    let limit = Duration::from_millis(1);
    let collect = bench.mailbox.collect(&bench.regs, &bench.ticker, limit);
    assert!(block_on(&bench.ticker, collect).is_ok());
    let notices = std::iter::from_fn(|| bench.mailbox.next_notice()).collect();
    let state = bench.mailbox.pf_state(&bench.regs).expect("there");
    (notices, state.message)
}

#[test]
fn a_message_is_collected_once_and_under_the_lock() {
    let mut bench = Bench::new(PfScript::new());
    assert_eq!(collected(&mut bench), (vec![], false));
    assert!(bench.bar.writes().is_empty(), "there was nothing to read");
    bench.bar.pf_sends(&[0x2000_0100]);
    assert_eq!(collected(&mut bench), (vec![Notice::Look], false));
    assert_eq!(collected(&mut bench), (vec![], false));
    // While the PF writes, its message waits.
    let mut bench = Bench::new(PfScript::new().holding_the_buffer());
    bench.bar.pf_sends(&[0x2000_0100]);
    assert_eq!(collected(&mut bench), (vec![], true));
}
