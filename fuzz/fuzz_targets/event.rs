//! Any bytes as Redis's answer about a stream: an event or nothing, without a panic; and an entry that somebody made of
//! fields comes back as these fields.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tripod::events::{Event, EventId, fuzzing::event_of_reply};

/// What the fuzzer starts from: bytes as they are, or an entry, so that it need not find the protocol.
#[derive(Debug, Arbitrary)]
enum Reply<'a> {
    Raw(&'a [u8]),
    Entry { millis: u64, sequence: u64, fields: Vec<(Name<'a>, &'a [u8])>, more: &'a [u8] },
}

#[derive(Debug, Arbitrary)]
enum Name<'a> {
    Type,
    Time,
    Payload,
    Key,
    First,
    Group,
    Dead(u8),
    Other(&'a str),
}

impl Name<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Type => "type",
            Self::Time => "time",
            Self::Payload => "payload",
            Self::Key => "key",
            Self::First => "first",
            Self::Group => "group",
            Self::Dead(which) => {
                ["dead.id", "dead.group", "dead.tries", "dead.time", "dead.reason"][usize::from(which % 5)]
            }
            Self::Other(name) => name,
        }
    }
}

fn bulk(bytes: &[u8], reply: &mut Vec<u8>) {
    reply.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    reply.extend_from_slice(bytes);
    reply.extend_from_slice(b"\r\n");
}

fn look(event: &Event) {
    assert!(!event.effect_key().is_empty() || event.key.as_deref() == Some(""));
    assert_eq!(event.id.to_string().parse::<EventId>().unwrap(), event.id);
    let _ = (event.decode::<serde_json::Value>(), format!("{event:?}"));
}

fuzz_target!(|reply: Reply<'_>| match reply {
    Reply::Raw(bytes) => {
        event_of_reply(bytes).iter().for_each(look);
        if let Ok(id) = String::from_utf8_lossy(bytes).parse::<EventId>() {
            assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        }
    }
    Reply::Entry { millis, sequence, fields, more } => {
        let id = EventId { millis, sequence };
        let mut bytes = b"*2\r\n".to_vec();
        bulk(id.to_string().as_bytes(), &mut bytes);
        bytes.extend_from_slice(format!("*{}\r\n", fields.len() * 2).as_bytes());
        for (name, value) in &fields {
            bulk(name.text().as_bytes(), &mut bytes);
            bulk(value, &mut bytes);
        }
        bytes.extend_from_slice(more);
        let event = event_of_reply(&bytes).expect("an entry is an event");
        look(&event);
        let last = |wanted: &str| fields.iter().rev().find(|(name, _)| name.text() == wanted).map(|(_, value)| *value);
        let text = |wanted| last(wanted).and_then(|value| String::from_utf8(value.to_vec()).ok());
        assert_eq!(event.id, id);
        assert_eq!(event.payload, last("payload").unwrap_or_default());
        assert_eq!(event.kind.as_bytes(), String::from_utf8_lossy(last("type").unwrap_or_default()).as_bytes());
        assert_eq!((event.key, event.group), (text("key"), text("group")));
        assert_eq!(event.first_id, text("first").and_then(|id| id.parse().ok()));
    }
});
