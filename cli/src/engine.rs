//! Engines behind servers, as flags and the environment speak of them: which server, whose key, through which proxy. What
//! is said to a server is decided elsewhere.

use crate::out::Log;
use anyhow::{Context, Result};
use nano_remote::{RemoteEngine, RemoteOptions};

/// Where a key may be, the first that there is counts.
const KEYS: [&str; 2] = ["NANO_API_KEY", "OPENAI_API_KEY"];

/// Asks the server which models it has, and takes the one that is named or the only one.
pub fn open(url: &str, model: Option<&str>, context: Option<usize>, log: &Log) -> Result<RemoteEngine> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let key = KEYS.into_iter().find(|name| variable(name).is_some());
    let proxy = proxy(url, variable);
    let (through, proxy) = proxy.map_or((None, None), |(name, proxy)| (Some(name), Some(proxy)));
    log.debug(format_args!("key: {}; proxy: {}", key.unwrap_or("none"), through.as_deref().unwrap_or("none")));
    let options = RemoteOptions {
        model: model.map(str::to_owned),
        key: key.and_then(variable),
        context,
        proxy,
        ..RemoteOptions::new(url)
    };
    let opened = RemoteEngine::open(options);
    match through {
        Some(name) => opened.with_context(|| format!("through the proxy that {name} names")),
        None => Ok(opened?),
    }
}

/// The proxy for an address and the variable that names it, as curl reads the environment: lower case comes first, and
/// `NO_PROXY` before all.
fn proxy(url: &str, variable: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let either = |name: &str| {
        let names = [name.to_lowercase(), name.to_owned()];
        names.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
    };
    let (scheme, rest) = url.trim().split_once("://").unwrap_or(("http", url.trim()));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let no = either("NO_PROXY").map_or_else(String::new, |(_, list)| list);
    if no.split([',', ' ']).any(|entry| passes(entry.trim(), place)) {
        return None;
    }
    let own = if scheme.eq_ignore_ascii_case("https") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    either(own).or_else(|| either("ALL_PROXY")).map(|(name, proxy)| (name, proxy.trim().to_owned()))
}

/// Whether an entry of `NO_PROXY` speaks of a host, which may have a port: `*`, the name, or the end of it behind a dot.
fn passes(entry: &str, place: &str) -> bool {
    let host = host_of(place);
    let (entry_host, port) = (host_of(entry), port_of(entry));
    if entry_host.is_empty() || port.is_some() && port != port_of(place) {
        return false;
    }
    let suffix = entry_host.trim_start_matches("*.").trim_start_matches('.').to_lowercase();
    let host = host.to_lowercase();
    entry_host == "*" || host == suffix || host.strip_suffix(&suffix).is_some_and(|rest| rest.ends_with('.'))
}

fn host_of(place: &str) -> &str {
    match place.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None if place.matches(':').count() == 1 => place.split(':').next().unwrap_or_default(),
        None => place,
    }
}

fn port_of(place: &str) -> Option<&str> {
    let behind = place.rsplit_once(']').map_or(place, |(_, behind)| behind);
    behind.rsplit_once(':').filter(|_| behind.matches(':').count() == 1).map(|(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        proxy(url, find).map(|(_, proxy)| proxy)
    }

    #[test]
    fn the_proxy_of_a_scheme() {
        let all = [("HTTP_PROXY", "http://a:1"), ("https_proxy", " http://b:2 "), ("ALL_PROXY", "http://c:3")];
        assert_eq!(of("http://host:8000/v1", &all).as_deref(), Some("http://a:1"));
        assert_eq!(of("host:8000", &all).as_deref(), Some("http://a:1"), "http is understood");
        assert_eq!(of("HTTPS://host/v1", &all).as_deref(), Some("http://b:2"));
        assert_eq!(of("https://host/v1", &all[2..]).as_deref(), Some("http://c:3"));
        assert_eq!(of("http://host/v1", &[]), None);
        let both = [("HTTP_PROXY", "http://a:1"), ("http_proxy", "http://b:2")];
        assert_eq!(of("http://host", &both).as_deref(), Some("http://b:2"));
    }

    #[test]
    fn hosts_that_need_none() {
        for (no, url, direct) in [
            ("host", "http://host:8000/v1", true),
            ("HOST", "http://user:word@host/v1", true),
            ("host", "http://ghost/v1", false),
            ("lab", "http://robot.lab:80/v1", true),
            (".lab", "http://robot.lab/v1", true),
            ("*.lab", "http://robot.lab/v1", true),
            ("lab", "http://collab/v1", false),
            ("a, b ,c", "http://b", true),
            ("a b", "http://b", true),
            ("*", "https://any.where", true),
            ("host:80", "http://host:8000/v1", false),
            ("host:8000", "http://host:8000/v1", true),
            ("::1", "http://[::1]:8000/v1", true),
            ("[::1]:8000", "http://[::1]:8000/v1", true),
            ("127.0.0.1", "127.0.0.1:8000", true),
            (",", "http://host", false),
        ] {
            let found = of(url, &[("NO_PROXY", no), ("HTTP_PROXY", "p"), ("HTTPS_PROXY", "p")]);
            assert_eq!(found.is_none(), direct, "{no:?}: {url}");
        }
    }
}
