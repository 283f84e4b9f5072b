use std::collections::BTreeSet;

use secrecy::ExposeSecret;

use super::*;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config> {
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::from_text(text, Path::new("test.toml"), Path::new("/base"), variables)
}

fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
    parse(text, variables).expect_err("was accepted").to_string()
}

#[test]
fn the_reference_parses_to_the_defaults_and_explains_every_key() {
    let read: toml::Table = toml::from_str(&reference()).unwrap();
    assert_eq!(read, toml::Table::try_from(Config::default()).unwrap());
    parse(&reference(), &[]).unwrap();

    // A key that `shape` has and the reference does not would be a key without a sentence.
    fn keys(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => keys(&format!("{prefix}{key}."), inner, found),
                toml::Value::Array(list) if list.first().is_some_and(toml::Value::is_table) => {
                    keys(&format!("{prefix}{key}."), list[0].as_table().unwrap(), found);
                }
                _ => drop(found.insert(format!("{prefix}{key}"))),
            }
        }
    }
    let mut in_shape = BTreeSet::new();
    keys("", &reference::shape(), &mut in_shape);
    let mut commented = BTreeSet::new();
    let mut section = String::new();
    let text = reference();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        if let Some(name) = pair[0].strip_prefix('[').map(|l| l.trim_end_matches(']').trim_start_matches('[')) {
            section = format!("{name}.");
        }
        let key = pair[1].trim_start_matches("# ").split_once(" = ").map(|(key, _)| key);
        if let (true, Some(key)) = (pair[0].starts_with("# "), key) {
            commented.insert(format!("{section}{key}"));
        }
    }
    assert_eq!(commented, in_shape);
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    assert!(refusal("[tape]\nflush_intervall_ms = 5\n", &[]).contains("flush_intervall_ms"));
    assert!(refusal("tapes = 1\n", &[]).contains("tapes"));
    assert!(refusal("[[questdb]]\nhost = \"x\"\n", &[]).contains("host"));
    assert!(refusal("not toml", &[]).contains("is not TOML"));
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_as_strictly() {
    let config = parse(
        "bot = \"file\"\n[tape]\nflush_rows = 5\n",
        &[
            ("TRIPOD__BOT", "7"),
            ("TRIPOD__TAPE__FLUSH_ROWS", "9"),
            ("TRIPOD__QUESTDB__0__PASSWORD", "hidden"),
            ("TRIPOD__REDIS__EVENTS__ADDRESSES", "10.0.0.1:1"),
            ("TRIPOD__POSTGRES__TLS", "true"),
            ("UNRELATED", "x"),
        ],
    )
    .unwrap();
    assert_eq!((config.bot.as_str(), config.tape.flush_rows), ("7", 9));
    assert_eq!(config.questdb[0].password.expose_secret(), "hidden");
    assert_eq!(config.redis.events.addresses, ["10.0.0.1:1"]);
    assert!(config.postgres.tls);

    assert!(refusal("", &[("TRIPOD__TAPE__FLUSH_ROW", "1")]).contains("TRIPOD__TAPE__FLUSH_ROW"));
    assert!(refusal("", &[("TRIPOD__TAPE__FLUSH_ROWS", "many")]).contains("not a whole number"));
    assert!(refusal("", &[("TRIPOD__TAPE", "many")]).contains("names no key"));
    assert!(refusal("", &[("TRIPOD__QUESTDB__3__HTTP", "a:1")]).contains("no questdb number 3"));
}

#[test]
fn a_value_of_the_wrong_kind_is_named_by_its_key() {
    let said = refusal("[redis.events]\ntls = \"yes\"\n", &[]);
    assert!(said.contains("redis.events.tls") && said.contains("boolean"), "{said}");
    let said = refusal("[postgres]\npassword_file = \"nowhere\"\n", &[]);
    assert!(said.contains("nowhere") && said.contains("No such file"), "{said}");
}

#[test]
fn who_names_an_authority_or_a_socket_is_told_what_tls_makes_of_it() {
    for section in ["[[questdb]]", "[postgres]", "[redis.prices]"] {
        let said = refusal(&format!("{section}\nca_file = \"ca.pem\"\n"), &[]);
        assert!(said.contains("ca_file") && said.contains("tls"), "{section}: {said}");
    }
    let config = parse("[redis.events]\ntls = true\nca_file = \"ca.pem\"\n", &[]).unwrap();
    assert!(config.redis.events.ca_file.unwrap().ends_with("ca.pem"));
    let said = refusal("[redis.events]\ntls = true\naddresses = [\"/run/redis.sock\"]\n", &[]);
    assert!(said.contains("redis.events.addresses"), "{said}");
}

#[test]
fn a_section_that_is_there_in_part_keeps_its_own_defaults() {
    let config = parse("[redis.events]\ndeadline_ms = 50\n", &[]).unwrap();
    assert_eq!(config.redis.events.addresses, Config::default().redis.events.addresses);
    assert_ne!(config.redis.events.addresses, config.redis.prices.addresses);
}

#[test]
fn values_out_of_range_name_their_key() {
    for (text, key) in [
        ("bot = \"a b\"", "bot"),
        ("bot = \"\"", "bot"),
        ("bot = \"../up\"", "bot"),
        ("[journal]\nsegment_mib = 0", "journal.segment_mib"),
        ("[journal]\ncritical_budget_mib = 1", "journal.critical_budget_mib"),
        ("[tape]\nflush_rows = 0", "tape.flush_rows"),
        ("[tape]\ntable_prefix = \"a;b\"", "tape.table_prefix"),
        ("[[questdb]]\nhttp = \"nowhere\"", "questdb.0.http"),
        ("[[questdb]]\n[[questdb]]", "is there twice"),
        ("questdb = []", "questdb"),
        ("[postgres]\nhosts = []", "postgres.hosts"),
        ("[redis.prices]\naddresses = [\"a:1\", \"b:2\"]", "redis.prices.addresses"),
        ("[prices]\nguard_ttl_ms = 100", "prices.guard_ttl_ms"),
        ("[events]\ncap = 0", "events.cap"),
    ] {
        let text = refusal(text, &[]);
        assert!(text.contains(key), "{text} does not name {key}");
    }
}

#[test]
fn a_secret_is_read_from_its_file_and_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "s3cret\n").unwrap();
    std::fs::write(
        dir.path().join(FILE_NAME),
        "[postgres]\npassword_file = \"secret\"\nadmin_password = \"s3cret\"\n[journal]\ndir = \"j\"\n",
    )
    .unwrap();
    let config = Config::load_with(&dir.path().join(FILE_NAME), []).unwrap();
    assert_eq!(config.postgres.password.expose_secret(), "s3cret");
    assert_eq!(config.journal_dir(), dir.path().join("j/bot"));
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(!toml::to_string(&config).unwrap().contains("s3cret"));

    std::fs::remove_file(dir.path().join("secret")).unwrap();
    let refused = Config::load_with(&dir.path().join(FILE_NAME), []).unwrap_err().to_string();
    assert!(refused.contains("secret"), "{refused}");
}

#[test]
fn no_error_repeats_a_secret() {
    const SECRET: &str = "f476ceb0bb91adff87";
    for text in [
        format!("[postgres]\npassword = \"{SECRET}"),
        format!("[postgres]\npassword = {SECRET}\n"),
        format!("[postgres]\npassword = \"{SECRET}\" junk\n"),
        format!("[postgres]\npassword = \"{SECRET}\"\npassword = \"{SECRET}\"\n"),
        format!("[postgres]\npassword = [\"{SECRET}\"]\nuser = 3"),
        format!("[postgres]\npassword = {{ {SECRET} = 1 }}"),
        "[postgres]\npassword = 47647647647\n".to_owned(),
        "[[questdb]]\npassword = 47647647647\n".to_owned(),
        "[redis.prices]\nadmin_password = 476476.47647\n".to_owned(),
        format!("[[questdb]]\nhttp = \"http://user:{SECRET}@host:1\"\n"),
    ] {
        let said = refusal(&text, &[]);
        assert!(!said.contains(SECRET) && !said.contains("476476"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(refusal("a = 1\nb = \n", &[]).contains("line 2"));
}

#[test]
fn a_missing_file_is_an_error_and_local_says_what_to_run() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Config::load(dir.path().join("no.toml")).unwrap_err().to_string().contains("no such file"));
    assert!(Config::local(dir.path()).unwrap_err().to_string().contains("tripod up"));
}
