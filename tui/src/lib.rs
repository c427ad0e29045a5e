//! The window for support staff: look at runs, understand them, intervene.
//!
//! One lap, always in this direction: an [`event::Event`] comes in, [`update::update`] changes the
//! [`model::Model`] and answers [`event::Action`]s, the backend carries them out and its answers are
//! events again; [`view::render`] draws the model. Only the backend awaits the server, only
//! `clock` knows the time.
//!
//! The console speaks to the HTTP API and to nothing else, and shows workflows it has never heard of.

pub mod text;
pub mod theme;
pub mod time;

pub mod filter;
pub mod json;
pub mod tree;

pub mod audit;
pub mod bulk;
pub mod bulks;
pub mod detail;
pub mod event;
pub mod flow;
pub mod keymap;
pub mod life;
pub mod link;
pub mod list;
pub mod mails;
pub mod many;
pub mod model;
pub mod retention;
mod reveal;
pub mod schedules;
pub mod tenant;
pub mod tenants;

mod account;
mod changes;
mod contents;
mod deeds;
mod dialog;
mod form;
mod gauge;
mod menu;
mod pages;
mod place;
mod sections;
mod slots;
mod subject;

pub mod update;
pub mod view;

mod backend;
mod clock;
mod terminal;

pub mod config;
pub mod runner;

// The types of these two stand in public signatures; tests reach them through here.
pub use {crossterm, ratatui};
