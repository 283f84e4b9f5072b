//! Who may look.
//!
//! Constraints: without a token the monitor listens on loopback only, and answers only who asked for a loopback name: a web
//! page that somebody's browser has open may let its own name point to 127.0.0.1 (DNS rebinding), and its requests carry
//! that name. With a token each request shows it: in `Authorization: Bearer`, or, in a browser, in a cookie that `/?token=`
//! has set, which no other site's page can send and no script can read. Comparing takes the same time whatever is shown.
//!
//! The monitor speaks plain HTTP: beyond one machine, a proxy with TLS belongs before it, or the token crosses the
//! network readable.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::exit::Stop;

/// The cookie's name.
const COOKIE: &str = "tripod_monitor";

/// What a request may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What it asks for.
    Granted,
    /// Nothing: it shows no token, or another one.
    NoToken,
    /// Nothing: it asked for a name that is not this machine's.
    ForeignHost,
    /// The token stood in the address of the page: it becomes a cookie, and the address is shown without it.
    Welcome(HeaderValue),
}

/// The rule in force.
#[derive(Clone)]
pub(super) struct Access {
    /// Of the token; none where there is no token.
    digest: Option<[u8; 32]>,
    /// What the cookie holds: made from the token, and not it.
    cookie: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("token", &self.digest.is_some()).finish_non_exhaustive()
    }
}

impl Access {
    /// The rule for this address and token.
    ///
    /// # Errors
    /// A refusal for an address that others reach, without a token.
    pub(super) fn new(listen: SocketAddr, token: &SecretString) -> Result<Self, Stop> {
        let token = token.expose_secret();
        if token.is_empty() {
            if !listen.ip().is_loopback() {
                return Err(Stop::refused(
                    format!("others reach {listen}, and there is no token"),
                    "put `token_file = \"FILE\"` into [monitor], or TRIPOD__MONITOR__TOKEN into the environment; or \
                     listen on 127.0.0.1 and let `ssh -L` or a proxy with TLS bring it further",
                ));
            }
            return Ok(Self { digest: None, cookie: String::new() });
        }
        let digest = digest(token);
        Ok(Self { digest: Some(digest), cookie: hex(&Sha256::digest([b"cookie ".as_slice(), &digest].concat())) })
    }

    /// Whether a token is asked for.
    pub(super) fn asks_for_a_token(&self) -> bool {
        self.digest.is_some()
    }

    /// Judges a request.
    pub(super) fn judge(&self, uri: &Uri, headers: &HeaderMap) -> Verdict {
        let Some(wanted) = &self.digest else {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            // A target like `http://name/path` counts before the header.
            let host = uri.authority().map(|authority| authority.as_str()).or(host);
            return if host.is_some_and(is_loopback_name) { Verdict::Granted } else { Verdict::ForeignHost };
        };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        if bearer.is_some_and(|token| same(&digest(token), wanted)) {
            return Verdict::Granted;
        }
        if cookies(headers).any(|value| same(&digest(value), &digest(&self.cookie))) {
            return Verdict::Granted;
        }
        let shown = if uri.path() == "/" { uri.query().and_then(token_in) } else { None };
        match shown {
            Some(token) if same(&digest(&token), wanted) => {
                let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
                // Hexadecimal digits in a fixed text: always a header.
                HeaderValue::from_str(&cookie).map_or(Verdict::NoToken, Verdict::Welcome)
            }
            _ => Verdict::NoToken,
        }
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.as_slice().ct_eq(b.as_slice()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The values of our cookie.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// `token=` of a query, percent signs resolved.
fn token_in(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `localhost:9600`, `127.0.0.1`, `[::1]:9600`.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
            _ => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    fn access(token: &str) -> Access {
        Access::new("127.0.0.1:0".parse().unwrap(), &token.to_owned().into()).unwrap()
    }

    fn judge(access: &Access, uri: &str, headers: &[(header::HeaderName, &str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), value.parse().unwrap());
        }
        access.judge(&uri.parse().unwrap(), &map)
    }

    #[test]
    fn without_a_token_only_loopback_is_listened_on_and_only_its_names_are_answered() {
        for listen in ["0.0.0.0:9600", "[::]:9600", "10.0.0.5:9600"] {
            let refused = Access::new(listen.parse().unwrap(), &String::new().into()).unwrap_err();
            assert_eq!(refused.exit, crate::exit::Exit::Refused);
            assert!(Access::new(listen.parse().unwrap(), &TOKEN.to_owned().into()).is_ok());
        }
        let open = access("");
        for host in ["localhost", "LOCALHOST:9600", "127.0.0.1:9600", "127.9.9.9", "[::1]:9600", "[::1]"] {
            assert_eq!(judge(&open, "/", &[(header::HOST, host)]), Verdict::Granted, "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.5", "", "[::1]x", "[::2]"]
        {
            assert_eq!(judge(&open, "/", &[(header::HOST, host)]), Verdict::ForeignHost, "{host}");
        }
        assert_eq!(judge(&open, "/", &[]), Verdict::ForeignHost, "no name at all");
        let absolute = "http://evil.example/metrics";
        assert_eq!(judge(&open, absolute, &[(header::HOST, "localhost")]), Verdict::ForeignHost);
    }

    #[test]
    fn a_token_is_shown_as_bearer_or_by_the_cookie_that_the_page_gets_for_it() {
        let access = access(TOKEN);
        let (good, bad) = (format!("Bearer {TOKEN}"), format!("Bearer {TOKEN}x"));
        assert_eq!(judge(&access, "/metrics", &[(header::AUTHORIZATION, &good)]), Verdict::Granted);
        assert_eq!(judge(&access, "/metrics", &[(header::AUTHORIZATION, &good.to_lowercase())]), Verdict::Granted);
        for header in [bad.as_str(), "Bearer ", "Bearer", TOKEN, "Basic dXNlcjpwYXNz"] {
            assert_eq!(judge(&access, "/metrics", &[(header::AUTHORIZATION, header)]), Verdict::NoToken, "{header}");
        }
        let Verdict::Welcome(cookie) = judge(&access, &format!("/?x=1&token={TOKEN}"), &[]) else { panic!("refused") };
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        assert!(!cookie.contains(TOKEN), "the cookie is not the token");
        let pair = cookie.split(';').next().unwrap();
        assert_eq!(judge(&access, "/api/snapshot", &[(header::COOKIE, &format!("a=b; {pair}"))]), Verdict::Granted);
        assert_eq!(judge(&access, "/", &[(header::COOKIE, "tripod_monitor=")]), Verdict::NoToken);
        assert_eq!(judge(&access, "/", &[(header::COOKIE, &format!("tripod_monitor={TOKEN}"))]), Verdict::NoToken);
        assert_eq!(judge(&access, &format!("/metrics?token={TOKEN}"), &[]), Verdict::NoToken, "the page's alone");
        assert_eq!(judge(&access, "/?token=wrong", &[]), Verdict::NoToken);
    }

    #[test]
    fn a_token_in_an_address_may_be_written_with_percent_signs() {
        assert_eq!(token_in("token=a%2Bb%2f").as_deref(), Some("a+b/"));
        assert_eq!(
            [token_in("token=%"), token_in("token=%zz"), token_in("token=%ff"), token_in("x=1")],
            [const { None }; 4]
        );
    }
}
