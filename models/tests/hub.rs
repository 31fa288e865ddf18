//! Downloads, against a stand-in for the Hub on the loopback: what is asked for, what lies in the cache afterwards, and
//! what happens when things go wrong.

mod stand_in;

use nano_models::hub::{Hub, ModelId};
use nano_models::testing::{TempDir, Tiny};
use nano_models::{Error, open};
use stand_in::{COMMIT, StandIn};
use std::path::PathBuf;

fn id(text: &str) -> ModelId {
    text.parse().unwrap()
}

fn hub(cache: &TempDir, server: &StandIn) -> Hub {
    Hub { cache: cache.path().join("hub"), endpoint: Some(server.endpoint()), token: None, offline: false }
}

fn fetch(hub: &Hub, model: &str) -> Result<PathBuf, Error> {
    hub.fetch(&id(model), &mut |_, _, _| ())
}

#[test]
fn a_gguf_is_downloaded_once_into_the_standard_layout() {
    let cache = TempDir::new("hub");
    let content = vec![7u8; 300_000];
    let server = StandIn::new("org/name").file("README.md", b"x").file("m-Q4.gguf", &content).start();
    let mut hub = hub(&cache, &server);
    let mut last = (String::new(), 0, 0);
    let path = hub.fetch(&id("org/name"), &mut |file, done, total| last = (file.to_owned(), done, total)).unwrap();
    assert_eq!(last, ("m-Q4.gguf".to_owned(), 300_000, 300_000));
    let model = cache.path().join("hub/models--org--name");
    assert_eq!(path, model.join("snapshots").join(COMMIT).join("m-Q4.gguf"));
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(std::fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    assert!(!server.requests().iter().any(|r| r.path.contains("README")));

    // From here on the network is not touched, and does not need to be there.
    let before = server.requests().len();
    assert_eq!(fetch(&hub, "org/name").unwrap(), path);
    assert_eq!(fetch(&hub, "org/name:m-Q4.gguf").unwrap(), path);
    assert_eq!(fetch(&hub, &format!("org/name@{COMMIT}")).unwrap(), path);
    assert_eq!(server.requests().len(), before);
    drop(server);
    hub.offline = true;
    assert_eq!(fetch(&hub, "org/name").unwrap(), path);
}

#[test]
fn a_folder_of_mlc_is_downloaded_with_all_its_shards() {
    let cache = TempDir::new("hub");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/packed/mlc-1");
    let names = ["mlc-chat-config.json", "ndarray-cache.json", "params_shard_0.bin", "params_shard_1.bin"];
    let server = StandIn::new("org/name").file("tokenizer.json", b"{}").file("model.so", b"x");
    let file = |server: stand_in::Behaviour, name: &str| server.file(name, &std::fs::read(folder.join(name)).unwrap());
    let server = names.iter().fold(server, |server, name| file(server, name)).start();
    let hub = hub(&cache, &server);
    let path = fetch(&hub, "org/name").unwrap();
    assert_eq!(open(&path).unwrap().quantized(), Some("MLC q4f16_1"));
    assert!(!server.requests().iter().any(|r| r.path.contains("model.so")));
    let before = server.requests().len();
    assert_eq!(fetch(&hub, "org/name").unwrap(), path);
    assert_eq!(server.requests().len(), before);
    std::fs::remove_file(path.join(names[3])).unwrap();
    assert!(hub.cached(&id("org/name")).is_none(), "a shard is gone");
}

#[test]
fn a_split_gguf_is_downloaded_with_all_its_parts() {
    let cache = TempDir::new("hub");
    let names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let server = StandIn::new("org/name").file(names[0], b"one").file(names[1], b"two").start();
    let hub = hub(&cache, &server);
    let path = fetch(&hub, "org/name").unwrap();
    assert!(path.ends_with(names[0]) && path.with_file_name(names[1]).is_file());
    let before = server.requests().len();
    assert_eq!(fetch(&hub, &format!("org/name:{}", names[1])).unwrap(), path.with_file_name(names[1]));
    assert_eq!(server.requests().len(), before);
    // A part goes missing: the model is not complete any more.
    std::fs::remove_file(path.with_file_name(names[1])).unwrap();
    assert_eq!(hub.cached(&id("org/name")), None);
    assert_eq!(fetch(&hub, "org/name").unwrap(), path);
    assert!(path.with_file_name(names[1]).is_file());
}

#[test]
fn a_folder_is_downloaded_with_all_its_shards_and_nothing_else() {
    let cache = TempDir::new("hub");
    let mut server = StandIn::new("org/name").file("onnx/model.onnx", b"x").file("pytorch_model.bin", b"x");
    let folder = Tiny::default().folder(3);
    for (name, content) in &folder.files {
        server = server.file(name, content);
    }
    let server = server.start();
    let hub = hub(&cache, &server);
    let path = fetch(&hub, "org/name").unwrap();
    let checkpoint = open(&path).unwrap();
    assert_eq!(checkpoint.config().usize("hidden_size", "").unwrap(), 64);
    checkpoint.tokenizer().unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), folder.files.len());

    let before = server.requests().len();
    assert_eq!(fetch(&hub, "org/name").unwrap(), path);
    assert_eq!(server.requests().len(), before);
    // One shard goes missing: it alone is fetched again.
    let shard = path.join("model-00002-of-00003.safetensors");
    std::fs::remove_file(std::fs::canonicalize(&shard).unwrap()).unwrap();
    std::fs::remove_file(&shard).unwrap();
    assert_eq!(fetch(&hub, "org/name").unwrap(), path);
    let asked: Vec<_> =
        server.requests()[before..].iter().map(|r| r.path.clone()).filter(|p| p.contains("resolve")).collect();
    assert!(!asked.is_empty() && asked.iter().all(|p| p.ends_with("model-00002-of-00003.safetensors")), "{asked:?}");
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let cache = TempDir::new("hub");
    let content: Vec<u8> = (0..500_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let server = StandIn::new("org/name").file("m.gguf", &content).cut_after(200_000, 1).start();
    let path = fetch(&hub(&cache, &server), "org/name").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    let starts: Vec<u64> =
        server.requests().iter().filter_map(|r| r.range).filter(|(_, to)| to.is_none()).map(|(from, _)| from).collect();
    assert!(starts.len() == 2 && starts[0] == 0 && starts[1] > 0 && starts[1] <= 200_000, "{starts:?}");
}

#[test]
fn a_download_given_up_goes_on_in_the_next_run() {
    let cache = TempDir::new("hub");
    let content: Vec<u8> = (0..100_000u32).map(|i| (i % 241) as u8).collect();
    let server = StandIn::new("org/name").file("m.gguf", &content).cut_after(1000, u32::MAX).start();
    let error = fetch(&hub(&cache, &server), "org/name").unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
    assert!(
        error.to_string().contains("org/name: m.gguf") && error.to_string().contains("goes on where it stopped"),
        "{error}"
    );
    drop(server);
    let server = StandIn::new("org/name").file("m.gguf", &content).start();
    let path = fetch(&hub(&cache, &server), "org/name").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert!(server.requests().iter().any(|r| r.range.is_some_and(|(from, _)| from >= 1000)));
}

#[test]
fn servers_that_do_not_keep_their_word() {
    let content: Vec<u8> = (0..100_000u32).map(|i| (i % 239) as u8).collect();
    let partial = |cache: &TempDir, bytes: &[u8]| cache.write("hub/models--org--name/blobs/etag-m-gguf.part", bytes);
    // Cannot continue a file: sends all of it again.
    let cache = TempDir::new("hub");
    partial(&cache, &content[..40_000]);
    let server = StandIn::new("org/name").file("m.gguf", &content).ignoring_ranges().start();
    let path = fetch(&hub(&cache, &server), "org/name").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content);
    // A partial file that is as long as the whole, or longer.
    for length in [100_000, 150_000] {
        let cache = TempDir::new("hub");
        partial(&cache, &vec![0; length]);
        let server = StandIn::new("org/name").file("m.gguf", &content).start();
        let path = fetch(&hub(&cache, &server), "org/name").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), content);
    }
    // A name that leads out of the cache.
    let cache = TempDir::new("hub");
    let server = StandIn::new("org/name").file("m.gguf", &content).etag("../../../../evil").start();
    let error = fetch(&hub(&cache, &server), "org/name").unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
    assert!(!cache.path().join("evil").exists() && !cache.path().join("../evil").exists());
}

#[test]
fn the_token_is_sent() {
    let cache = TempDir::new("hub");
    let server = StandIn::new("org/name").file("m.gguf", b"x").token("secret").start();
    let mut hub = hub(&cache, &server);
    let error = fetch(&hub, "org/name").unwrap_err();
    assert!(matches!(error, Error::Denied { status: 401, .. }) && error.to_string().contains("HF_TOKEN"), "{error}");
    hub.token = Some("secret".into());
    fetch(&hub, "org/name").unwrap();
}

#[test]
fn a_revision_is_asked_for_and_remembered() {
    let cache = TempDir::new("hub");
    let server = StandIn::new("org/name").file("m.gguf", b"x").revision("refs/pr/1").start();
    let hub = hub(&cache, &server);
    assert!(matches!(fetch(&hub, "org/name"), Err(Error::NoSuchModel { .. })));
    let path = fetch(&hub, "org/name@refs/pr/1").unwrap();
    assert!(cache.path().join("hub/models--org--name/refs/refs/pr/1").is_file());
    let before = server.requests().len();
    assert_eq!(fetch(&hub, "org/name@refs/pr/1").unwrap(), path);
    assert_eq!(server.requests().len(), before);
}

#[test]
fn refusals_and_absences_say_what_to_do() {
    let cache = TempDir::new("hub");
    let server = StandIn::new("org/name").status(403).start();
    let error = fetch(&hub(&cache, &server), "org/name").unwrap_err().to_string();
    assert!(error.contains("status 403") && error.contains("accept its terms"), "{error}");

    let server = StandIn::new("org/name").file("a.gguf", b"x").file("b.gguf", b"x").start();
    let hub = hub(&cache, &server);
    let error = fetch(&hub, "org/other").unwrap_err();
    assert!(matches!(error, Error::NoSuchModel { .. }) && error.to_string().contains("no such model"), "{error}");
    let error = fetch(&hub, "org/name").unwrap_err().to_string();
    assert!(error.contains("name one as org/name:FILE; its .gguf files are a.gguf, b.gguf"), "{error}");
    let error = fetch(&hub, "org/name:c.gguf").unwrap_err().to_string();
    assert!(error.contains("has no file c.gguf; its .gguf files are a.gguf, b.gguf"), "{error}");
    fetch(&hub, "org/name:b.gguf").unwrap();
}

#[test]
fn no_network_and_a_failing_server() {
    let cache = TempDir::new("hub");
    let server = StandIn::new("org/name").status(500).start();
    let mut hub = hub(&cache, &server);
    let error = fetch(&hub, "org/name").unwrap_err().to_string();
    assert!(error.contains("the server answered 500"), "{error}");
    drop(server);
    let start = std::time::Instant::now();
    let error = fetch(&hub, "org/name").unwrap_err();
    assert!(matches!(error, Error::Network { .. }) && error.to_string().contains("check the network"), "{error}");
    assert!(start.elapsed().as_secs() < 10);
    hub.offline = true;
    let error = fetch(&hub, "org/name").unwrap_err();
    assert!(matches!(error, Error::Offline { .. }) && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_written_is_found_out_first() {
    let dir = TempDir::new("hub");
    let server = StandIn::new("org/name").file("m.gguf", b"x").start();
    let mut hub = hub(&dir, &server);
    hub.cache = dir.write("file", "x").join("hub");
    let error = fetch(&hub, "org/name").unwrap_err();
    assert!(matches!(error, Error::Cache { .. }), "{error}");
    assert!(
        error.to_string().starts_with(&hub.cache.display().to_string()) && error.to_string().contains("HF_HOME"),
        "{error}"
    );
    assert!(server.requests().is_empty());
}
