//! Says when the binary has to be built again for its page: `npm run build` makes web/dist, which the binary embeds.
//!
//! A file that is not there would make every build begin from here, so it names what is there: the page's files, or the
//! directory in which they would appear.

use std::path::Path;

fn main() {
    let seen = ["web/dist", "web", "build.rs"].into_iter().find(|path| Path::new(path).exists());
    println!("cargo::rerun-if-changed={}", seen.unwrap_or("build.rs"));
}
