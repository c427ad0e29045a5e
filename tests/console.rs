//! The console: what events change, what it draws at every size, and that nothing from outside
//! reaches the terminal unescaped. No server and no terminal is needed: `update` and `render` are pure.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tenure_client::{Mail, Page, RunDetail, RunSummary, Signal, Step, Tenant, Transition, Whoami};
use tenure_console::crossterm::event::{
    Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use tenure_console::detail::Tab;
use tenure_console::event::{Act, Action, Answer, Content, Event, Refusal, Request, RunAnswer};
use tenure_console::filter::Filter;
use tenure_console::keymap::{self, Command, Context};
use tenure_console::model::Model;
use tenure_console::ratatui::Terminal;
use tenure_console::ratatui::backend::TestBackend;
use tenure_console::ratatui::buffer::Buffer;
use tenure_console::ratatui::style::{Color, Modifier};
use tenure_console::theme::Theme;
use tenure_console::update::update;
use tenure_console::view;
use uuid::Uuid;

#[test]
fn a_new_console_asks_for_all_runs_once() {
    let mut desk = Desk::new();
    let Some(Action::Ask {
        request: Request::Runs(query),
        ..
    }) = desk.asked()
    else {
        panic!("no question for runs");
    };
    assert_eq!((query.workflow, query.limit), (None, Some(100)));
    desk.tick(5);
    assert_eq!(desk.asked(), None, "one question at a time");
    desk.answer(Answer::Runs(page(vec![run(1)])));
    desk.tick(1);
    assert!(desk.asked().is_some(), "it keeps the list fresh");
}

#[test]
fn the_selection_stays_on_its_run_while_rows_move() {
    let mut desk = Desk::with_runs(vec![run(1), run(2), run(3)]);
    desk.key(KeyCode::Down);
    assert_eq!(desk.selected(), Some(id(2)));
    desk.refresh(Answer::Runs(page(vec![run(9), run(8), run(1), run(2)])));
    assert_eq!(desk.selected(), Some(id(2)));
    desk.refresh(Answer::Runs(page(vec![run(9), run(8), run(1)])));
    assert_eq!(
        desk.selected(),
        Some(id(1)),
        "a run that is gone leaves the selection in its place"
    );
    desk.refresh(Answer::Runs(page(vec![])));
    assert_eq!(desk.selected(), None);
}

#[test]
fn an_answer_to_a_view_that_was_left_is_dropped() {
    let mut desk = Desk::with_runs(vec![run(1), run(2)]);
    desk.tick(1);
    let old = desk.generation();
    desk.key(KeyCode::Enter);
    assert!(matches!(
        desk.asked(),
        Some(Action::Ask {
            request: Request::Run { .. },
            ..
        })
    ));
    desk.send(Event::Answer {
        generation: old,
        at: desk.now,
        answer: Answer::Failed(refused("too late")),
    });
    assert!(!desk.text().contains("too late"));
    desk.answer(detail_answer(1, Content::Data));
    assert!(desk.text().contains("WHY"));
}

#[test]
fn a_lost_server_is_asked_again_after_a_longer_pause_each_time() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    for pause in [1, 2, 4, 8, 15, 15] {
        desk.tick(20);
        assert!(desk.asked().is_some());
        desk.answer(Answer::Failed(Refusal {
            reached: false,
            retryable: true,
            words: "the server cannot be reached".to_owned(),
        }));
        desk.tick(pause - 1);
        assert_eq!(desk.asked(), None, "before {pause} seconds are over");
        let text = desk.text();
        assert!(text.contains("! reconnecting"), "{text}");
        assert!(
            text.contains("the server cannot be reached") && text.contains("dunning"),
            "{text}"
        );
    }
    desk.tick(1);
    desk.answer(Answer::Runs(page(vec![run(1)])));
    assert!(desk.text().contains("+ live, data 0s old"));
    assert!(!desk.text().contains("cannot be reached"));
}

#[test]
fn nobody_looking_means_nothing_asked() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.send(Event::Terminal(TerminalEvent::FocusLost));
    desk.tick(60);
    assert_eq!(desk.asked(), None);
    assert!(
        desk.text()
            .contains("= paused until the window has focus, data 1m old")
    );
    desk.send(Event::Terminal(TerminalEvent::FocusGained));
    assert!(desk.asked().is_some());
}

#[test]
fn a_filter_is_understood_or_refused_in_words() {
    let filter =
        Filter::parse(" workflow:dunning status:no-handler tenant:\"Acme GmbH\" ").unwrap();
    assert_eq!(filter.query.workflow.as_deref(), Some("dunning"));
    assert_eq!(
        filter.query.status,
        Some(tenure_client::RunStatus::NoHandler)
    );
    assert_eq!(filter.tenant_name.as_deref(), Some("Acme GmbH"));
    let by_id = Filter::parse(&format!("tenant:{}", id(7))).unwrap();
    assert_eq!(
        (by_id.query.tenant_id, by_id.tenant_name),
        (Some(id(7)), None)
    );
    for (text, words) in [
        ("acme", "\"acme\" needs a field"),
        (
            "colour:red",
            "no field \"colour\"; there are workflow, state, status, tenant, key",
        ),
        ("status:lost", "no status \"lost\"; there are due, running"),
        ("state:", "state: needs a value"),
        ("key:\"a b", "the quote after key: is not closed"),
        ("key:a key:b", "\"key\" is named twice"),
        ("tenant:a tenant:b", "\"tenant\" is named twice"),
    ] {
        let refusal = Filter::parse(text).unwrap_err();
        assert!(
            refusal.starts_with(words),
            "{text} was refused with: {refusal}"
        );
    }
}

#[test]
fn a_tenants_name_is_looked_up_before_its_runs_are_asked_for() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Char('/'));
    desk.type_text("tenant:acme");
    desk.key(KeyCode::Enter);
    let tenants = Request::Tenants("acme".to_owned());
    assert!(matches!(desk.asked(), Some(Action::Ask { request, .. }) if request == tenants));
    desk.answer(Answer::Tenants(vec![
        tenant(1, "Acme GmbH"),
        tenant(2, "Acme Ltd"),
    ]));
    assert!(
        desk.text()
            .contains("several tenants match \"acme\": Acme GmbH, Acme Ltd")
    );
    desk.tick(1);
    desk.answer(Answer::Tenants(vec![tenant(1, "Acme GmbH")]));
    let Some(Action::Ask {
        request: Request::Runs(query),
        ..
    }) = desk.asked()
    else {
        panic!("no question for the tenant's runs");
    };
    assert_eq!(query.tenant_id, Some(id(1)));
}

#[test]
fn a_filter_that_is_wrong_changes_nothing_and_says_why() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    desk.key(KeyCode::Char('/'));
    desk.type_text("status:lost");
    desk.refresh(Answer::Runs(page(vec![run(1)])));
    assert!(desk.text().contains("! no status \"lost\""));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.model.context(), Context::Filter);
    desk.key(KeyCode::Esc);
    assert!(desk.text().contains("all runs") && desk.text().contains("dunning"));
}

#[test]
fn a_signal_goes_only_as_json_with_a_reason_and_not_by_the_first_enter() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('S'));
    desk.type_text("{\"paid\": ");
    assert!(desk.text().contains("not JSON"));
    desk.type_text("{}}");
    assert!(desk.text().contains("the run will get signal \"paid\""));
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("! a reason is needed"));
    desk.key(KeyCode::BackTab);
    desk.key(KeyCode::BackTab);
    desk.type_text("the bank called");
    desk.key(KeyCode::Enter);
    assert!(
        desk.text().contains("> [ Keep it as it is ]"),
        "the safe button comes first"
    );
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    let signal = json!({"paid": {}});
    let wanted = Act::Signal {
        run_id: id(1),
        signal,
        reason: "the bank called".to_owned(),
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None, "what is under way is not sent twice");
}

#[test]
fn the_safe_ways_out_of_a_dialog_send_nothing() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    desk.type_text("because");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Enter);
    assert_eq!((desk.acted(), desk.model.has_dialog()), (None, false));
    desk.key(KeyCode::Char('R'));
    desk.key(KeyCode::Esc);
    assert_eq!((desk.acted(), desk.model.has_dialog()), (None, false));
    assert_eq!(desk.model.toast(), Some("Nothing was changed."));
}

#[test]
fn a_retry_names_the_revision_that_was_seen_and_is_refused_on_a_newer_one() {
    let mut desk = Desk::with_detail(true);
    desk.retry("it is fixed");
    let wanted = Act::Retry {
        run_id: id(1),
        revision: 41,
        reason: "it is fixed".to_owned(),
    };
    assert_eq!(desk.acted().map(|(_, act)| act), Some(wanted));

    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('R'));
    let mut newer = detail(1);
    newer.revision = 42;
    desk.refresh(run_answer(newer, Content::Data));
    assert!(
        desk.text()
            .contains("The run changed while this was open (revision 41 -> 42).")
    );
    desk.type_text("it is fixed");
    desk.key(KeyCode::Enter);
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    assert_eq!(desk.acted(), None);
    assert!(desk.text().contains("close it and look again"));
}

#[test]
fn a_lost_answer_repeats_the_wish_and_a_refusal_ends_it() {
    let mut desk = Desk::with_detail(true);
    desk.retry("it is fixed");
    let (first, _) = desk.acted().unwrap();
    desk.send(Event::Acted {
        intent: first,
        result: Err(Refusal {
            reached: false,
            retryable: true,
            words: "no answer".to_owned(),
        }),
    });
    assert!(desk.text().contains("! no answer"));
    desk.key(KeyCode::Enter);
    let (second, _) = desk.acted().unwrap();
    assert_eq!(first, second, "the server may have done it already");
    desk.send(Event::Acted {
        intent: second,
        result: Err(refused("the run moved on")),
    });
    assert!(desk.text().contains("! the run moved on"));
    desk.key(KeyCode::Enter);
    let (third, _) = desk.acted().unwrap();
    assert_ne!(second, third);
    desk.send(Event::Acted {
        intent: third,
        result: Ok("The run is being tried again.".to_owned()),
    });
    assert!(!desk.model.has_dialog());
    assert_eq!(desk.model.toast(), Some("The run is being tried again."));
}

#[test]
fn other_words_are_another_wish() {
    let mut desk = Desk::with_detail(true);
    desk.retry("one");
    let (first, _) = desk.acted().unwrap();
    let lost = Refusal {
        reached: false,
        retryable: true,
        words: "no answer".to_owned(),
    };
    desk.send(Event::Acted {
        intent: first,
        result: Err(lost),
    });
    desk.key(KeyCode::BackTab);
    desk.key(KeyCode::BackTab);
    desk.type_text("!");
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Tab);
    desk.key(KeyCode::Enter);
    assert_ne!(desk.acted().unwrap().0, first);
}

#[test]
fn a_verb_that_the_server_refuses_says_why() {
    let mut desk = Desk::with_detail(false);
    desk.key(KeyCode::Char('R'));
    assert!(!desk.model.has_dialog());
    assert_eq!(
        desk.model.toast(),
        Some("You cannot retry this run now: needs role support")
    );
    desk.key(KeyCode::Char('?'));
    assert!(desk.text().contains("[not now: needs role support]"));
}

#[test]
fn a_tab_that_is_refused_leaves_the_run_on_show() {
    let mut desk = Desk::with_detail(true);
    desk.key(KeyCode::Char('5'));
    let asked = desk.asked();
    assert!(matches!(
        asked,
        Some(Action::Ask {
            request: Request::Run {
                tab: Tab::Mails,
                ..
            },
            ..
        })
    ));
    desk.answer(detail_answer(
        1,
        Content::Refused("Forbidden: mails need role support".to_owned()),
    ));
    let text = desk.text();
    assert!(
        text.contains("! Forbidden: mails need role support") && text.contains("WHY"),
        "{text}"
    );
}

#[test]
fn copying_gives_the_text_itself_and_says_how_much() {
    let mut desk = Desk::with_runs(vec![run(1)]);
    let actions = desk.key(KeyCode::Char('y'));
    assert!(actions.contains(&Action::Copy(id(1).to_string())));
    assert_eq!(desk.model.toast(), Some("Copied 36 characters."));
}

#[test]
fn no_two_commands_share_a_key_and_each_says_what_it_does() {
    let printed = keymap::printed();
    for context in Context::ALL {
        let mut seen: Vec<keymap::Key> = Vec::new();
        for binding in keymap::bindings(context) {
            assert!(
                !binding.keys.is_empty() && !binding.help.is_empty(),
                "{:?}",
                binding.command
            );
            assert!(
                printed.contains(binding.help),
                "{} is not printed",
                binding.help
            );
            for key in binding.keys {
                assert!(
                    !seen.contains(key),
                    "{} has two meanings in {context:?}",
                    key.name()
                );
                seen.push(*key);
            }
        }
        let leave = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(keymap::command(context, &leave), Some(Command::Quit));
    }
}

#[test]
fn keys_that_change_something_are_capitals() {
    for binding in keymap::BINDINGS {
        if matches!(binding.command, Command::Signal | Command::Retry) {
            let names: Vec<_> = binding.keys.iter().map(|key| key.name()).collect();
            assert!(
                names
                    .iter()
                    .all(|name| name.len() == 1 && name.to_uppercase() == *name),
                "{names:?}"
            );
        }
    }
}

#[test]
fn the_screens_look_as_they_should() {
    let mut desk = Desk::with_runs((1..=14).map(run).collect());
    desk.key(KeyCode::Down);
    insta::assert_snapshot!("run_list_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("run_list_120x10", desk.frame(120, 10));
    insta::assert_snapshot!("run_list_40x10", desk.frame(40, 10));
    insta::assert_snapshot!("run_list_19x4", desk.frame(19, 4));
    desk.key(KeyCode::Char('?'));
    insta::assert_snapshot!("help_80x24", desk.frame(80, 24));

    let mut desk = Desk::with_detail(true);
    desk.refresh(detail_answer(1, Content::Timeline(transitions(), steps())));
    insta::assert_snapshot!("run_timeline_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("run_timeline_40x12", desk.frame(40, 12));
    desk.key(KeyCode::Char('R'));
    insta::assert_snapshot!("retry_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("retry_60x16", desk.frame(60, 16));
    desk.key(KeyCode::Esc);
    desk.key(KeyCode::Char('2'));
    desk.answer(detail_answer(1, Content::Data));
    insta::assert_snapshot!("run_data_80x24", desk.frame(80, 24));
    desk.key(KeyCode::Char('4'));
    desk.answer(detail_answer(1, Content::Signals(signals())));
    insta::assert_snapshot!("run_signals_80x24", desk.frame(80, 24));
}

#[test]
fn mails_unfold_in_ascii_without_a_byte_beyond_it() {
    let mut desk = Desk::with_theme(Theme {
        ascii: true,
        no_color: true,
    });
    desk.key(KeyCode::Char('m'));
    desk.answer(Answer::Mails(mails()));
    desk.key(KeyCode::Enter);
    let frame = desk.frame(80, 16);
    assert!(frame.is_ascii());
    insta::assert_snapshot!("mails_ascii_80x16", frame);
}

#[test]
fn a_status_is_a_sign_and_a_word_and_never_only_a_colour() {
    let mut desk = Desk::with_theme(Theme {
        ascii: false,
        no_color: true,
    });
    desk.answer(Answer::Runs(page((1..=14).map(run).collect())));
    let buffer = desk.draw(80, 24);
    let plain = [Color::Reset];
    assert!(
        buffer
            .content
            .iter()
            .all(|cell| plain.contains(&cell.fg) && plain.contains(&cell.bg))
    );
    let text = glyphs(&buffer);
    let mut signs = BTreeSet::new();
    for status in tenure_client::RunStatus::ALL {
        let words = tenure_console::theme::status_words(status);
        assert!(text.contains(&words), "{words} is not on the screen");
        signs.insert(words.chars().next());
    }
    assert_eq!(
        signs.len(),
        tenure_client::RunStatus::ALL.len(),
        "each status has its own sign"
    );
}

#[test]
fn the_line_under_the_cursor_is_marked_and_reversed() {
    let mut desk = Desk::with_runs(vec![run(1), run(2)]);
    desk.key(KeyCode::Down);
    let buffer = desk.draw(80, 24);
    assert_eq!(buffer[(0, 4)].symbol(), ">");
    assert!(buffer[(40, 4)].modifier.contains(Modifier::REVERSED));
    assert!(!buffer[(40, 3)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn a_date_on_a_test_clock_is_marked_and_never_counted() {
    let mut clocked = run(8);
    clocked.next_clock = Some(tenure_client::DeadlineClock::Tenant);
    clocked.next_at = Some("2027-02-11T09:00:00Z".parse().unwrap());
    let mut desk = Desk::with_runs(vec![run(7), clocked]);
    let text = desk.frame(80, 24);
    assert!(text.contains("NEXT (t)enant's"), "{text}");
    assert!(text.contains("(t) 11 Feb 2027"), "{text}");
    assert!(text.contains("1d  25 Nov 05:02"), "{text}");
    let text = desk.frame(120, 24);
    assert!(
        text.contains("NEXT UTC") && text.contains("tenant's 11 Feb 2027"),
        "{text}"
    );
    assert!(desk.frame(59, 15).contains("11 Feb 2027 (t)"));
    desk.key(KeyCode::Enter);
    let mut answer = detail(8);
    answer.deadlines.truncate(1);
    desk.answer(run_answer(answer, Content::Data));
    let text = desk.frame(80, 24);
    let unknown = "Next: downgrade  Thu 26 Nov 2026 09:00 UTC  (test clock)";
    assert!(text.contains(unknown), "{text}");
}

#[test]
fn the_timeline_is_in_real_time_with_the_tenants_beside_it() {
    let mut moved = transitions();
    moved[1].tenant_at = Some("2027-02-14T09:00:00Z".parse().unwrap());
    let mut desk = Desk::with_detail(true);
    desk.refresh(detail_answer(1, Content::Timeline(moved, steps())));
    let line = "2026-11-20 16:12:40  retry: past_due, stuck, by sam (tenant's 14 Feb 2027)";
    let text = desk.frame(80, 24);
    assert!(text.contains(line), "{text}");
    desk.key(KeyCode::Enter);
    let text = desk.frame(80, 24);
    let line = "visit 2, at 2027-02-14 09:00:00 on the tenant's test clock";
    assert!(text.contains(line), "{text}");
}

#[test]
fn hostile_text_is_shown_and_not_obeyed() {
    let mut hostile = run(1);
    hostile.tenant_name = Some("\u{1b}[2J\u{202e}x\u{7}".to_owned());
    hostile.key = "a\nb\tc\u{9b}".to_owned();
    let mut desk = Desk::with_runs(vec![hostile]);
    let text = desk.frame(200, 20);
    assert!(
        text.contains("^[[2J<202E>x^G") && text.contains("a^Jb^Ic<9B>"),
        "{text}"
    );
}

#[test]
fn whatever_happens_it_neither_panics_nor_lets_a_control_character_through() {
    for seed in 1..=16 {
        let mut dice = Dice(seed);
        let mut desk = Desk::with_theme(Theme {
            ascii: seed % 2 == 0,
            no_color: seed % 3 == 0,
        });
        for _ in 0..150 {
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
    const LETTERS: &str = "/SRwmnpyezjkgGq?12345 {}\":a1[]\u{202e}東é";
    match dice.below(10) {
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
    match dice.below(7) {
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
        _ => Answer::Failed(refused("no \u{1b}[31m, never")),
    }
}

/// A console without server and terminal: events go in, actions and frames come out.
struct Desk {
    model: Model,
    now: DateTime<Utc>,
    actions: Vec<Action>,
    generation: u64,
}

impl Desk {
    fn new() -> Self {
        Self::with_theme(Theme::default())
    }

    fn with_theme(theme: Theme) -> Self {
        let now = start();
        let who = json!({"token_name": "maria", "role": "support", "environment": "dev"});
        let model = Model::new(parse::<Whoami>(who), theme, now);
        let mut desk = Self {
            model,
            now,
            actions: Vec::new(),
            generation: 0,
        };
        desk.tick(0);
        desk
    }

    fn with_runs(runs: Vec<RunSummary>) -> Self {
        let mut desk = Self::new();
        desk.answer(Answer::Runs(page(runs)));
        desk
    }

    /// A run on show; retry is allowed or refused.
    fn with_detail(may_retry: bool) -> Self {
        let mut desk = Self::with_runs(vec![run(1), run(2)]);
        desk.key(KeyCode::Enter);
        let mut detail = detail(1);
        if !may_retry {
            detail.allowed_actions[1].allowed = false;
            detail.allowed_actions[1].reason = Some("needs role support".to_owned());
        }
        desk.answer(run_answer(
            detail,
            Content::Timeline(Vec::new(), Vec::new()),
        ));
        desk
    }

    fn send(&mut self, event: Event) -> Vec<Action> {
        let actions = update(&mut self.model, event);
        for action in &actions {
            if let Action::Ask { generation, .. } = action {
                self.generation = *generation;
            }
        }
        self.actions.clone_from(&actions);
        actions
    }

    fn key(&mut self, code: KeyCode) -> Vec<Action> {
        self.send(press(code))
    }

    fn type_text(&mut self, text: &str) {
        for character in text.chars() {
            self.key(KeyCode::Char(character));
        }
    }

    fn tick(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
        self.send(Event::Tick(self.now));
    }

    fn answer(&mut self, answer: Answer) {
        self.send(Event::Answer {
            generation: self.generation,
            at: self.now,
            answer,
        });
    }

    /// The next poll, answered.
    fn refresh(&mut self, answer: Answer) {
        self.tick(1);
        self.answer(answer);
    }

    fn retry(&mut self, reason: &str) {
        self.key(KeyCode::Char('R'));
        self.type_text(reason);
        self.key(KeyCode::Enter);
        self.key(KeyCode::Tab);
        self.key(KeyCode::Enter);
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    /// The question that the last event led to.
    fn asked(&self) -> Option<Action> {
        self.actions
            .iter()
            .find(|action| matches!(action, Action::Ask { .. }))
            .cloned()
    }

    /// The act that the last event led to.
    fn acted(&self) -> Option<(u64, Act)> {
        self.actions.iter().find_map(|action| match action {
            Action::Act { intent, act } => Some((*intent, act.clone())),
            _ => None,
        })
    }

    fn selected(&self) -> Option<Uuid> {
        self.model.list().selected().map(|run| run.run_id)
    }

    fn draw(&self, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| view::render(frame, &self.model))
            .unwrap();
        terminal.backend().buffer().clone()
    }

    fn frame(&mut self, width: u16, height: u16) -> String {
        self.send(Event::Terminal(TerminalEvent::Resize(width, height)));
        glyphs(&self.draw(width, height))
    }

    fn text(&self) -> String {
        glyphs(&self.draw(120, 40))
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

/// The characters of a frame, line by line, without blanks at the ends.
fn glyphs(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let lines = buffer.content.chunks(width).map(|row| {
        let mut line = String::new();
        let mut covered = 0;
        for cell in row {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            covered = tenure_console::text::width(cell.symbol()).saturating_sub(1);
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn press(code: KeyCode) -> Event {
    let key = KeyEvent {
        kind: KeyEventKind::Press,
        ..KeyEvent::from(code)
    };
    Event::Terminal(TerminalEvent::Key(key))
}

fn start() -> DateTime<Utc> {
    "2026-11-23T14:02:11Z".parse().unwrap()
}

fn id(number: u8) -> Uuid {
    Uuid::from_u128(0x0190_a000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page {
        items,
        next_cursor: None,
    }
}

fn refused(words: &str) -> Refusal {
    Refusal {
        reached: true,
        retryable: false,
        words: words.to_owned(),
    }
}

fn run(number: u8) -> RunSummary {
    parse(run_json(number))
}

/// Runs 1 to 13 have one status each.
fn run_json(number: u8) -> Value {
    let statuses = tenure_client::RunStatus::ALL;
    let status = statuses[usize::from(number + 7) % statuses.len()];
    let pick = |names: [&'static str; 3]| names[usize::from(number % 3)];
    let next_at = start() + TimeDelta::hours(i64::from(number) * 7 - 10);
    json!({
        "run_id": id(number),
        "tenant_id": id(100 + number % 3),
        "tenant_name": pick(["Acme GmbH", "Birch & Sons Limited", "東京商事"]),
        "workflow": pick(["subscription", "dunning", "invoice"]),
        "key": format!("sub_{number:03}"),
        "version": 13,
        "status": status,
        "state": pick(["grace", "trialing", "past_due"]),
        "epoch": 12,
        "visit": 4,
        "attempt": 3,
        "next_at": if status.is_terminal() { Value::Null } else { json!(next_at) },
        "started_at": start() - TimeDelta::hours(i64::from(number) * 30),
        "changed_at": start() - TimeDelta::hours(2),
    })
}

fn detail(number: u8) -> RunDetail {
    let mut value = run_json(number);
    let more = json!({
        "data": {
            "invoice": {"number": "2026-001", "big": 9_007_199_254_740_993_u64},
            "attempts": [1, 2],
            "note": "evil \u{1b}[31m text",
        },
        "deadlines": [
            {"name": "downgrade", "at": "2026-11-26T09:00:00Z", "clock": "tenant"},
            {"name": "retry-charge", "at": "2026-11-23T15:00:00Z", "clock": "real"},
        ],
        "why": {
            "kind": "stuck_step",
            "summary": "Step \"charge\" failed with a final error (account_closed). It waits for \
                signal \"payment_method_updated\" until Thu 26 Nov 09:00, then goes to \"downgrade\".",
            "evidence": [
                {"label": "last error", "value": "402 account_closed"},
                {"label": "attempts", "value": "12 of 12"},
            ],
        },
        "allowed_actions": [
            {"action": "signal", "allowed": true},
            {"action": "retry", "allowed": true},
            {"action": "cancel", "allowed": false, "reason": "needs role operator"},
        ],
        "revision": 41,
    });
    value
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    parse(value)
}

fn run_answer(run: RunDetail, content: Content) -> Answer {
    Answer::Run(Box::new(RunAnswer {
        run,
        tenant: None,
        clock: None,
        content,
    }))
}

fn detail_answer(number: u8, content: Content) -> Answer {
    run_answer(detail(number), content)
}

fn transitions() -> Vec<Transition> {
    parse(json!([
        {"visit": 1, "at": "2026-11-18T09:00:00Z", "event": "entered", "to_state": "past_due", "outcome": "moved"},
        {"visit": 2, "at": "2026-11-20T16:12:40Z", "event": "retry", "from_state": "past_due",
            "to_state": "past_due", "outcome": "stuck", "actor": "sam", "detail": {"reason": "card is fixed"}},
    ]))
}

fn steps() -> Vec<Step> {
    parse(json!([
        {"visit": 1, "seq": 0, "name": "notify", "answer": {"sent": true}, "recorded_at": "2026-11-18T08:59:58Z"},
        {"visit": 2, "seq": 0, "name": "charge", "recorded_at": "2026-11-20T16:12:40Z",
            "error": {"code": "account_closed", "message": "The account \u{1b}[1mis closed."}},
    ]))
}

fn signals() -> Vec<Signal> {
    parse(json!([
        {"signal_id": "evt_1", "name": "payment_failed", "payload": {"payment_failed": {"code": "x"}},
            "received_at": "2026-11-18T09:00:00Z", "outcome": "accepted"},
        {"signal_id": "evt_2", "name": "resume", "payload": "resume",
            "received_at": "2026-11-19T09:00:00Z", "outcome": "rejected", "reason": "grace rejects it"},
    ]))
}

fn mails() -> Vec<Mail> {
    parse(json!([
        {"notice_id": id(31), "tenant_id": id(101), "kind": "payment_failed", "to": "ops@acme.example",
            "subject": "Your payment \u{1b}]0;x\u{7}failed", "status": "sent", "sent_at": "2026-11-18T09:00:00Z",
            "body_text": "Dear Acme,\n\nwe could not charge your card. Please add another one before 26 November, \
                or your plan will change.\n"},
        {"notice_id": id(32), "tenant_id": id(101), "kind": "renewed", "to": "ops@acme.example",
            "subject": "Renewed", "status": "queued", "body_text": "Thank you."},
    ]))
}

fn tenant(number: u8, name: &str) -> Tenant {
    parse(json!({
        "tenant_id": id(number), "name": name, "email": "ops@acme.example", "zone": "Europe/Berlin",
        "shard_id": 7, "created_at": "2026-01-01T00:00:00Z",
    }))
}
