//! Ways to a server: through a proxy, and over TLS. The certificates are for these tests alone.

use crate::stand_in::{HEAD, Manner, Reply, StandIn, delta, events, finish, stream_reply};
use crate::{ask, options, request};
use nano_remote::{RemoteEngine, RemoteOptions};
use nano_runtime::{Engine, Event, Finish};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn ok() -> Vec<Reply> {
    stream_reply(&events(&[delta(json!({"content": "ok"})), finish("stop")]))
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remote/tls").join(name)
}

fn secure(script: impl Fn() -> Vec<Reply> + Send + Sync + 'static) -> StandIn {
    let certificate = CertificateDer::from_pem_file(file("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    StandIn::with(Manner { tls: Some(Arc::new(config)), ..Manner::default() }, move |_, _| script())
}

fn trusting(server: &StandIn) -> RemoteOptions {
    RemoteOptions { certificates: Some(file("ca.pem")), ..options(server) }
}

#[test]
fn a_proxy_finds_the_host() {
    let server = StandIn::new(|_, _| ok());
    let proxy = server.root().replace("http://", "http://me:word@");
    let url = "http://no.such.host.invalid:8000/v1";
    let engine = RemoteEngine::open(RemoteOptions { proxy: Some(proxy), ..RemoteOptions::new(url) }).expect("a server");
    assert_eq!(ask(&engine, &request("Hi")).text, "ok");
    let connects: Vec<_> = server.seen().into_iter().filter(|seen| seen.what.starts_with("CONNECT")).collect();
    assert_eq!(connects.len(), 2);
    for connect in connects {
        assert_eq!(connect.what, "CONNECT no.such.host.invalid:8000");
        assert_eq!(connect.headers["proxy-authorization"], "Basic bWU6d29yZA==");
    }
}

#[test]
fn a_proxy_that_is_none() {
    for proxy in ["socks5://me:word@a:1", "me:word@", "ftp://word"] {
        let options = RemoteOptions { proxy: Some(proxy.into()), ..RemoteOptions::new("http://a/v1") };
        let error = RemoteEngine::open(options).expect_err(proxy).to_string();
        assert!(error.contains("proxy") && !error.contains("word"), "{error}");
    }
}

#[test]
fn over_tls() {
    let server = secure(ok);
    let engine = RemoteEngine::open(trusting(&server)).expect("a server");
    assert!(engine.url().starts_with("https://"));
    assert_eq!(ask(&engine, &request("Hi")).text, "ok");
    let cut = format!("{HEAD}data: {}\n\ndata: {{", delta(json!({"content": "ok"})));
    let server = secure(move || vec![Reply::Bytes(cut.clone().into_bytes())]);
    let told = ask(&RemoteEngine::open(trusting(&server)).expect("a server"), &request("Hi"));
    assert!(told.error().contains("before the answer was complete"), "{told:?}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn stopped_over_tls() {
    let server = secure(|| vec![Reply::Bytes(HEAD.into()), Reply::UntilClosed]);
    let mut answer =
        RemoteEngine::open(trusting(&server)).expect("a server").stream(&request("Hi")).expect("an answer");
    while server.seen().is_empty() {
        std::thread::yield_now();
    }
    answer.stopper().stop();
    assert!(matches!(answer.next(), Some(Ok(Event::Done(output))) if output.finish == Finish::Cancelled));
    server.wait_until_closed(1);
}

#[test]
fn without_trust() {
    let server = secure(ok);
    let error = RemoteEngine::open(options(&server)).expect_err("unknown").to_string();
    assert!(error.contains("no secure connection") && error.contains("UnknownIssuer"), "{error}");
    let plain = StandIn::new(|_, _| ok());
    let url = plain.url().replace("http://", "https://");
    let error = RemoteEngine::open(RemoteOptions::new(url)).expect_err("no TLS").to_string();
    assert!(error.contains("does not speak https: take http://"), "{error}");
    for (name, words) in [("none.pem", "none.pem"), ("server.key", "there are none")] {
        let options = RemoteOptions { certificates: Some(file(name)), ..options(&server) };
        let error = RemoteEngine::open(options).expect_err(name).to_string();
        assert!(error.contains("the certificates in") && error.contains(words), "{error}");
    }
}
