//! The sentinels and the replicas of `mode = "sentinel"`: whether a primary that dies would be replaced.
//!
//! Constraints: each sentinel is asked by the bot's login there, which may ask nothing but who is the primary. So it is
//! asked also where no primary answers. What is judged is what they say, in one place and without a server.

use std::collections::{BTreeSet, HashMap};

use crate::audit::{Departure, Finding};
use crate::config::{self, RedisMode};
use crate::error::{Result, Server};
use crate::redis::{Link, Sentinels};

/// Two must agree that a primary is gone, and most of all must elect who replaces it: with fewer, one that dies ends that.
const SENTINELS_MIN: usize = 3;

/// Looks at the sentinels of one instance; nothing where it has none. Needs no primary that answers.
///
/// # Errors
/// [`crate::Error::Invalid`] for an address that is none.
pub async fn sentinels(config: &config::Redis, server: Server) -> Result<Vec<Departure>> {
    Ok(judge(&ask(config, server).await?, &config.primary_name))
}

/// Looks at the replicas of the primary that `link` leads to; nothing where there are no sentinels.
///
/// # Errors
/// As every call of [`Link`].
pub async fn replicas(link: &Link, config: &config::Redis) -> Result<Option<Departure>> {
    let told = ask(config, link.server()).await?;
    if told.is_empty() {
        return Ok(None);
    }
    Ok(judge_replicas(&told, link.instance().await?.replicas))
}

/// Every sentinel's answer; none where there are no sentinels.
async fn ask(config: &config::Redis, server: Server) -> Result<Vec<Told>> {
    if config.mode != RedisMode::Sentinel {
        return Ok(Vec::new());
    }
    let answers = Sentinels::of(config, server)?.facts().await;
    let told = answers.into_iter().map(|(address, answer)| Told {
        address,
        answer: match answer {
            Ok(Some(facts)) => Answer::Knows(View::of(&facts)),
            Ok(None) => Answer::KnowsNone,
            Err(error) => Answer::Silent(error.to_string()),
        },
    });
    Ok(told.collect())
}

/// What one sentinel said.
#[derive(Debug)]
struct Told {
    address: String,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Knows(View),
    KnowsNone,
    Silent(String),
}

/// What a sentinel knows of the primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    primary: String,
    flags: String,
    quorum: usize,
    others: usize,
    replicas: u64,
}

impl View {
    fn of(facts: &HashMap<String, String>) -> Self {
        let text = |name: &str| facts.get(name).map(String::as_str).unwrap_or_default();
        Self {
            primary: format!("{}:{}", text("ip"), text("port")),
            flags: text("flags").to_owned(),
            quorum: text("quorum").parse().unwrap_or(0),
            others: text("num-other-sentinels").parse().unwrap_or(0),
            replicas: text("num-slaves").parse().unwrap_or(0),
        }
    }

    fn takes_it_for_gone(&self) -> bool {
        self.flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"))
    }
}

fn views(told: &[Told]) -> impl Iterator<Item = (&str, &View)> {
    told.iter().filter_map(|one| match &one.answer {
        Answer::Knows(view) => Some((one.address.as_str(), view)),
        Answer::KnowsNone | Answer::Silent(_) => None,
    })
}

/// The part that needs no server.
fn judge(told: &[Told], name: &str) -> Vec<Departure> {
    let mut found = Vec::new();
    if told.is_empty() {
        return found;
    }
    let silent: Vec<String> = told
        .iter()
        .filter_map(|one| match &one.answer {
            Answer::Silent(words) => Some(format!("{} ({words})", one.address)),
            Answer::Knows(_) | Answer::KnowsNone => None,
        })
        .collect();
    // Of all that there are, as each of them counts; those of the config where none says.
    let all = views(told).map(|(_, view)| view.others + 1).max().unwrap_or(told.len());
    let quorum = views(told).map(|(_, view)| view.quorum).max().unwrap_or(0);
    let needed = quorum.max(all / 2 + 1);
    let answering = told.len() - silent.len();
    if !silent.is_empty() {
        let what = format!("{} of {} sentinels do not answer: {}", silent.len(), told.len(), silent.join(", "));
        let remedy =
            "start them again, or take those that are gone for good out of `addresses` and SENTINEL RESET the others";
        found.push(if answering < needed {
            Departure::wrong(
                Finding::RedisSentinels,
                format!("{what}; {needed} must agree"),
                "a primary that dies now is not replaced: no event can be published until somebody starts it",
                remedy,
            )
        } else {
            let why = "a primary that dies is still replaced; with the next sentinel that dies perhaps not";
            Departure::advice(Finding::RedisSentinels, what, why, remedy)
        });
    }
    if all < SENTINELS_MIN {
        found.push(Departure::wrong(
            Finding::RedisSentinelCount,
            format!("there are {all} sentinels"),
            "if one of them dies with the primary, the rest are no majority and replace nobody",
            "run three, each on a machine of its own",
        ));
    }
    if quorum > all {
        found.push(Departure::wrong(
            Finding::RedisSentinelQuorum,
            format!("{quorum} sentinels must agree that the primary is gone, and there are {all}"),
            "they never will: a primary that dies is not replaced",
            format!("SENTINEL SET {name} quorum {}, at each of them", all / 2 + 1),
        ));
    }
    let ignorant: Vec<&str> =
        told.iter().filter(|one| matches!(one.answer, Answer::KnowsNone)).map(|one| one.address.as_str()).collect();
    let primaries: BTreeSet<&str> = views(told).map(|(_, view)| view.primary.as_str()).collect();
    if !ignorant.is_empty() || primaries.len() > 1 {
        let mut each: Vec<String> = views(told).map(|(at, view)| format!("{at} names {}", view.primary)).collect();
        each.extend(ignorant.iter().map(|at| format!("{at} knows no primary `{name}`")));
        found.push(Departure::wrong(
            Finding::RedisSentinelViews,
            format!("the sentinels do not name the same primary: {}", each.join(", ")),
            "a bot may write to a server that the others have replaced; during a failover it is so for some seconds",
            format!("look again; if it stays so: SENTINEL REMOVE {name} and SENTINEL MONITOR {name} with the right one, where it is wrong"),
        ));
    }
    let gone: Vec<&str> = views(told).filter(|(_, view)| view.takes_it_for_gone()).map(|(at, _)| at).collect();
    if !gone.is_empty() {
        found.push(Departure::wrong(
            Finding::RedisSentinelDown,
            format!("taken for gone by {}", gone.join(", ")),
            "the primary is dead, hangs, or cannot be reached from there; a failover may be under way",
            "`tripod status` says whether it answers here; the sentinels' logs say what they see",
        ));
    }
    found
}

/// `following` replicas are connected to the primary.
fn judge_replicas(told: &[Told], following: u64) -> Option<Departure> {
    let known = views(told).map(|(_, view)| view.replicas).max()?;
    (known == 0 || following < known).then(|| {
        let (what, remedy) = match known {
            0 => ("there is no replica".to_owned(), "run two replicas of the primary (`replicaof`)".to_owned()),
            _ => (
                format!("{following} of {known} replicas follow the primary"),
                "start the others again and see their logs; one that is gone for good is forgotten by SENTINEL RESET"
                    .to_owned(),
            ),
        };
        let why = "what the primary alone has is lost with it, and with min-replicas-to-write it refuses events";
        Departure::wrong(Finding::RedisReplicas, what, why, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(view: View) -> Told {
        Told { address: "10.0.0.5:26379".into(), answer: Answer::Knows(view) }
    }

    fn view() -> View {
        View { primary: "10.0.0.1:6379".into(), flags: "master".into(), quorum: 2, others: 2, replicas: 2 }
    }

    fn silent() -> Told {
        Told { address: "10.0.0.6:26379".into(), answer: Answer::Silent("timed out".into()) }
    }

    fn ids(told: &[Told]) -> Vec<&'static str> {
        judge(told, "tripod").iter().map(|found| found.id).collect()
    }

    #[test]
    fn three_that_agree_are_fine_and_each_departure_has_a_name_of_its_own() {
        assert_eq!(ids(&[knows(view()), knows(view()), knows(view())]), Vec::<&str>::new());
        let one_away = judge(&[knows(view()), knows(view()), silent()], "tripod");
        assert_eq!((one_away.len(), one_away[0].severity), (1, crate::audit::Severity::Advice));
        let two_away = judge(&[knows(view()), silent(), silent()], "tripod");
        assert_eq!((two_away.len(), two_away[0].severity), (1, crate::audit::Severity::Wrong));
        assert_eq!(ids(&[silent(), silent(), silent()]), ["redis.sentinels"]);
        let two = || knows(View { others: 1, ..view() });
        assert_eq!(ids(&[two(), two()]), ["redis.sentinel-count"]);
        let strict = || knows(View { quorum: 4, ..view() });
        assert_eq!(ids(&[strict(), strict(), strict()]), ["redis.sentinel-quorum"]);
        let other = knows(View { primary: "10.0.0.2:6379".into(), ..view() });
        assert_eq!(ids(&[knows(view()), knows(view()), other]), ["redis.sentinel-views"]);
        let none = Told { address: "10.0.0.7:26379".into(), answer: Answer::KnowsNone };
        assert_eq!(ids(&[knows(view()), knows(view()), none]), ["redis.sentinel-views"]);
        let gone = knows(View { flags: "master,s_down".into(), ..view() });
        assert_eq!(ids(&[knows(view()), knows(view()), gone]), ["redis.sentinel-down"]);
    }

    #[test]
    fn replicas_are_counted_against_those_that_the_sentinels_know() {
        let told = [knows(view())];
        assert_eq!(judge_replicas(&told, 2), None);
        assert!(judge_replicas(&told, 1).is_some_and(|found| found.what.starts_with("1 of 2")));
        assert!(judge_replicas(&[knows(View { replicas: 0, ..view() })], 0).is_some());
        assert_eq!(judge_replicas(&[silent()], 0), None, "nobody says how many there are");
    }
}
