//! Which boot of the machine this is: a journal of another one may have lost what was never synced.
//!
//! Constraints: 0 is "unknown", and unknown is never taken for another boot: then nothing is cut as lost with the power.

/// This boot's number; 0 where the kernel does not say.
pub(crate) fn current() -> u64 {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or(0, |text| number(&text))
}

/// True if what was written in boot `then` may have lost what was not synced.
pub(crate) fn is_another(then: u64, now: u64) -> bool {
    then != 0 && now != 0 && then != now
}

fn number(text: &str) -> u64 {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_a_number_that_stays_and_unknown_is_no_other_boot() {
        assert_eq!(number("c4160176-7e30-4aae-be9a-230d46625887\n"), 0xc416_0176_7e30_4aae);
        assert_eq!(current(), current());
        assert!(is_another(1, 2));
        assert!(!is_another(0, 2) && !is_another(2, 0) && !is_another(2, 2));
    }
}
