//! How the screens look, at the sizes that people have.

use super::desk::{Desk, glyphs};
use super::samples::{detail_answer, mails, page, run, signals, steps, transitions, would};
use std::collections::BTreeSet;
use tenure_console::crossterm::event::KeyCode;
use tenure_console::event::{Answer, Content};
use tenure_console::ratatui::style::{Color, Modifier};
use tenure_console::theme::Theme;

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
    desk.type_text("it is fixed");
    desk.key(KeyCode::Enter);
    desk.done(Ok(would()));
    insta::assert_snapshot!("retry_shown_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("retry_shown_40x12", desk.frame(40, 12));
    desk.key(KeyCode::Esc);
    desk.key(KeyCode::Char('a'));
    desk.key(KeyCode::Down);
    desk.key(KeyCode::Down);
    insta::assert_snapshot!("menu_80x24", desk.frame(80, 24));
    insta::assert_snapshot!("menu_40x12", desk.frame(40, 12));
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
