//! Tests on real servers. One binary, a module per topic.

mod questdb_server;
mod rows;
mod schema;
