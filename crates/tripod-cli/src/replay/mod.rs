//! `tripod replay`: a whole bot's work from recorded market data, and the proof that nothing was lost or doubled.

pub(crate) mod drive;
pub(crate) mod expect;
pub(crate) mod merge;
pub(crate) mod pace;
pub(crate) mod proof;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod script;
pub(crate) mod source;
pub(crate) mod survey;
pub(crate) mod timeline;
