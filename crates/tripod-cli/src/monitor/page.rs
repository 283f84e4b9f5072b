//! The page's files, which are in the binary.
//!
//! Constraints: a build without npm works: then there is no page, and what is served instead says what is missing. Only
//! files that were there at the build are served; a path is a name in a list and never one of the disk.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

/// What the page may do: load its own files, talk to its own monitor. No script and no style but from a file.
pub(super) const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const WITHOUT_A_PAGE: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tripod</title></head><body>
<h1>This binary was built without its page</h1>
<p>Everything it would show is here all the same: <a href=\"/api/snapshot\">/api/snapshot</a>,
<a href=\"/api/history\">/api/history</a>, <a href=\"/metrics\">/metrics</a>, <a href=\"/health\">/health</a>.</p>
<p>To have it: <code>npm ci &amp;&amp; npm run build</code> in <code>crates/tripod-cli/web</code>, then build the binary
again. Or, without a browser: <code>tripod status --watch</code>.</p>
</body></html>
";

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Files;

/// `/`.
pub(super) fn index(headers: &HeaderMap) -> Response {
    match Files::get("index.html") {
        Some(file) => serve("index.html", &file, headers),
        None => {
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))];
            (StatusCode::OK, kind, WITHOUT_A_PAGE).into_response()
        }
    }
}

/// A file of the page; none where there is none of this name.
pub(super) fn file(path: &str, headers: &HeaderMap) -> Option<Response> {
    let name = path.strip_prefix('/').filter(|name| !name.is_empty())?;
    Files::get(name).map(|file| serve(name, &file, headers))
}

fn serve(name: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    // By content: a browser asks each time, and is told that it has it.
    let tag: String = file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let kind = HeaderValue::from_static(kind_of(name));
    let common = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    let mut response = match known {
        true => (StatusCode::NOT_MODIFIED, common).into_response(),
        false => (StatusCode::OK, common, Bytes::copy_from_slice(&file.data)).into_response(),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_file_of_the_page_is_none() {
        for path in
            ["", "/", "//etc/passwd", "/../Cargo.toml", "/assets/../../Cargo.toml", "/..%2fCargo.toml", "/no.js"]
        {
            assert!(file(path, &HeaderMap::new()).is_none(), "{path}");
        }
    }

    #[test]
    fn there_is_always_something_at_the_root() {
        let response = index(&HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    }
}
