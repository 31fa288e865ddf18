//! Addresses as people write them, and as requests need them.

use ureq::http::Uri;

/// The address without what may be missing and what is too much: with a scheme, without a slash or a path of the
/// interface at its end. The error is a sentence's end and holds no password.
pub(crate) fn normal(url: &str) -> Result<String, String> {
    let text = url.trim();
    if text.is_empty() {
        return Err("the address is empty; it looks like http://host:8000/v1".to_owned());
    }
    let full = match text.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
            format!("{}://{rest}", scheme.to_ascii_lowercase())
        }
        Some((scheme, _)) => return Err(format!("{scheme}:// is not spoken here; take http:// or https://")),
        None if text.starts_with("http:") || text.starts_with("https:") => {
            return Err("two slashes are missing after the colon, as in http://host:8000/v1".to_owned());
        }
        None => format!("http://{text}"),
    };
    let authority = full.split('/').nth(2).unwrap_or("");
    if authority.contains('@') {
        return Err("an address with a name or a password in it is not used; a key is given apart from it".to_owned());
    }
    if full.contains(['?', '#']) {
        return Err("an address has no ? and no #".to_owned());
    }
    let uri: Uri = full.parse().map_err(|why| format!("this is no address: {why}"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err("the address names no host; it looks like http://host:8000/v1".to_owned());
    }
    let port = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest).split_once(':');
    if port.is_some() && uri.port_u16().is_none() {
        return Err("this is no address: after the colon there is no number of a port".to_owned());
    }
    let mut base = full.trim_end_matches('/');
    for path in ["/chat/completions", "/completions", "/models"] {
        base = base.strip_suffix(path).unwrap_or(base).trim_end_matches('/');
    }
    Ok(base.to_owned())
}

/// The addresses at which the interface may be, the likeliest first.
pub(crate) fn candidates(base: &str) -> Vec<String> {
    let with = || format!("{base}/v1");
    if base.ends_with("/v1") { vec![base.to_owned()] } else { vec![base.to_owned(), with()] }
}

/// Where the server's own paths are: those that are no part of the interface.
pub(crate) fn root(base: &str) -> &str {
    base.strip_suffix("/v1").unwrap_or(base)
}

/// Whether there is something after the host.
pub(crate) fn has_path(base: &str) -> bool {
    base.matches('/').count() > 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (given, base) in [
            ("http://a:8000/v1", "http://a:8000/v1"),
            (" a:8000/v1/ ", "http://a:8000/v1"),
            ("HTTPS://a.example", "https://a.example"),
            ("http://a/v1/chat/completions", "http://a/v1"),
            ("http://a/v1/models/", "http://a/v1"),
            ("http://[::1]:8000/x/v1//", "http://[::1]:8000/x/v1"),
            ("localhost", "http://localhost"),
        ] {
            assert_eq!(normal(given).as_deref(), Ok(base), "{given}");
        }
        assert_eq!(candidates("http://a"), ["http://a", "http://a/v1"]);
        assert_eq!(candidates("http://a/v1"), ["http://a/v1"]);
        assert_eq!(root("http://a/v1"), "http://a");
        assert!(has_path("http://a/v1") && !has_path("http://a"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (given, why) in [
            ("", "empty"),
            ("ftp://a", "ftp://"),
            ("http:/a", "two slashes"),
            ("http://", "no address"),
            ("http://a b", "no address"),
            ("http://a?x=1", "no ?"),
            ("http://a:port", "port"),
            ("http://[::1]:99999", "port"),
            ("a:/v1", "port"),
        ] {
            let refused = normal(given).expect_err(given);
            assert!(refused.contains(why), "{given}: {refused}");
        }
        let refused = normal("http://me:secret@a").expect_err("a password");
        assert!(!refused.contains("secret"), "{refused}");
    }
}
