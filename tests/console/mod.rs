//! The console: what events change, what it draws at every size, and that nothing from outside
//! reaches the terminal unescaped. No server and no terminal is needed: `update` and `render` are pure.

mod audit;
mod bulk;
mod change;
mod chaos;
pub(crate) mod desk;
mod detail;
mod flow;
mod keys;
mod life;
mod life_samples;
mod list;
mod private;
mod retention;
pub(crate) mod samples;
mod schedules;
mod screens;
mod start;
mod tenant;
