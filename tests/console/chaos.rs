//! Whatever happens, at whatever size: no panic, and nothing that a terminal would obey.

use super::desk::{Desk, glyphs, press, refused};
use super::life_samples::{
    backfill, backfills, certificate, deletion, deletions, erasing, export, keeping, names,
    placement, placements, ranges,
};
use super::samples::{
    audit, bulk, detail_answer, flow, id, mails, page, results, retention, run, schedule,
    schedule_detail, signals, steps, tenant_answer, tenants, transitions, verbs, would,
};
use chrono::TimeDelta;
use serde_json::json;
use tenure_client::{Page, RunCount};
use tenure_console::crossterm::event::{Event as TerminalEvent, KeyCode};
use tenure_console::event::{Answer, Content, Done, Door, Event};
use tenure_console::theme::Theme;

#[test]
fn whatever_happens_it_neither_panics_nor_lets_a_control_character_through() {
    for seed in 1..=16 {
        let mut dice = Dice(seed);
        let mut desk = Desk::with_theme(Theme {
            ascii: seed % 2 == 0,
            no_color: seed % 3 == 0,
        });
        for _ in 0..250 {
            let event = random_event(&mut dice, &desk);
            desk.send(event);
            let (width, height) = SIZES[dice.below(SIZES.len())];
            let buffer = desk.draw(width, height);
            for cell in &buffer.content {
                let clean = cell
                    .symbol()
                    .chars()
                    .all(|c| !c.is_control() && c != '\u{202e}');
                assert!(clean, "seed {seed}: {:?}", cell.symbol());
            }
            let text = glyphs(&buffer);
            if width >= 20 && height >= 5 {
                assert!(
                    text.starts_with("dev"),
                    "seed {seed}: no environment in\n{text}"
                );
            }
        }
    }
}

const SIZES: [(u16, u16); 9] = [
    (1, 1),
    (20, 5),
    (19, 4),
    (40, 12),
    (59, 15),
    (60, 16),
    (80, 24),
    (100, 30),
    (200, 60),
];

fn random_event(dice: &mut Dice, desk: &Desk) -> Event {
    const KEYS: [KeyCode; 16] = [
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::F(1),
        KeyCode::F(5),
    ];
    const LETTERS: &str = "/SRBNaswtbdfhmnpyezjkguGq?12345 {}\":a1[]\u{202e}東é";
    match dice.below(11) {
        0..=2 => press(KEYS[dice.below(KEYS.len())]),
        3..=5 => {
            let letters: Vec<char> = LETTERS.chars().collect();
            press(KeyCode::Char(letters[dice.below(letters.len())]))
        }
        6 => Event::Terminal(TerminalEvent::Paste(
            "{\"a\u{1b}[31m\u{202e}\": \"\n\t東京\"}".repeat(3),
        )),
        7 => Event::Tick(desk.now + TimeDelta::seconds(1)),
        8 => {
            let (width, height) = SIZES[dice.below(SIZES.len())];
            Event::Terminal(TerminalEvent::Resize(width, height))
        }
        9 => Event::Acted {
            intent: desk.intent(),
            result: match dice.below(7) {
                0 => Ok(would()),
                3 => Ok(Done::Opens(
                    "see".to_owned(),
                    Door::Bulk(Box::new(bulk("prepared"))),
                )),
                4 => Ok(Done::Opens(
                    "see".to_owned(),
                    Door::Backfill(Box::new(backfill(json!({})))),
                )),
                5 => Ok(Done::Opens(
                    "see".to_owned(),
                    Door::Deletion(
                        Box::new(deletion("requested", json!({}))),
                        Some("/\u{1b}[31m".to_owned()),
                    ),
                )),
                6 => Ok(Done::Opens(
                    "see".to_owned(),
                    Door::Export(id(101), Box::new(export("writing")), None),
                )),
                1 => Ok(Done::Did("It is done \u{1b}[31m.".to_owned())),
                _ => Err(refused("no \u{202e}, never")),
            },
        },
        _ => {
            let generation = desk.generation();
            Event::Answer {
                generation,
                at: desk.now,
                answer: random_answer(dice),
            }
        }
    }
}

fn random_answer(dice: &mut Dice) -> Answer {
    match dice.below(23) {
        7 => Answer::Flow(Box::new(flow())),
        8 => Answer::Retention(Box::new(retention())),
        9 => {
            let (runs, more) = (12, true);
            Answer::Many(RunCount { runs, more }, verbs())
        }
        10 => Answer::Bulks(vec![bulk("prepared"), bulk("acting")]),
        11 => Answer::Bulk(Box::new(bulk("acting")), page(results())),
        12 => Answer::Tenants(page(tenants())),
        13 => Answer::Tenant(Box::new(tenant_answer())),
        14 => Answer::Life(Box::new(backfills(vec![backfill(json!({}))]))),
        15 => Answer::Life(Box::new(placements(vec![placement(102, "frozen")]))),
        16 => Answer::Life(Box::new(deletions(vec![erasing().deletion]))),
        17 => Answer::Life(Box::new(keeping())),
        18 => Answer::Backfill(Box::new(backfill(json!({}))), page(ranges()), names()),
        19 => {
            let certificate = Some(Box::new(certificate()));
            Answer::Deletion(Box::new(erasing()), certificate, names())
        }
        20 => Answer::Export(Box::new(export("ready"))),
        21 => {
            let mut acts = page(audit());
            acts.next_cursor = Some("more".to_owned());
            Answer::Audit(acts, names())
        }
        0 | 1 => {
            let runs = (0..dice.below(40)).map(|_| {
                let number = u8::try_from(dice.below(60)).unwrap() + 1;
                let mut run = run(number);
                if number.is_multiple_of(5) {
                    run.tenant_name = Some("\u{1b}]0;x\u{7}\u{202e}\u{200b}東京\r\n".to_owned());
                }
                run
            });
            Answer::Runs(Page {
                items: runs.collect(),
                next_cursor: Some("more".to_owned()),
            })
        }
        2 => detail_answer(1, Content::Timeline(transitions(), steps())),
        3 => detail_answer(2, Content::Signals(signals())),
        4 => detail_answer(3, Content::Data),
        5 => Answer::Mails(mails()),
        6 => {
            let detail = Some(Box::new(schedule_detail(1)));
            Answer::Schedules(vec![schedule(1), schedule(2)], detail)
        }
        _ => Answer::Failed(refused("no \u{1b}[31m, never")),
    }
}

/// A small generator of numbers (xorshift): the same seed gives the same story.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}
