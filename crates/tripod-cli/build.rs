//! Builds what the drill `clock-back` puts between a process and its clock: a shared object of a page of C, since the C
//! library is where every server and Rust itself ask for the time. Its bytes go into the binary, so that the drill needs
//! no compiler where it runs.

use std::error::Error;
use std::path::PathBuf;

const SOURCE: &str = "src/drill/clock.c";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo has set no OUT_DIR")?).join("drill_clock.so");
    let compiler = cc::Build::new().pic(true).opt_level(2).warnings(true).try_get_compiler()?;
    let status = compiler.to_command().args(["-shared", "-o"]).arg(&out).arg(SOURCE).arg("-ldl").status()?;
    if status.success() { Ok(()) } else { Err(format!("{SOURCE} was not compiled ({status})").into()) }
}
