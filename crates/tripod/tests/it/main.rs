//! Tests on real servers: one binary, a module per topic. Each test has servers, journals and names of its own.

mod delivery;
