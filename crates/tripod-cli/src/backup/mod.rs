//! Backup and restore of the three stores as one.

#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the commands that call it come with the other stores")
)]
pub(crate) mod postgres;
