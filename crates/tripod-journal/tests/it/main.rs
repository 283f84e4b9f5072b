//! The journal from outside: real files, real threads, real kills. One binary, a module per topic.

mod crash;
mod damage;
mod limits;
mod model;
mod parallel;
mod snapshot;
mod support;
