//! Any text as the config file, and any value for one environment variable: refused with a sentence, or read, without a
//! panic; and what was a password in it stands in no error.
#![no_main]

use std::cell::RefCell;
use std::io::{Seek, Write};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tripod::config::Config;

/// Found in no word that an error could say.
const SECRET: &str = "zq9xv7kj3w";

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// Lines that are taken from the reference, so that the fuzzer meets real keys.
    from_reference: Vec<u8>,
    text: &'a str,
    variable: Option<(&'a str, &'a str)>,
}

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new().unwrap());
}

fuzz_target!(|input: Input<'_>| {
    let reference = tripod::config::reference();
    let lines: Vec<&str> = reference.lines().filter(|line| !line.is_empty()).collect();
    let mut text = String::new();
    for number in input.from_reference.chunks(2) {
        let number = number.iter().fold(0, |number, byte| number * 256 + usize::from(*byte));
        let line = lines[number % lines.len()];
        // What the reference shows as a comment is a key here.
        text.push_str(line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line));
        text.push('\n');
    }
    text.push_str(&input.text.replace("SECRET", SECRET));
    FILE.with_borrow_mut(|file| {
        file.as_file_mut().set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let variables = input.variable.map(|(name, value)| (format!("TRIPOD__{name}"), value.to_owned()));
        match Config::load_with(file.path(), variables) {
            Ok(config) => assert!(!format!("{config:?}").contains(SECRET) || !text.contains("password"), "{text}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
});
