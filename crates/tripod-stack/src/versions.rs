//! The versions of the servers, from the one file that `scripts/install-servers` reads too.

const FILE: &str = include_str!("../../../scripts/versions");

/// The value of `name`, empty where the file has no such line.
pub(crate) fn get(name: &str) -> &'static str {
    FILE.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or("", |(_, value)| value.trim())
}

/// The value of `name` as a major version, 0 where there is none.
pub(crate) fn major(name: &str) -> u32 {
    get(name).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_the_crate_asks_for_is_there() {
        assert!(get("QUESTDB_VERSION").split('.').count() == 3, "{}", get("QUESTDB_VERSION"));
        assert_eq!(get("QUESTDB_SHA256").len(), 64);
        for name in ["JAVA_MAJOR_MIN", "POSTGRES_MAJOR_MIN", "REDIS_MAJOR_MIN"] {
            assert!(major(name) > 0, "{name}");
        }
        assert_eq!(get("NO_SUCH_NAME"), "");
    }
}
