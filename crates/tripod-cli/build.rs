//! Two things: what the drill `clock-back` puts between a process and its clock, and when to build again for the page.
//!
//! The first is a shared object of a page of C, since the C library is where every server and Rust itself ask for the
//! time. Its bytes go into the binary, so that the drill needs no compiler where it runs. The second: `npm run build`
//! makes web/dist, which the binary embeds. A file that is not there would make every build begin from here, so what is
//! named is what is there: the page's files, or the directory in which they would appear.

use std::error::Error;
use std::path::{Path, PathBuf};

const SOURCE: &str = "src/drill/clock.c";

fn main() -> Result<(), Box<dyn Error>> {
    let seen = ["web/dist", "web", "build.rs"].into_iter().find(|path| Path::new(path).exists());
    println!("cargo::rerun-if-changed={}", seen.unwrap_or("build.rs"));
    println!("cargo::rerun-if-changed={SOURCE}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo has set no OUT_DIR")?).join("drill_clock.so");
    let compiler = cc::Build::new().pic(true).opt_level(2).warnings(true).try_get_compiler()?;
    let status = compiler.to_command().args(["-shared", "-o"]).arg(&out).arg(SOURCE).arg("-ldl").status()?;
    if status.success() { Ok(()) } else { Err(format!("{SOURCE} was not compiled ({status})").into()) }
}
